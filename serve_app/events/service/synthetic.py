"""Generated event logs that look like the published one and hold something honest to learn.

Shoppers differ in appetite and in the price they look for, products in appeal, sessions in intent.
Every view has its own chance to be followed by a cart, and every cart by a purchase, from those
differences: nothing of the future is ever written into the past.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.errors import BadRequestError
from serve_app.events.core.event_rows import CART, PURCHASE, VIEW
from serve_app.events.service.synthetic_rows import Events, join_events, sort_events, to_batch
from serve_app.events.service.synthetic_shop import Catalogue, Shoppers, choose_catalogue, choose_shoppers, fit_prices

START_S: Final = 1_569_888_000
"""2019-10-01 00:00 UTC, where the published log starts."""
DAYS: Final = 61
EVENTS_PER_SESSION: Final = 4.78
CHUNK_EVENTS: Final = 200_000
PILOT_SESSIONS: Final = 100_000
_DAY_S: Final = 86_400

# Harmonics (cos, sin; one, two and three periods a day) fitted to the logarithm of the published hourly
# counts, and one to two periods for the purchases per view of the hour.
_HOURS: Final = (-0.898, 0.187, -0.486, 0.36, -0.103, 0.178)
_HOUR_APPETITE: Final = (-0.33, 0.32, -0.06, -0.08)

# Views of a session: 1, 2, 3, 4, then a geometric tail of two speeds.
_VIEW_SHARES: Final = (0.383, 0.167, 0.105, 0.073)
_TAIL_MEANS: Final = (3.6, 15.5)
_SLOW_TAIL_SHARE: Final = 0.27
MAX_VIEWS: Final = 400

# Log of the seconds between two events of a session: published median 33 s, 90 % within 115 s.
_GAP_MEAN: Final = 3.497
_GAP_SD: Final = 0.974


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Log-odds of what follows a view; calibrated so that `describe` finds the published shares."""

    cart: float = -4.04
    purchase: float = -5.43
    purchase_after_cart: float = -2.0
    again: float = 0.16
    intent_sd: float = 0.54
    repeat: float = 0.7
    mismatch: float = -1.2
    decline: float = -0.94
    same_product: float = 0.33
    same_category: float = 0.88
    favourite: float = 0.3
    loyal_to_taste: float = 0.8
    appetite_sd: float = 1.33
    loyalty: float = 0.3


_BEHAVIOUR: Final = Behaviour()


