"""One service at a time for the tests of a session: two of them would keep the machine's cores from each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.testing_kit.cluster.service_process import ServiceProcess

KINDS = ("laptop", "production", "service", "shop")
"""Fixtures that ask for a service, in the order in which their tests run: those of one kind stand together."""


class OneService:
    """The service that runs now.

    Parameters
    ----------
    make_folder : callable
        Returns a new empty folder for a name.
    """

    def __init__(self, make_folder: Callable[[str], Path]) -> None:
        self._make_folder = make_folder
        self._kind = ""
        self._process: ServiceProcess | None = None

    def ask(self, kind: str, prepare: Callable[[ServiceProcess], object], *arguments: str) -> ServiceProcess:
        """Return the service of a kind; one of another kind goes down, and this one is prepared and started."""
        if self._process is None or self._kind != kind:
            self.down()
            process = ServiceProcess(self._make_folder(kind))
            prepare(process)
            process.up(*arguments)
            self._kind, self._process = kind, process
        return self._process

    def down(self) -> None:
        """Stop what runs."""
        process, self._process = self._process, None
        if process is not None:
            process.down()


def kind_of(fixtures: list[str]) -> int:
    """Return the place of a test among those of its folder, by the service it asks for."""
    return next((place for place, kind in enumerate(KINDS) if kind in fixtures), len(KINDS))
