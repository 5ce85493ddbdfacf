"""What a person asks of a batch job, by a command or over HTTP: the one description of it, which its record holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

PLANNED: Final = ("input", "mapping", "keep", "partition_by", "explain")
"""Members that may not change when a job is resumed; nor may the model."""
RUN: Final = ("max_rejected", "workers", "patience_s", "pool", "pool_replicas")
"""Members that another run of a job may have otherwise."""
DEFAULT_LIMIT: Final = "10%"
DEFAULT_PATIENCE_S: Final = 120.0
"""Replicas that are lost take about 10 s to come back."""
POOLS: Final = ("shared", "dedicated")


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What is asked of a job; None for what is not said: it is as usual, and in a resumed job as it was.

    Attributes
    ----------
    input, output : str
        File or folder, and folder: local or ``s3://…``, ``gs://…``. No output for one that the record owns.
    model : str
        ``name``, ``name@version`` or ``name@alias``; empty for the champion of what is served.
    mapping : mapping or None
        Content of the mapping file.
    keep : tuple of str or None
        Input columns that travel to the output; ``*`` for all.
    partition_by : tuple of str or None
        Columns of the output whose values become folders.
    explain : int or None
        Features that explain a row, 0 for none.
    max_rejected : str or None
        See `batch.transforms.summary.RejectLimit`.
    workers : int or None
    patience_s : float or None
        How long a batch is tried while its replicas are lost.
    pool : str or None
        One of `POOLS`.
    pool_replicas : int or None
    resume : bool
        Whether it goes on with the job that was begun in the output.
    """

    input: str
    output: str = ""
    model: str = ""
    mapping: Mapping[str, Any] | None = None
    keep: tuple[str, ...] | None = None
    partition_by: tuple[str, ...] | None = None
    explain: int | None = None
    max_rejected: str | None = None
    workers: int | None = None
    patience_s: float | None = None
    pool: str | None = None
    pool_replicas: int | None = None
    resume: bool = False

    @property
    def is_shared(self) -> bool:
        """Whether the version's own replicas score."""
        return self.pool in (None, "shared")

    def said(self, *names: str) -> dict[str, Any]:
        """Return those of some members that were said, as plain JSON; a flag that is not set is not said."""
        values = {name: getattr(self, name) for name in names}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if value is not None and value is not False
        }

    @property
    def options(self) -> dict[str, Any]:
        """What was said beside input, output and model, as plain JSON."""
        return self.said(*(field.name for field in dataclasses.fields(self)[3:]))

    def planned(self) -> JobSpec:
        """Return what a new job keeps to: its `PLANNED` members, as usual where nothing was said."""
        usual: dict[str, Any] = {"mapping": {}, "partition_by": (), "explain": 0}
        said = {name: getattr(self, name) for name in PLANNED if getattr(self, name) is not None}
        return JobSpec(**{**usual, **said})

    def after(self, earlier: Mapping[str, Any]) -> JobSpec:
        """Return what a run does that goes on after another, given as its `RUN` members."""
        kept = {name: earlier[name] for name in RUN if earlier.get(name) is not None}
        return dataclasses.replace(self, **{**kept, **self.said(*RUN)})

    def to_arguments(self, mapping: str = "") -> list[str]:
        """Return the arguments of ``python -m batch.score`` that ask for it; `mapping` is a file of that content."""
        options = {"mapping": mapping or None, "model": self.model or None, **self.said(*PLANNED[2:], *RUN)}
        texts = {name: ",".join(v) if isinstance(v, list) else v for name, v in options.items() if v is not None}
        said = [f"--{name.replace('_', '-')}={text}" for name, text in texts.items()]
        return ["--json", *(["--resume"] if self.resume else []), *said, "--", self.input, self.output]

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {"input": self.input, "output": self.output, "model": self.model, "options": self.options}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> JobSpec:
        """Return what `to_json` gave."""
        options: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in value.get("options", {}).items()
        }
        return cls(value["input"], value["output"], value.get("model", ""), **options)
