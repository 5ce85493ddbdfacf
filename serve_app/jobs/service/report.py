"""Records of jobs as people and their programs see them: plain JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from serve_app.jobs.core.progress import Progress
from serve_app.jobs.core.record import ENDED, JobRecord, resume_command


def describe_briefly(record: JobRecord, now_s: float) -> dict[str, Any]:
    """Return a job in short form."""
    order, beat = record.order, record.beat
    model, _, version = order.spec.model.partition("@")
    return {
        "id": order.id,
        "state": record.state(now_s),
        "is_cancelling": record.ruling.cancelled_at_s is not None,
        "origin": order.origin,
        "who": order.who,
        "input": order.spec.input,
        "output": None if order.has_own_output else order.spec.output,
        "model": (beat.model if beat else "") or model or None,
        "version": (beat.version if beat else 0) or (int(version) if version.isdigit() else None),
        "created_at": _write_time(order.created_at_s),
        "started_at": _write_time(beat.began_at_s) if beat else None,
        "ended_at": _write_time(record.ended_at_s(now_s)),
        "progress": _describe_progress(record),
    }


def describe_job(record: JobRecord, now_s: float, results: Mapping[str, int], keep_s: float) -> dict[str, Any]:
    """Return a job with how it ended and links to its results."""
    order, beat, ended_at_s = record.order, record.beat, record.ended_at_s(now_s)
    return {
        **describe_briefly(record, now_s),
        "options": order.spec.options,
        "pool": beat.pool.app if beat and beat.pool else None,
        "cancelled_by": record.ruling.cancelled_by or None,
        "summary": beat.summary if beat else None,
        "error": _explain(record, now_s),
        "resume_command": _find_way_on(record, now_s),
        "results": [
            {"name": name, "bytes": n_bytes, "href": f"/v1/jobs/{order.id}/results/{quote(name)}"}
            for name, n_bytes in results.items()
        ],
        "expires_at": _write_time(ended_at_s + keep_s) if ended_at_s is not None else None,
    }


def _describe_progress(record: JobRecord) -> dict[str, Any] | None:
    beat, committed = record.beat, record.ruling.committed
    if beat is None or (beat.progress is None and committed is None):
        return None
    found = beat.progress or Progress(0, None, 0, 0.0, 0.0, None)
    rows, share, left_s = beat.rows, found.share, found.left_s
    if committed is not None:
        rows, share, left_s = committed.rows, committed.share, None
    return {
        "rows_read": rows.read,
        "rows_total": found.rows_total,
        "rows_scored": rows.scored,
        "rows_rejected": rows.rejected,
        "percent": round(100 * share, 1),
        "rows_per_s": round(found.rows_per_s),
        "left_s": None if left_s is None else round(left_s, 1),
    }


def _find_way_on(record: JobRecord, now_s: float) -> str | None:
    """Return the command that resumes a job; None for one that has no plan yet, is done, or goes with its record."""
    state, order = record.state(now_s), record.order
    has_plan = record.beat is not None and record.beat.version > 0
    if state not in ENDED or state == "succeeded" or not has_plan or order.has_own_output:
        return None
    return order.go_on or resume_command(order.spec.input, order.spec.output)


def _explain(record: JobRecord, now_s: float) -> dict[str, Any] | None:
    beat, state = record.beat, record.state(now_s)
    if beat is not None and beat.error is not None:
        return {name: value for name, value in beat.error.items() if name != "exit_code"}
    if state == "died":
        return {"code": "died", "detail": "the driver is gone without a word; what is scored stays, resume the job"}
    if record.ruling.problem:
        return {"code": "not-started", "detail": record.ruling.problem}
    return None


def _write_time(at_s: float | None) -> str | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds")
