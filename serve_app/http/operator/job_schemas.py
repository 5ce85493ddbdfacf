"""Bodies of the job routes, for the OpenAPI document; `serve_app.jobs.service.request` reads them."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from serve_app.http.operator.rollout_schemas import MAX_WHO_CHARACTERS
from serve_app.jobs.core.record import JobState
from serve_app.jobs.service.request import MAX_CHARACTERS, MAX_COLUMNS, MAX_EXPLAIN, MAX_WORKERS

_EXAMPLE: Final[dict[str, Any]] = {"input": "orders.parquet", "keep": ["order_id"], "who": "anna"}


class JobBody(BaseModel):
    """A table to score in the background."""

    model_config = ConfigDict(title="StartJob", extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})

    input: str = Field(
        min_length=1,
        max_length=MAX_CHARACTERS,
        description="File or folder below a place that the setting `SCORECAT_JOB_ROOTS` allows, or a URL there.",
    )
    output: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_CHARACTERS,
        description="New folder, below such a place; left out, the results are downloaded and expire.",
    )
    model: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_CHARACTERS,
        description="name, name@version or name@alias; default the champion of the served model, fixed now.",
    )
    mapping: dict[str, Any] | None = Field(None, description="As a mapping file: `columns`, `defaults`, `history`.")
    keep: list[str] | str | None = Field(
        None, max_length=MAX_COLUMNS, description="Input columns to carry along; default all that are no feature."
    )
    partition_by: list[str] | str | None = Field(
        None, max_length=MAX_COLUMNS, description="Columns of the output whose values become folders."
    )
    explain: int | None = Field(None, ge=0, le=MAX_EXPLAIN, description="Features that moved each score most.")
    max_rejected: int | str | None = Field(
        None, description="Rejected rows (1000) or share (`2%`) beyond which the job stops; default 10%."
    )
    workers: int | None = Field(None, ge=1, le=MAX_WORKERS, description="Processes that read and write.")
    pool: Literal["shared", "dedicated"] | None = Field(
        None, description="Default `shared`; `dedicated`: a copy of the version's app for this job alone."
    )
    pool_replicas: int | None = Field(None, ge=1, le=MAX_WORKERS, description="Most replicas of a dedicated pool.")
    resume: bool | None = Field(None, description="Go on with the job begun in `output`, as it was begun.")
    who: str | None = Field(None, min_length=1, max_length=MAX_CHARACTERS, description="For the list of jobs.")


class CancelBody(BaseModel):
    """Who ends a job; may be left out."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"who": "anna"}]})

    who: str | None = Field(None, max_length=MAX_WHO_CHARACTERS, description="For the list of jobs.")


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
