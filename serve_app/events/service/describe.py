"""Figures of an event log beside the published figures of the REES46 log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from serve_app.events.core.columns import EventColumns, group_rows
from serve_app.events.core.event_rows import CART, EVENT_TYPES, PURCHASE
from serve_app.events.service.partitions import EventSource, LogSummary, Partition, Spill, read_partitions

Unit = Literal["share", "value"]

SHARE_TOLERANCE: Final = 0.10
SHARE_TOLERANCE_POINTS: Final = 0.01
VALUE_TOLERANCE: Final = 0.15
_MAX_CENTS: Final = 2_000_000
_MAX_GAP_S: Final = 86_400
_HOUR_BLOCK: Final = 3

# Published by others over October and November 2019 (109,950,743 events); price quantiles: October; gaps
# of a session's events: the first 17,434 events. Shares 0-1.
PUBLISHED: Final[dict[str, tuple[Unit, float]]] = {
    "events: view": ("share", 0.9489),
    "events: cart": ("share", 0.0360),
    "events: purchase": ("share", 0.0151),
    "null: category_code": ("share", 0.322),
    "null: brand": ("share", 0.139),
    "sessions of length 1": ("share", 0.359),
    "sessions of length 2": ("share", 0.160),
    "sessions of length 3": ("share", 0.108),
    "sessions of length 4": ("share", 0.074),
    "sessions with a cart": ("share", 0.1006),
    "sessions with a purchase": ("share", 0.0609),
    "sessions: purchase given cart": ("share", 0.406),
    "sessions: purchase given no cart": ("share", 0.022),
    "users who ever buy": ("share", 0.131),
    "after view: view": ("share", 0.9529),
    "after view: cart": ("share", 0.0400),
    "after view: purchase": ("share", 0.0071),
    "after cart: view": ("share", 0.5014),
    "after cart: cart": ("share", 0.1852),
    "after cart: purchase": ("share", 0.3135),
    "hours 0-2 UTC": ("share", 0.0446),
    "hours 3-5 UTC": ("share", 0.1319),
    "hours 6-8 UTC": ("share", 0.1621),
    "hours 9-11 UTC": ("share", 0.1610),
    "hours 12-14 UTC": ("share", 0.1728),
    "hours 15-17 UTC": ("share", 0.2014),
    "hours 18-20 UTC": ("share", 0.1026),
    "hours 21-23 UTC": ("share", 0.0235),
    "price below 20": ("share", 0.0526),
    "price 20 to 100": ("share", 0.2898),
    "price 100 to 300": ("share", 0.3600),
    "price 300 to 700": ("share", 0.1836),
    "price above 700": ("share", 0.1140),
    "top brand": ("share", 0.1198),
    "top 10 brands": ("share", 0.3866),
    "top category_code": ("share", 0.2536),
    "top 10 category_codes": ("share", 0.4686),
    "price: mean": ("value", 290.3),
    "price: sd": ("value", 358.3),
    "price: q25": ("value", 65.98),
    "price: q50": ("value", 162.93),
    "price: q75": ("value", 358.57),
    "price: max": ("value", 2574.07),
    "events per session": ("value", 4.78),
    "events per view-only session": ("value", 4.2),
    "events per purchase session": ("value", 8.2),
    "events per abandoned-cart session": ("value", 9.4),
    "sessions per user": ("value", 4.33),
    "purchases per purchase session": ("value", 1.183),
    "session length: q25": ("value", 1.0),
    "session length: q50": ("value", 2.0),
    "session length: q60": ("value", 3.0),
    "gap in a session, s: q50": ("value", 33.0),
    "gap in a session, s: q90": ("value", 115.0),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a log beside the published one.

    Attributes
    ----------
    name : str
    unit : {"share", "value"}
    found : float or None
        None when the log has nothing to measure it on.
    published : float
    """

    name: str
    unit: Unit
    found: float | None
    published: float

    @property
    def difference(self) -> float | None:
        """Relative difference, found / published - 1."""
        return None if self.found is None else self.found / self.published - 1

    @property
    def is_close(self) -> bool:
        """Whether a share is within 10 % or one point, another value within 15 %."""
        if self.found is None or self.difference is None:
            return False
        if self.unit == "value":
            return abs(self.difference) <= VALUE_TOLERANCE
        return abs(self.difference) <= SHARE_TOLERANCE or abs(self.found - self.published) <= SHARE_TOLERANCE_POINTS


