"""What a person asks of a job. A resumed one takes what is not said from the records in its output folder."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Final

from serve_app.jobs.adapters.output_folder import OutputFolder

RUN: Final = "_job/run.json"
DEFAULT_LIMIT: Final = "10%"
DEFAULT_PATIENCE_S: Final = 120.0
SHARED: Final = "shared"


@dataclass(frozen=True, slots=True)
class Asked:
    """What may not change when a job is resumed; None for what was not said.

    Attributes
    ----------
    input : str
        File or folder, local or ``s3://…``, ``gs://…``.
    model : str or None
        ``name``, ``name@version`` or ``name@alias``.
    mapping : dict or None
        Content of the mapping file.
    keep, partition_by : tuple of str or None
    explain : int or None
    """

    input: str
    model: str | None = None
    mapping: dict[str, Any] | None = None
    keep: tuple[str, ...] | None = None
    partition_by: tuple[str, ...] | None = None
    explain: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the members that were said, as those of a plan are written."""
        said = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "model"}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in said.items()
            if value is not None
        }


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a job is run, which another run of it may do differently; None for what was not said.

    Attributes
    ----------
    max_rejected : str or None
        See `batch.transforms.summary.RejectLimit`.
    workers : int or None
    patience_s : float or None
    pool : str or None
    pool_replicas : int or None
    """

    max_rejected: str | None = None
    workers: int | None = None
    patience_s: float | None = None
    pool: str | None = None
    pool_replicas: int | None = None

    @property
    def is_shared(self) -> bool:
        """Whether the version's own replicas score."""
        return (self.pool or SHARED) == SHARED

    def after(self, earlier: RunOptions) -> RunOptions:
        """Return the options of a run after an earlier one: what is not said now is as it was then."""
        said = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        return dataclasses.replace(earlier, **said)


def read_run(output: OutputFolder) -> RunOptions:
    """Return how the last run of a job was asked for."""
    value = output.read_json(RUN) or {}
    known = {field.name for field in dataclasses.fields(RunOptions)}
    return RunOptions(**{name: value[name] for name in known & set(value)})


def write_run(options: RunOptions, output: OutputFolder) -> None:
    """Keep how a run was asked for."""
    output.write_json(RUN, dataclasses.asdict(options))
