"""States of users and sessions in Redis: for Gateways on more than one machine.

States are read and folded here, and written back by one script that compares what was read with what is
there: of writers that meet, one always wins, and the others fold again (ADR 18). No number is ever computed
in Lua, whose numbers are exact to 2^53 only.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.exceptions import MasterDownError
from redis.retry import Retry

from serve_app.errors import InvariantError, NotReadyError, UnknownOutcomeError
from serve_app.history.adapters.redis_scripts import APPLY, ERASE, Change
from serve_app.history.core.fold import NO_USER, dump_session, dump_user, parse_session, parse_user, remove_session
from serve_app.history.core.fold_batch import (
    KeyedEvent,
    KeyedRow,
    Known,
    LookedUp,
    RecordStatus,
    StateKeys,
    fold_events,
    keys_of_events,
    keys_of_rows,
    look_up_rows,
)
from serve_app.history.service.ports import Erased, StoredUser
from serve_app.privacy.pseudonyms import ITEM_BYTES, KEY_BYTES

SCHEMA_VERSION: Final = 1
CONNECT_TIMEOUT_S: Final = 1.0
_SCHEMA: Final = str(SCHEMA_VERSION).encode()
DEFAULT_PREFIX: Final = b"scorecat:state:"
_RETRY_AFTER_S: Final = 1.0
_REFUSALS: Final = (redis.BusyLoadingError, redis.AuthenticationError)
"""Errors of the kind of a lost connection that are an answer all the same: the command was not run."""
_PASSING: Final = ("MISCONF ", "LOADING ", "BUSY ", "TRYAGAIN ", "NOREPLICAS ")
"""Words that begin a refusal which will not last."""
_LOG: Final = logging.getLogger(__name__)
_T = TypeVar("_T")


class RedisStateStore:
    """A `serve_app.history.service.ports.StateStore` in one Redis database (not a Redis Cluster).

    Parameters
    ----------
    url : str
        ``redis://…``, ``rediss://…`` or ``unix://…``.
    check : bytes
        Of the secret the ids are keyed with, `serve_app.privacy.pseudonyms.Pseudonyms.check`.
    prefix : bytes
        Begins every key, so that several systems may share a database.
    answer_timeout_s : float
        How long the server may take for an answer.
    contend_timeout_s : float
        A batch that meets other writers of the same users is folded again for so long.

    Raises
    ------
    NotReadyError
        The server does not answer.
    InvariantError
        The states are of another schema, or were written under another secret.
    """

    def __init__(
        self,
        url: str,
        check: bytes,
        prefix: bytes = DEFAULT_PREFIX,
        *,
        answer_timeout_s: float = 5.0,
        contend_timeout_s: float = 5.0,
    ) -> None:
        # Nothing is sent twice by the client itself: an event without id would be counted twice.
        self._client: Any = redis.Redis.from_url(
            url,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=answer_timeout_s,
            retry=Retry(NoBackoff(), 0),
        )
        self._prefix = prefix
        self._check = check
        self._contend_timeout_s = contend_timeout_s
        self._apply_script = self._client.register_script(APPLY)
        self._erase_script = self._client.register_script(ERASE)
        with _translated():
            self._prepare()
            self._warn_if_careless()

    def record(self, events: Sequence[KeyedEvent]) -> list[RecordStatus]:
        """Fold events in their order and return what became of each."""

        def attempt() -> tuple[bool, list[RecordStatus]]:
            keys = keys_of_events(events)
            read = self._read(keys)
            known = self._parse(keys, read)
            folded = fold_events(known, events)
            change = Change(read)
            for user in folded.users:
                change.put(self._key(b"u", user), dump_user(known.users[user]))
            for session, user in folded.sessions.items():
                state = known.sessions[session]
                change.put(self._key(b"s", session), user + dump_session(state))
                change.index_session(session, user, state.last_s)
            for event, session in folded.events.items():
                change.put_event(self._key(b"e", event), event, session, known.events[event])
            for product in folded.products:
                change.put(self._key(b"p", _item(product)), _item(known.categories[product]))
            return change.is_empty or self._apply(change), folded.statuses

        return self._until_applied(attempt)

    def lookup(self, rows: Sequence[KeyedRow], now_s: int) -> LookedUp:
        """Return what is known of each row."""
        keys = keys_of_rows(rows)
        with _translated():
            known = self._parse(keys, self._read(keys))
        return look_up_rows(known, rows, now_s)

    def load_states(self, users: Sequence[StoredUser]) -> int:
        """Store users that are not known yet, and return how many those were."""

        def attempt() -> tuple[bool, int]:
            events = [e.key for user in users for session in user.sessions for e in session.events]
            read = self._read(StateKeys([user.key for user in users], [], events, []))
            new = [user for user in users if read[self._key(b"u", user.key)] == b""]
            change = Change(read)
            for user in new:
                change.put(self._key(b"u", user.key), dump_user(user.state))
                for session in user.sessions:
                    change.put(self._key(b"s", session.key), user.key + dump_session(session.state))
                    change.index_session(session.key, user.key, session.state.last_s)
                    for event in session.events:
                        if read[self._key(b"e", event.key)] == b"":
                            change.put_event(self._key(b"e", event.key), event.key, session.key, event.content)
            return change.is_empty or self._apply(change), len(new)

        return self._until_applied(attempt)

    def load_categories(self, categories: Mapping[int, int]) -> None:
        """Store the category last seen of products for which none is known."""
        with _translated(), self._client.pipeline(transaction=True) as pipeline:
            for product, category in categories.items():
                pipeline.setnx(self._key(b"p", _item(product)), _item(category))
            pipeline.execute()

    def erase(self, user: bytes) -> Erased:
        """Remove a user, the user's sessions and the keys of their events."""
        with _translated():
            n_sessions, n_events = self._erase_script(args=[self._prefix, user])
        return Erased(int(n_sessions), int(n_events))

    def forget(self, before_s: int, limit: int = 500) -> int:
        """Remove at most `limit` sessions whose latest event is before a time, and return how many were."""

        def attempt() -> tuple[bool, int]:
            keys = self._client.zrange(self._key(b"t", b""), "-inf", f"({before_s}", byscore=True, offset=0, num=limit)
            sessions = self._read(StateKeys([], keys, [], []))
            old = {key: value for key in keys if (value := sessions[self._key(b"s", key)])}
            states = {key: parse_session(value[KEY_BYTES:]) for key, value in old.items()}
            if len(old) < len(keys) or any(state.last_s >= before_s for state in states.values()):
                return False, 0  # somebody was here after the index was read
            owners = {key: value[:KEY_BYTES] for key, value in old.items()}
            users = StateKeys(list(dict.fromkeys(owners.values())), [], [], [])
            read = self._read(users)
            left = self._parse(users, read).users
            change = Change(sessions | read)
            for key, user in owners.items():
                left[user] = remove_session(left[user], states[key])
                change.drop_session(key, user)
            for user, state in left.items():
                change.put(self._key(b"u", user), b"" if state == NO_USER else dump_user(state))
            return change.is_empty or self._apply(change), len(keys)

        return self._until_applied(attempt)

    def close(self) -> None:
        """Close the connections; the next call opens them again."""
        self._client.close()
        self._client.connection_pool.disconnect()

    def _key(self, kind: bytes, key: bytes) -> bytes:
        return b"%b%b:%b" % (self._prefix, kind, key)

    def _read(self, keys: StateKeys) -> dict[bytes, bytes]:
        """Return what is stored under the keys at one moment; empty where there is nothing."""
        names = [
            *(self._key(b"u", key) for key in keys.users),
            *(self._key(b"s", key) for key in keys.sessions),
            *(self._key(b"e", key) for key in keys.events),
            *(self._key(b"p", _item(key)) for key in keys.products),
        ]
        if not names:
            return {}
        return {name: value or b"" for name, value in zip(names, self._client.mget(names), strict=True)}

    def _parse(self, keys: StateKeys, read: Mapping[bytes, bytes]) -> Known:
        users = ((key, read[self._key(b"u", key)]) for key in keys.users)
        sessions = ((key, read[self._key(b"s", key)]) for key in keys.sessions)
        events = ((key, read[self._key(b"e", key)]) for key in keys.events)
        products = ((key, read[self._key(b"p", _item(key))]) for key in keys.products)
        return Known(
            {key: parse_user(value) for key, value in users if value},
            {key: parse_session(value[KEY_BYTES:]) for key, value in sessions if value},
            {key: value for key, value in events if value},
            {key: int.from_bytes(value, "little", signed=True) for key, value in products if value},
        )

    def _apply(self, change: Change) -> bool:
        keys, arguments = list(change.read), change.arguments(self._prefix, _SCHEMA, self._check)
        try:
            applied = int(self._apply_script(keys=keys, args=arguments))
        except (redis.ConnectionError, redis.TimeoutError) as exc:
            if isinstance(exc, _REFUSALS):
                raise
            raise UnknownOutcomeError(
                f"Redis was lost while it wrote ({exc}); it is not known whether this was stored: send it again, "
                f"events with an event_id count once",
                _RETRY_AFTER_S,
            ) from exc
        if applied < 0:
            self._prepare()  # says what differs
        return applied > 0

    def _until_applied(self, attempt: Callable[[], tuple[bool, _T]]) -> _T:
        deadline = time.monotonic() + self._contend_timeout_s
        while True:
            with _translated():
                is_applied, result = attempt()
            if is_applied:
                return result
            if time.monotonic() > deadline:
                raise NotReadyError(
                    "others wrote the same users all the time; nothing of this call is stored", _RETRY_AFTER_S
                )

    def _prepare(self) -> None:
        expected = {b"schema": _SCHEMA, b"secret": self._check}
        name = self._key(b"meta", b"")
        found = self._client.hgetall(name)
        if not found:  # a full server cannot be written, and can be read all the same
            with self._client.pipeline(transaction=True) as pipeline:
                for field, value in expected.items():
                    pipeline.hsetnx(name, field, value)
                pipeline.hgetall(name)
                found = pipeline.execute()[-1]
        if found[b"schema"] != expected[b"schema"]:
            raise InvariantError(
                f"the state in Redis has schema {found[b'schema'].decode()}; this scorecat reads {SCHEMA_VERSION}"
            )
        if found[b"secret"] != self._check:
            raise InvariantError(
                "the state in Redis was written under another secret: give every machine the same secret file"
            )

    def _warn_if_careless(self) -> None:
        with contextlib.suppress(redis.ResponseError):  # a hosted Redis may not tell
            # one pattern a call: Redis before 7 takes no more
            settings = self._client.config_get("append*") | self._client.config_get("maxmemory-policy")
            if settings.get("appendonly") != "yes" or settings.get("appendfsync") != "always":
                _LOG.warning("Redis may lose events it has confirmed: set appendonly yes and appendfsync always")
            if settings.get("maxmemory-policy", "noeviction") != "noeviction":
                _LOG.warning("Redis may drop states when memory is full: set maxmemory-policy noeviction")


def _item(number: int) -> bytes:
    return number.to_bytes(ITEM_BYTES, "little", signed=True)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError) as exc:
        raise NotReadyError(f"the state in Redis cannot be reached: {exc}", _RETRY_AFTER_S) from exc
    except redis.RedisError as exc:
        said = _said(exc)
        if isinstance(exc, (redis.OutOfMemoryError, redis.ReadOnlyError)) or said.startswith(("OOM ", "READONLY ")):
            raise NotReadyError(
                f"the state in Redis cannot be written: {said}; nothing is stored", _RETRY_AFTER_S
            ) from exc
        if isinstance(exc, MasterDownError) or said.startswith(_PASSING):
            raise NotReadyError(f"the state in Redis cannot be used now: {said}", _RETRY_AFTER_S) from exc
        raise InvariantError(f"the state in Redis refused a command: {said}") from exc


def _said(exc: redis.RedisError) -> str:
    """Return a refusal's text; that of a command in a script comes after its place in it from Redis before 7."""
    text = str(exc)
    return text.rpartition(": -")[2] if text.startswith("Error running script") else text
