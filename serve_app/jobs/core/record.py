"""The record of a batch job: what was asked, what its driver says of itself, what the control app decided.

Each part has one writer: who asks, the driver, the control app. What a job is doing follows from the three.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from serve_app.jobs.core.progress import Progress
from serve_app.jobs.core.spec import JobSpec

JobState = Literal["queued", "starting", "running", "succeeded", "incomplete", "failed", "cancelled", "died"]
"""``incomplete``: it ended, and some files were set aside or not reached. ``died``: its driver is gone without a
word."""
Origin = Literal["http", "command"]

ENDED: Final = frozenset({"succeeded", "incomplete", "failed", "cancelled", "died"})
LEASE_S: Final = 30.0
"""A driver says every second that it lives; one that was silent for so long is gone, and what it held is free."""
START_S: Final = 120.0
"""A driver speaks that long after its record was begun at the latest."""
JOB_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class JobOrder:
    """What was asked; never altered.

    Attributes
    ----------
    id : str
        Matches `JOB_ID`.
    created_at_s : float
        Seconds since the epoch, as all times here.
    origin : {"http", "command"}
        Jobs asked for over HTTP wait for their turn; others were started by somebody.
    who : str
    spec : JobSpec
        With an output in any case.
    has_own_output : bool
        Whether the output belongs to the record, and goes when that goes.
    go_on : str
        Command that resumes it, where that is not `resume_command`.
    """

    id: str
    created_at_s: float
    origin: Origin
    who: str
    spec: JobSpec
    has_own_output: bool = False
    go_on: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object, the members of the specification beside the others."""
        others = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "spec"}
        return {**others, **self.spec.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> JobOrder:
        """Return what `to_json` gave."""
        others = {field.name: value[field.name] for field in dataclasses.fields(cls) if field.name in value}
        return cls(**others, spec=JobSpec.from_json(value))


@dataclass(frozen=True, slots=True)
class PoolWish:
    """An application of its own that a driver wants as long as it lives.

    Attributes
    ----------
    app : str
        Name of the Serve application.
    model, version : str, int
    replicas : int
        Most replicas of each deployment.
    """

    app: str
    model: str
    version: int
    replicas: int


@dataclass(frozen=True, slots=True)
class JobRows:
    """Rows of a chunk, a unit or a job."""

    read: int = 0
    scored: int = 0
    rejected: int = 0

    def __add__(self, other: JobRows) -> JobRows:
        return JobRows(self.read + other.read, self.scored + other.scored, self.rejected + other.rejected)

    @property
    def is_balanced(self) -> bool:
        """Whether every row that was read is either scored or rejected."""
        return self.read == self.scored + self.rejected


@dataclass(frozen=True, slots=True)
class Committed:
    """What of a job is in its output for good.

    Attributes
    ----------
    rows : JobRows
    share : float
        Of the whole, 0-1; by the bytes of whole units where only reading tells the rows.
    """

    rows: JobRows
    share: float


@dataclass(frozen=True, slots=True)
class JobBeat:
    """What the driver says of itself, once a second and at its end.

    Attributes
    ----------
    state : {"running", "succeeded", "incomplete", "failed", "cancelled"}
    host, pid : str, int
        Where the driver runs.
    began_at_s, beat_at_s : float
    model, version : str, int
        What scores; empty and 0 until that is known.
    rows_before, rows : JobRows
        Done by earlier runs of a resumed job; done in all.
    progress : Progress or None
    pool : PoolWish or None
    summary : mapping or None
        What ``_SUMMARY.json`` holds, and the ``seconds`` that the run took.
    error : mapping or None
        ``code`` and ``detail`` of what ended it, and of what was raised on purpose the ``exit_code``.
    """

    state: JobState
    host: str
    pid: int
    began_at_s: float
    beat_at_s: float
    model: str = ""
    version: int = 0
    rows_before: JobRows = JobRows()
    rows: JobRows = JobRows()
    progress: Progress | None = None
    pool: PoolWish | None = None
    summary: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class JobRuling:
    """What the control app decided.

    Attributes
    ----------
    submitted_at_s : float or None
        When a queued job was started.
    cancelled_at_s : float or None
        When it was told to end.
    cancelled_by : str
    ended_at_s : float or None
        When it was found that the job would never begin.
    problem, pool_problem : str
        Why it could not be started; why its pool could not.
    committed : Committed or None
        Counted in the output of a driver that is gone without its last word.
    """

    submitted_at_s: float | None = None
    cancelled_at_s: float | None = None
    cancelled_by: str = ""
    ended_at_s: float | None = None
    problem: str = ""
    pool_problem: str = ""
    committed: Committed | None = None


@dataclass(frozen=True, slots=True)
class JobRecord:
    """All that is known of a job.

    Attributes
    ----------
    order : JobOrder
    beat : JobBeat or None
    ruling : JobRuling
    is_gone : bool
        Whether the driver's process is known to be gone.
    """

    order: JobOrder
    beat: JobBeat | None = None
    ruling: JobRuling = JobRuling()
    is_gone: bool = False

    def state(self, now_s: float) -> JobState:
        """Return what the job is doing."""
        is_cancelled = self.ruling.cancelled_at_s is not None
        if self.beat is None:
            return self._state_before(now_s, is_cancelled=is_cancelled)
        if self.beat.state != "running":
            return self.beat.state
        if self.is_gone or now_s - self.beat.beat_at_s > LEASE_S:
            return "cancelled" if is_cancelled else "died"
        return "running"

    def _state_before(self, now_s: float, *, is_cancelled: bool) -> JobState:
        """Return what a job is doing whose driver has not spoken."""
        if self.ruling.ended_at_s is not None:
            return "cancelled" if is_cancelled else "failed"
        if self.order.origin == "command":
            return "died" if now_s - self.order.created_at_s > START_S else "starting"
        if self.ruling.submitted_at_s is not None:
            return "starting"
        return "cancelled" if is_cancelled else "queued"

    def ended_at_s(self, now_s: float) -> float | None:
        """Return when the job ended; None for one that has not."""
        if self.state(now_s) not in ENDED:
            return None
        if self.beat is not None:
            return self.beat.beat_at_s
        ruling = self.ruling
        return next((at for at in (ruling.ended_at_s, ruling.cancelled_at_s) if at), self.order.created_at_s)

    def is_without_last_word(self, now_s: float) -> bool:
        """Whether it ended and its driver did not say so: what that said last may not be what is in the output."""
        return self.beat is not None and self.beat.state == "running" and self.state(now_s) in ENDED

    def holds_pool(self, now_s: float) -> PoolWish | None:
        """Return the pool that the driver wants and may have: it lives, and has not ended."""
        return self.beat.pool if self.beat is not None and self.state(now_s) == "running" else None


def resume_command(source: str, output: str, program: str = "scorecat", command: str = "score") -> str:
    """Return the command that goes on with a job, ready for a shell; `program` is how that calls ``scorecat``."""
    places = [f"./{place}" if place.startswith("-") else place for place in (source, output)]
    return f"{program} {shlex.join([command, *places, '--resume'])}"
