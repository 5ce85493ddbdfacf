"""``/v1/jobs``: batch scoring for people without a terminal, and a view of all jobs."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import FileResponse

from serve_app.errors import NotReadyError
from serve_app.http.operator.job_schemas import CANCEL, JOB, JobList, JobView
from serve_app.http.parameters import BINARY, JOBS, LOCATION_HEADER
from serve_app.http.problems import document_problems
from serve_app.http.records import answer_json, describe_answers, read_reason, read_record
from serve_app.http.services import services_of
from serve_app.jobs.core.record import JOB_ID
from serve_app.jobs.service.ports import Jobs
from serve_app.jobs.service.request import parse_job

JobId = Annotated[str, Path(pattern=f"^{JOB_ID.pattern}$", description="Id of the job.")]
_FILE: Any = {200: {"description": "The file.", "content": {"application/octet-stream": BINARY}}}


ROUTER: Final = APIRouter(prefix="/v1/jobs", tags=[JOBS])


@ROUTER.get("", summary="List batch jobs", responses=describe_answers(JobList, 422, 503))
async def list_jobs(request: Request, limit: Annotated[int, Query(ge=1, le=1_000)] = 20) -> Response:
    """List jobs, newest first, whoever started them."""
    return answer_json({"jobs": await _need_jobs(request).recent(limit)})


@ROUTER.get("/{job_id}", summary="A batch job", responses=describe_answers(JobView, 404, 422, 503))
async def get_job(request: Request, job_id: JobId) -> Response:
    """Show state and progress of a job, how it ended, and links to its results."""
    return answer_json(await _need_jobs(request).describe(job_id))


@ROUTER.get(
    "/{job_id}/results/{name:path}",
    summary="A file of a job's results",
    response_class=FileResponse,
    responses={**_FILE, **document_problems(404, 422, 503)},
)
async def download_job_result(request: Request, job_id: JobId, name: str) -> Response:
    """Download a file of a job that named no output; the job's page links to each. `Range` is understood."""
    path = await _need_jobs(request).find_result(job_id, name)
    return FileResponse(path, media_type="application/octet-stream", filename=name.rpartition("/")[2])


@ROUTER.post(
    "",
    status_code=202,
    summary="Score a table in the background",
    responses=describe_answers(
        JobView, 400, 404, 409, 413, 415, 422, 429, 503, 504, status=202, headers=LOCATION_HEADER
    ),
    openapi_extra=JOB.document(is_required=True),
)
async def start_job(request: Request) -> Response:
    """Queue a job. The header `Location` names it: ask there until its `state` says that it has ended.

    429 with `Retry-After` while as many jobs wait as may.
    """
    found = await _need_jobs(request).start(*parse_job(await read_record(request)))
    return answer_json(found, 202, {"Location": f"/v1/jobs/{found['id']}"})


@ROUTER.post(
    "/{job_id}/cancel",
    status_code=202,
    summary="End a job",
    responses=describe_answers(JobView, 400, 404, 409, 413, 415, 422, 503, 504, status=202),
    openapi_extra=CANCEL.document(is_required=False),
)
async def cancel_job(request: Request, job_id: JobId) -> Response:
    """Tell a job to end; what is scored stays. 409 when it has ended. The body may say `who`."""
    who, _ = read_reason(await read_record(request), CANCEL)
    return answer_json(await _need_jobs(request).cancel(job_id, who), 202)


def _need_jobs(request: Request) -> Jobs:
    jobs = services_of(request).jobs
    if jobs is None:
        raise NotReadyError("this service runs without a control app, which jobs need")
    return jobs
