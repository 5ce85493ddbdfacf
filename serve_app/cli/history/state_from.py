"""The history of a log as the state a service begins with: ``scorecat up --state-from``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from serve_app.cli.open_log import open_log
from serve_app.errors import BadRequestError
from serve_app.events.adapters.log_files import EventLog
from serve_app.events.adapters.spill import EventSpill
from serve_app.history.adapters.open_store import open_states
from serve_app.history.service.config import StateConfig
from serve_app.history.service.warm_start import LoadReport, load_log
from serve_app.settings import Settings
from serve_app.terminal.console import err


def check_state_from(settings: Settings, events: Path) -> tuple[EventLog, StateConfig]:
    """Return the log and the place of the state, before anything else is done.

    Raises
    ------
    BadRequestError
        There is no such log, or history is off.
    """
    config = settings.state_config
    if config is None:
        raise BadRequestError("--state-from needs a place for history, and SCORECAT_STATE is off")
    return open_log(events), config


def load_state(log: EventLog, config: StateConfig) -> dict[str, Any]:
    """Bring all users of a log to the state after its last event; those the store knows already stay as they are.

    Raises
    ------
    InvalidDataError
        The log cannot be read or holds no event.
    NotReadyError
        The store cannot be used; the same command goes on.
    """
    store, names = open_states(config)
    before_s = None if config.retention_s is None else int(time.time()) - config.retention_s
    try:
        with err.status(f"loading the history of {log.path}"), EventSpill() as spill:
            report = load_log(log, spill, store, names, before_s=before_s)
    finally:
        store.close()
    err.print(_describe(log.path, report, config), markup=False)
    return {
        "users": report.n_users,
        "known": report.n_kept,
        "events": report.summary.n_events,
        "dropped": dict(report.summary.dropped),
    }


def _describe(path: Path, report: LoadReport, config: StateConfig) -> str:
    if not report.n_users + report.n_kept:
        days = (config.retention_s or 0) / 86_400
        return f"no history of {path} is loaded: all its sessions are past the {days:g} days of retention"
    known = f", {report.n_kept:,} were known already and stay as they are" if report.n_kept else ""
    return f"the history of {report.n_users:,} users of {path} is loaded{known}"
