"""Events of concurrent requests written together: one commit for as many as make up to `MAX_EVENTS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from serve_app.errors import ScorecatError
from serve_app.history.service.intake import MAX_EVENTS, ParsedEvents, Result, Work, summarize
from serve_app.history.service.live_history import LiveEvent, LiveHistory


def write_events(
    history: LiveHistory, parse: Callable[[str, bytes], ParsedEvents], works: Sequence[Work]
) -> list[Result]:
    """Record bodies and single events in their order, and return what became of each.

    Those of one group are one commit; a group is as many as make up to `MAX_EVENTS` events. When the store
    fails, nothing of the group is stored and each of it gets the error.
    """
    results: dict[int, Result] = {}
    parsed: dict[int, ParsedEvents] = {}
    for k, work in enumerate(works):
        try:
            parsed[k] = (
                ParsedEvents([work], [0], []) if isinstance(work, LiveEvent) else parse(work.media, work.content)
            )
        except ScorecatError as exc:
            results[k] = exc
    group: dict[int, ParsedEvents] = {}
    for k, each in parsed.items():
        if group and sum(len(one.events) for one in group.values()) + len(each.events) > MAX_EVENTS:
            results |= _write_group(history, works, group)
            group = {}
        group[k] = each
    results |= _write_group(history, works, group)
    return [results[k] for k in range(len(works))]


def _write_group(history: LiveHistory, works: Sequence[Work], group: Mapping[int, ParsedEvents]) -> dict[int, Result]:
    try:
        outcomes = history.record([event for each in group.values() for event in each.events])
    except ScorecatError as exc:
        return dict.fromkeys(group, exc)
    results: dict[int, Result] = {}
    for k, each in group.items():
        mine, outcomes = outcomes[: len(each.events)], outcomes[len(each.events) :]
        results[k] = mine[0] if isinstance(works[k], LiveEvent) else summarize(each, mine)
    return results
