"""Shop events to the service, and what it says became of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx
import orjson
import pyarrow as pa

from serve_app.client.frames import as_table
from serve_app.errors import InvalidRowError, InvariantError

STATUSES: Final = ("recorded", "duplicate", "dropped", "conflict", "refused", "rejected")
"""What can become of an event, see docs/history.md."""

Events = Any
"""Events: a frame (pandas.DataFrame, pyarrow.Table or RecordBatch), a mapping, or a sequence of mappings."""


@dataclass(frozen=True, slots=True)
class EventError:
    """An event that was not recorded, or was there already.

    Attributes
    ----------
    index : int
        Its position in the request.
    status : str
        One of `STATUSES`.
    detail : str
        Why, and what would be right.
    """

    index: int
    status: str
    detail: str


@dataclass(frozen=True, slots=True)
class RecordedEvents:
    """What became of the events of one request.

    Attributes
    ----------
    counts : dict of str to int
        Events by status, each of `STATUSES`.
    errors : tuple of EventError
        Of the events that count for nothing; the service may list only the first of many.
    """

    counts: dict[str, int]
    errors: tuple[EventError, ...]


def as_events(events: Events) -> tuple[pa.Table, bool]:
    """Return events as a Table, and whether each has an id, so that sending them again counts none twice.

    Raises
    ------
    BadRequestError, InvalidRowError
        They are no events in any form that can be sent.
    """
    if isinstance(events, Mapping):
        events = [events]
    if isinstance(events, Sequence):
        try:
            events = pa.Table.from_pylist([dict(event) for event in events])
        except (pa.ArrowException, TypeError, ValueError) as exc:
            raise InvalidRowError(f"the events cannot be sent as Arrow: {exc}") from exc
    table = as_table(events)
    has_ids = "event_id" in table.column_names and table.column("event_id").null_count == 0
    return table, has_ids


def parse_events_answer(response: httpx.Response, n_events: int) -> RecordedEvents:
    """Parse the answer to `n_events` events.

    Raises
    ------
    InvariantError
        It is not what the service answers, or does not account for every event.
    """
    url = response.request.url
    try:
        members = orjson.loads(response.content)
        counts = {status: int(members.get(status, 0)) for status in STATUSES}
        errors = tuple(
            EventError(int(e["index"]), str(e["status"]), str(e["detail"])) for e in members.get("errors", ())
        )
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise InvariantError(f"{url} did not answer with counts of events ({exc}): is it scorecat?") from exc
    if sum(counts.values()) != n_events:
        raise InvariantError(f"{url} accounts for {sum(counts.values())} of {n_events} events")
    return RecordedEvents(counts, errors)
