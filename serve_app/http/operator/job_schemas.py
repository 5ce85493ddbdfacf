"""Bodies of the job routes, of requests and of answers."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, Field

from serve_app.http.records import REASON, Body
from serve_app.jobs.core.record import JobState
from serve_app.jobs.service.request import FIELDS
from serve_app.runtime.read_values import Member

JOB: Final = Body(
    "JobBody",
    "A table to score in the background.",
    FIELDS,
    {"input": "orders.parquet", "keep": ["order_id"], "who": "anna"},
    title="StartJob",
    required=("input",),
)
CANCEL: Final = Body(
    "CancelBody",
    "Who ends a job; may be left out.",
    {"who": Member(REASON["who"].kind, "For the list of jobs.")},
    {"who": "anna"},
)


class JobProgress(BaseModel):
    """How far a job is."""

    rows_read: int
    rows_total: int | None = Field(description="null while only reading tells.")
    rows_scored: int
    rows_rejected: int
    percent: float = Field(ge=0, le=100)
    rows_per_s: float
    left_s: float | None


class JobBrief(BaseModel):
    """A job in short."""

    id: str
    state: JobState
    is_cancelling: bool = Field(description="Whether it was told to end.")
    origin: Literal["http", "command"]
    who: str
    input: str
    output: str | None = Field(description="null when the results are downloaded.")
    model: str | None
    version: int | None
    created_at: str
    started_at: str | None
    ended_at: str | None
    progress: JobProgress | None


class JobResult(BaseModel):
    """A file of the results."""

    name: str
    bytes: int
    href: str


class JobView(JobBrief):
    """A job, how it ended, and links to its results."""

    options: dict[str, Any]
    pool: str | None = Field(description="Application that belongs to the job.")
    cancelled_by: str | None
    summary: dict[str, Any] | None = Field(description="What `_SUMMARY.json` holds; null before the end.")
    error: dict[str, Any] | None = Field(description="`code` and `detail` of what ended it.")
    resume_command: str | None = Field(
        description="Goes on with a job that ended early, null for others; over HTTP `input`, `output` and `resume` do."
    )
    results: list[JobResult] = Field(description="Of a job without `output`.")
    expires_at: str | None = Field(description="When record and downloads go; null before the end.")


class JobList(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobBrief]