@dataclass(frozen=True, slots=True)
class Description:
    """A log's figures and what was read."""

    figures: tuple[Figure, ...]
    summary: LogSummary
    n_users: int
    n_sessions: int

    def to_json(self) -> dict[str, Any]:
        """Return the description as a JSON object."""
        members = ("name", "unit", "found", "published", "difference", "is_close")
        rows = [{name: getattr(figure, name) for name in members} for figure in self.figures]
        return {
            "n_lines": self.summary.n_lines,
            "n_events": self.summary.n_events,
            "dropped": dict(self.summary.dropped),
            "n_users": self.n_users,
            "n_sessions": self.n_sessions,
            "figures": rows,
        }


@dataclass(slots=True)
class _Tally:
    types: NDArray[np.int64] = field(default_factory=lambda: np.zeros(3, dtype=np.int64))
    nulls: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2, dtype=np.int64))
    lengths: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    kinds: NDArray[np.int64] = field(default_factory=lambda: np.zeros((4, 2), dtype=np.int64))
    moves: NDArray[np.int64] = field(default_factory=lambda: np.zeros((3, 3), dtype=np.int64))
    hours: NDArray[np.int64] = field(default_factory=lambda: np.zeros(24, dtype=np.int64))
    cents: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_MAX_CENTS + 1, dtype=np.int64))
    gaps_s: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_MAX_GAP_S + 1, dtype=np.int64))
    names: dict[str, dict[str, int]] = field(default_factory=lambda: {"brand": {}, "category_code": {}})
    n_users: int = 0
    n_buyers: int = 0


def describe_log(source: EventSource, spill: Spill) -> Description:
    """Measure a log and put each figure beside the published one; bounded memory."""
    summary, tally = LogSummary(), _Tally()
    for partition in read_partitions(source, spill, summary):
        _add(tally, partition)
    found = dict(_figures(tally))
    figures = tuple(Figure(name, unit, found.get(name), value) for name, (unit, value) in PUBLISHED.items())
    return Description(figures, summary, tally.n_users, int(tally.lengths.sum()))