def generate_events(n_events: int, *, seed: int = 0) -> Iterator[pa.RecordBatch]:
    """Yield a log of `n_events` events in the nine published columns, sorted by time.

    Parameters
    ----------
    n_events : int
        Events in all; the log ends with the last one, and sessions open then are cut, as in a real log.
    seed : int
        Equal seeds and sizes give equal logs (with equal versions of numpy).

    Yields
    ------
    RecordBatch
        ``event_time`` as int64 seconds since 1970 UTC; ids as int64; names as strings.

    Raises
    ------
    BadRequestError
        `n_events` is below 1.

    Notes
    -----
    Memory: the catalogue, the users (20 bytes each) and the events of one day or `CHUNK_EVENTS`.
    """
    if n_events < 1:
        raise BadRequestError(f"a log needs at least 1 event, asked for {n_events}")
    rng = np.random.default_rng(seed)
    catalogue = choose_catalogue(rng, n_events)
    expected = n_events / EVENTS_PER_SESSION
    n_sessions = int(1.03 * expected + 6 * np.sqrt(expected) + 3)
    shoppers = choose_shoppers(rng, n_sessions, _BEHAVIOUR.appetite_sd, _BEHAVIOUR.loyalty)
    visits = rng.permutation(np.repeat(np.arange(len(shoppers.n_sessions), dtype=np.int32), shoppers.n_sessions))
    catalogue = fit_prices(catalogue, _choose_looks(rng, catalogue, shoppers, visits[:PILOT_SESSIONS]).product)
    n_chunks = min(DAYS, max(1, n_events // CHUNK_EVENTS))
    edges_s = START_S + np.round(np.arange(n_chunks + 1) * DAYS / n_chunks).astype(np.int64) * _DAY_S
    n_left = n_events
    carried: Events | None = None
    for users, first_s, end_s in zip(np.array_split(visits, n_chunks), edges_s, edges_s[1:], strict=False):
        started = _session_starts(rng, len(users), int(first_s), int(end_s))
        events = _walk_sessions(rng, catalogue, shoppers, users, started)
        ready, carried = sort_events(join_events(carried, events), int(end_s))
        ready = ready.take(np.arange(min(n_left, len(ready.time_s))))
        n_left -= len(ready.time_s)
        yield to_batch(ready, catalogue)
    if n_left and carried is not None:
        yield to_batch(carried.take(np.arange(min(n_left, len(carried.time_s)))), catalogue)


@dataclass(frozen=True, slots=True)
class GeneratedLog:
    """A generated log as an event source that is made anew each time it is read."""

    n_events: int
    seed: int = 0

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the log, see `generate_events`."""
        yield from generate_events(self.n_events, seed=self.seed)


def _harmonics(hour: NDArray[np.float64], terms: tuple[float, ...]) -> NDArray[np.float64]:
    out = np.zeros(len(hour))
    for k in range(len(terms) // 2):
        angle = (k + 1) * 2 * np.pi * hour / 24
        out += terms[2 * k] * np.cos(angle) + terms[2 * k + 1] * np.sin(angle)
    return out


def _session_starts(rng: np.random.Generator, n: int, first_s: int, end_s: int) -> NDArray[np.int64]:
    n_days = max(1, (end_s - first_s) // _DAY_S)
    cdf = np.cumsum(np.exp(_harmonics(np.arange(24.0), _HOURS)))
    hour = np.searchsorted(cdf / cdf[-1], rng.random(n)).clip(0, 23)
    day = rng.integers(0, n_days, n)
    start_s: NDArray[np.int64] = first_s + day * _DAY_S + hour * 3600 + rng.integers(0, 3600, n)
    return start_s


def _view_counts(rng: np.random.Generator, n: int) -> NDArray[np.int64]:
    short = np.searchsorted(np.cumsum(_VIEW_SHARES), rng.random(n)) + 1
    mean = np.where(rng.random(n) < _SLOW_TAIL_SHARE, _TAIL_MEANS[1], _TAIL_MEANS[0])
    tail = rng.exponential(mean).astype(np.int64)
    return np.where(short > len(_VIEW_SHARES), np.minimum(short + tail, MAX_VIEWS), short)


def _walk_sessions(
    rng: np.random.Generator,
    catalogue: Catalogue,
    shoppers: Shoppers,
    users: NDArray[np.int32],
    started: NDArray[np.int64],
) -> Events:
    session, step, taste, product, is_repeat = _choose_looks(rng, catalogue, shoppers, users)
    mood = shoppers.appetite[users] + rng.normal(0, _BEHAVIOUR.intent_sd, len(users))
    mood += _harmonics(started % _DAY_S / 3600, _HOUR_APPETITE)
    odds = mood[session] + catalogue.appeal[product] + _BEHAVIOUR.mismatch * np.abs(catalogue.level[product] - taste)
    odds += _BEHAVIOUR.repeat * is_repeat + _BEHAVIOUR.decline * np.log1p(step)
    n_carts, is_bought = _choose_actions(rng, odds)
    n_each = 1 + n_carts + is_bought
    view = np.repeat(np.arange(len(session)), n_each)
    place = np.arange(len(view)) - np.repeat(np.cumsum(n_each) - n_each, n_each)
    kind = np.where(place == 0, VIEW, np.where(place <= n_carts[view], CART, PURCHASE)).astype(np.uint8)
    owner = session[view]
    ids = rng.integers(0, 256, (len(users), 16), dtype=np.uint8)
    return Events(_event_times(rng, owner, started), kind, product[view], users[owner], owner, ids)


def _event_times(rng: np.random.Generator, owner: NDArray[np.int64], started: NDArray[np.int64]) -> NDArray[np.int64]:
    gap = np.exp(rng.standard_normal(len(owner), dtype=np.float32) * _GAP_SD + _GAP_MEAN).round().astype(np.int64)
    is_first = np.concatenate([[True], owner[1:] != owner[:-1]])
    gap[is_first] = 0
    total = np.cumsum(gap)
    time_s: NDArray[np.int64] = total - total[is_first][owner] + started[owner]
    return time_s


class _Looks(NamedTuple):
    """Views: session, place in it, the shopper's taste, the product, and whether it is that of the view before."""

    session: NDArray[np.int64]
    step: NDArray[np.int64]
    taste: NDArray[np.float32]
    product: NDArray[np.int64]
    is_repeat: NDArray[np.bool_]


def _choose_looks(
    rng: np.random.Generator, catalogue: Catalogue, shoppers: Shoppers, users: NDArray[np.int32]
) -> _Looks:
    """Return what is looked at in a session of each of these users."""
    n_views = _view_counts(rng, len(users))
    session = np.repeat(np.arange(len(users)), n_views)
    step = np.arange(len(session)) - np.repeat(np.cumsum(n_views) - n_views, n_views)
    taste = shoppers.taste[users][session]
    n = len(session)
    main = np.searchsorted(catalogue.category_cdf, rng.random(len(users))).clip(0, len(catalogue.category_cdf) - 1)
    is_favourite = rng.random(len(users)) < _BEHAVIOUR.favourite
    main = np.where(is_favourite, shoppers.favourite[users], main)
    other = np.searchsorted(catalogue.category_cdf, rng.random(n)).clip(0, len(catalogue.category_cdf) - 1)
    category = np.where(rng.random(n, dtype=np.float32) < _BEHAVIOUR.same_category, main[session], other)
    start, size = catalogue.category_start[category], catalogue.category_size[category]
    # Two looks at the category, popular products more often; usually the one nearer to the user's price wins.
    one, two = (start + (size * rng.random(n) ** 2).astype(np.int64) for _ in range(2))
    is_nearer = np.abs(catalogue.level[two] - taste) < np.abs(catalogue.level[one] - taste)
    chosen = np.where(is_nearer & (rng.random(n, dtype=np.float32) < _BEHAVIOUR.loyal_to_taste), two, one)
    is_repeat = (rng.random(n, dtype=np.float32) < _BEHAVIOUR.same_product) & (step > 0)
    source = np.maximum.accumulate(np.where(is_repeat, 0, np.arange(n)))
    return _Looks(session, step, taste, chosen[source], is_repeat)


def _choose_actions(rng: np.random.Generator, odds: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return for each view the carts that follow it, and whether a purchase follows them."""
    n = len(odds)
    is_cart = rng.random(n) < _sigmoid(odds + _BEHAVIOUR.cart)
    n_carts = is_cart.astype(np.int64)
    at = np.flatnonzero(is_cart)
    again = rng.geometric(1 - _BEHAVIOUR.again, len(at)) - 1
    n_carts[at] += again
    is_bought = rng.random(n) < _sigmoid(odds + _BEHAVIOUR.purchase)
    after = 0.6 * odds[at] + _BEHAVIOUR.purchase_after_cart
    is_bought[at] = rng.random(len(at)) < _sigmoid(after)
    return n_carts, is_bought


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-x))
