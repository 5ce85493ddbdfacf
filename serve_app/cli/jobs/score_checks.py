"""What ``scorecat score`` checks before a job is submitted: mistakes are said at once, and no job is made of them."""

from __future__ import annotations

from batch.jobs.asked import Asked, RunOptions
from batch.jobs.prepare import Wanted, draft_plan, take_up
from batch.transforms.summary import RejectLimit
from batch.view import make_absolute
from serve_app.jobs.adapters.output_folder import OutputFolder
from serve_app.models.service.registry import CHAMPION
from serve_app.settings import Settings
from serve_app.storage.file_listing import describe_left_out
from serve_app.terminal.console import err
from serve_app.wiring import find_default, open_settings_registry


def check_job(settings: Settings, asked: Asked, output: str, options: RunOptions, *, resume: bool) -> tuple[str, int]:
    """Return the model and version that will score.

    Raises
    ------
    BadRequestError, ConflictError, NotFoundError
        As the job itself would end; see `batch.jobs.prepare`.

    Notes
    -----
    Only places of this machine are looked at: the cluster may have keys of an object store that are not here.
    """
    if options.max_rejected is not None:
        RejectLimit.parse(options.max_rejected)
    registry = open_settings_registry(settings)
    name, _, chosen = (asked.model or find_default(settings, registry)).partition("@")
    place = make_absolute(output)
    is_here = "://" not in place
    if resume and is_here:
        version = registry.resolve(name, chosen) if asked.model and chosen else None
        plan, _ = take_up(asked, OutputFolder(place), version, registry.manifest)
        return plan.model, plan.version
    version = registry.resolve(name, chosen or CHAMPION)
    if not resume and is_here and "://" not in asked.input:
        plan = draft_plan(Wanted.of(asked), OutputFolder(place), name, version, registry.manifest(name, version))
        if plan.not_read:
            err.print(describe_left_out(plan.not_read), markup=False)
    return name, version
