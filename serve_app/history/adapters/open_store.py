"""The one place that knows which store of states a place stands for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from serve_app.errors import BadRequestError
from serve_app.history.adapters.sqlite_state import SqliteStateStore
from serve_app.history.service.config import StateConfig
from serve_app.history.service.live_history import LiveHistory
from serve_app.history.service.ports import StateStore
from serve_app.privacy.pseudonyms import Pseudonyms
from serve_app.privacy.secret_file import load_state_secret

SCHEMES: Final = ("redis", "rediss", "unix")


def open_state_store(place: str | Path, check: bytes) -> StateStore:
    """Open the store of a place: a SQLite file, or the URL of a Redis server.

    Parameters
    ----------
    place : str or Path
    check : bytes
        `serve_app.privacy.pseudonyms.Pseudonyms.check` of the secret in use.

    Raises
    ------
    BadRequestError
        The place is of no known form, or the client library is not installed.
    NotReadyError, InvariantError
        The store cannot be used, or holds states of another secret or schema.
    """
    scheme, is_url, _ = str(place).partition("://")
    if not is_url:
        return SqliteStateStore(Path(place), check)
    if scheme not in SCHEMES:
        raise BadRequestError(f"{place} is no place for states: use the path of a file, or redis://host:port/0")
    try:
        from serve_app.history.adapters.redis_state import RedisStateStore  # noqa: PLC0415 an extra that one machine does without
    except ImportError as exc:
        raise BadRequestError("redis:// needs a library that is not installed: pip install 'scorecat[redis]'") from exc
    return RedisStateStore(str(place), check)


def open_live_history(config: StateConfig) -> LiveHistory:
    """Open the live history of a machine, see `open_states`."""
    store, names = open_states(config)
    return LiveHistory(store, names, time.time, retention_s=config.retention_s)


def open_states(config: StateConfig) -> tuple[StateStore, Pseudonyms]:
    """Open the states of a machine and what names them; makes the secret when there is none yet.

    Raises as `open_state_store` does; also when the secret cannot be used.
    """
    names = Pseudonyms(load_state_secret(Path(config.secret_path)))
    return open_state_store(config.place, names.check), names