def _add(tally: _Tally, partition: Partition) -> None:
    events, table = partition.events, partition.table
    kind = table.column("event_type").to_numpy().astype(np.int64)
    tally.types += np.bincount(kind, minlength=3)
    tally.nulls += [table.column(name).null_count for name in ("category_code", "brand")]
    tally.hours += np.bincount(events.time_s % 86_400 // 3600, minlength=24)
    tally.cents += np.bincount(np.minimum(events.price_cents, _MAX_CENTS), minlength=_MAX_CENTS + 1)
    tally.n_users += int(events.user.max()) + 1
    tally.n_buyers += len(np.unique(events.user[events.is_purchase]))
    for name, counts in tally.names.items():
        for value in table.column(name).combine_chunks().value_counts().to_pylist():
            if value["values"] is not None:
                counts[value["values"]] = counts.get(value["values"], 0) + value["counts"]
    _add_sessions(tally, events, kind)


def _add_sessions(tally: _Tally, events: EventColumns, kind: NDArray[np.int64]) -> None:
    length = np.bincount(events.session)
    carts = np.bincount(events.session, weights=kind == CART) > 0
    bought = np.bincount(events.session, weights=kind == PURCHASE) > 0
    group = 2 * carts + bought
    tally.kinds[:, 0] += np.bincount(group, minlength=4)
    tally.kinds[:, 1] += np.bincount(group, weights=length, minlength=4).astype(np.int64)
    lengths = np.bincount(length)
    size = max(len(lengths), len(tally.lengths))
    tally.lengths = np.pad(tally.lengths, (0, size - len(tally.lengths))) + np.pad(lengths, (0, size - len(lengths)))
    sessions = group_rows(events.session)
    following = np.flatnonzero(sessions.start != np.arange(len(sessions.start)))
    ordered, times = kind[sessions.rows], events.time_s[sessions.rows]
    tally.moves += np.bincount(3 * ordered[following - 1] + ordered[following], minlength=9).reshape(3, 3)
    gaps = np.minimum(times[following] - times[following - 1], _MAX_GAP_S)
    tally.gaps_s += np.bincount(gaps, minlength=_MAX_GAP_S + 1)


def _figures(tally: _Tally) -> Iterable[tuple[str, float]]:
    n_events, n_sessions = int(tally.types.sum()), int(tally.lengths.sum())
    for name, count in zip(EVENT_TYPES, tally.types, strict=True):
        yield f"events: {name}", count / n_events
    yield "null: category_code", tally.nulls[0] / n_events
    yield "null: brand", tally.nulls[1] / n_events
    for length in range(1, 5):
        yield f"sessions of length {length}", _at(tally.lengths, length) / n_sessions
    yield "sessions per user", n_sessions / tally.n_users
    yield "events per session", n_events / n_sessions
    yield "users who ever buy", tally.n_buyers / tally.n_users
    yield from _session_figures(tally, n_sessions)
    for source, row in zip(EVENT_TYPES[:2], tally.moves, strict=False):
        if row.sum():
            yield from ((f"after {source}: {name}", n / row.sum()) for name, n in zip(EVENT_TYPES, row, strict=True))
    blocks = tally.hours.reshape(-1, _HOUR_BLOCK).sum(axis=1)
    for k, count in enumerate(blocks):
        yield f"hours {k * _HOUR_BLOCK}-{k * _HOUR_BLOCK + 2} UTC", count / n_events
    yield from _price_figures(tally.cents)
    for q in (0.25, 0.5, 0.6):
        yield f"session length: q{q * 100:.0f}", _quantile(tally.lengths, q)
    if tally.gaps_s.sum():
        yield "gap in a session, s: q50", _quantile(tally.gaps_s, 0.5)
        yield "gap in a session, s: q90", _quantile(tally.gaps_s, 0.9)
    for name, counts in tally.names.items():
        top = sorted(counts.values(), reverse=True)
        yield f"top {name}", sum(top[:1]) / n_events
        yield f"top 10 {name}s", sum(top[:10]) / n_events


def _session_figures(tally: _Tally, n_sessions: int) -> Iterable[tuple[str, float]]:
    (view_only, bought_alone, abandoned, bought_cart), events = tally.kinds.T
    carts, bought = abandoned + bought_cart, bought_alone + bought_cart
    yield "sessions with a cart", carts / n_sessions
    yield "sessions with a purchase", bought / n_sessions
    if carts:
        yield "sessions: purchase given cart", bought_cart / carts
    if view_only + bought_alone:
        yield "sessions: purchase given no cart", bought_alone / (view_only + bought_alone)
    if view_only:
        yield "events per view-only session", events[0] / view_only
    if abandoned:
        yield "events per abandoned-cart session", events[2] / abandoned
    if bought:
        yield "events per purchase session", (events[1] + events[3]) / bought
        yield "purchases per purchase session", tally.types[PURCHASE] / bought


def _price_figures(cents: NDArray[np.int64]) -> Iterable[tuple[str, float]]:
    n, values = cents.sum(), np.arange(len(cents)) / 100
    mean = float(cents @ values / n)
    yield "price: mean", mean
    yield "price: sd", float(np.sqrt(cents @ (values - mean) ** 2 / n))
    for q in (0.25, 0.5, 0.75):
        yield f"price: q{q * 100:.0f}", _quantile(cents, q) / 100
    yield "price: max", float(np.flatnonzero(cents)[-1]) / 100
    edges = (0, 2_000, 10_000, 30_000, 70_000, len(cents))
    names = ("price below 20", "price 20 to 100", "price 100 to 300", "price 300 to 700", "price above 700")
    for name, low, high in zip(names, edges, edges[1:], strict=False):
        yield name, cents[low:high].sum() / n


def _at(counts: NDArray[np.int64], index: int) -> int:
    return int(counts[index]) if index < len(counts) else 0


def _quantile(counts: NDArray[np.int64], q: float) -> float:
    """Return the smallest value at or below which a share `q` of the counted values lies."""
    total = np.cumsum(counts)
    return float(np.searchsorted(total, q * total[-1]))
