"""What tests of several folders build on: a real small package, rows, fakes of the ports, virtual time."""

from tests.testing_kit.deployments.replicas import (
    LocalEncoder,
    LocalModel,
    MemoryAccessLog,
    MemoryMeter,
    MemorySplit,
    make_scorer,
    make_traffic,
)
from tests.testing_kit.models.package import VOCABULARIES, make_package, random_rows
from tests.testing_kit.rollouts.virtual_time import VirtualTimeLoop, run_virtual

__all__ = [
    "VOCABULARIES",
    "LocalEncoder",
    "LocalModel",
    "MemoryAccessLog",
    "MemoryMeter",
    "MemorySplit",
    "VirtualTimeLoop",
    "make_package",
    "make_scorer",
    "make_traffic",
    "random_rows",
    "run_virtual",
]
