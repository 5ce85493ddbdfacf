"""What of a job is in its output, counted there: whatever its driver said last, it is what --resume goes on from."""

from __future__ import annotations

from serve_app.jobs.adapters.output_folder import PLAN, OutputFolder
from serve_app.jobs.core.commits import UnitTally
from serve_app.jobs.core.record import Committed
from serve_app.jobs.core.units import Unit


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
    tally = UnitTally([Unit(**unit) for unit in plan["units"]])
    tally.add(output.commits())
    return Committed(tally.counts, tally.share)
