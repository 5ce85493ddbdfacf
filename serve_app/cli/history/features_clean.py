"""``scorecat features clean``: the histories that `features verify` made are removed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serve_app.cli.history.features import open_run
from serve_app.errors import BadRequestError, NotFoundError
from serve_app.events.adapters.log_files import EventLog
from serve_app.history.adapters.open_store import open_live_history
from serve_app.settings import load_settings
from serve_app.skew.verify import rename
from serve_app.terminal.console import JsonOption, out, print_json
from serve_app.terminal.progress import open_progress


def clean(
    events: Annotated[Path, typer.Argument(help="The log that was verified.")],
    as_json: JsonOption = False,
) -> None:
    """Remove the histories that `features verify` made of a log; needs the service's state, not the service.

    A user takes about 8 ms: what is removed is removed from the disk, too.
    """
    settings = load_settings()
    run = open_run(settings, events)
    if not run.prefixes:
        raise NotFoundError(f"no verification of {events} is known in {settings.home}")
    if settings.state_config is None:
        raise BadRequestError("history is off here: set SCORECAT_STATE as the service has it")
    users: set[str] = set()
    for batch in EventLog(events).batches():
        users.update(str(user) for user in batch.column("user_id").unique().to_pylist() if user is not None)
    history = open_live_history(settings.state_config)
    n_sessions = n_events = 0
    with open_progress() as progress:
        task = progress.add_task("users", total=len(users) * len(run.prefixes))
        for prefix in run.prefixes:
            for user in sorted(users):
                erased = history.erase(rename(prefix, user))
                n_sessions, n_events = n_sessions + erased.sessions, n_events + erased.events
                progress.advance(task)
    run.record.path.unlink(missing_ok=True)
    if as_json:
        print_json({"sessions": n_sessions, "events": n_events, "prefixes": run.prefixes})
    else:
        out.print(f"removed {n_sessions:,} sessions and the ids of {n_events:,} events", markup=False)
