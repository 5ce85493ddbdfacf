"""What of a job is in its output, counted there: whatever its driver said last, it is what --resume goes on from."""

from __future__ import annotations

from batch.storage.folder import PLAN, OutputFolder
from batch.transforms.plan import Unit
from batch.transforms.summary import Tally
from serve_app.jobs.core.record import Committed, JobRows


def count_committed(location: str) -> Committed | None:
    """Return what is committed of the job that writes to a place; None where no job was planned.

    Raises
    ------
    BadRequestError, InvariantError
        The place cannot be read, or a record there is damaged.
    """
    output = OutputFolder(location)
    plan = output.read_json(PLAN)
    if plan is None:
        return None
    tally = Tally([Unit(**unit) for unit in plan["units"]])
    tally.add(output.commits())
    counts = tally.counts
    return Committed(JobRows(counts.read, counts.scored, counts.rejected), tally.share)
