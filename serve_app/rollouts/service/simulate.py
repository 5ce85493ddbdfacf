"""Run a plan many times against assumed rates, with the code that decides in production."""

from __future__ import annotations

import contextlib
import functools
import math
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from serve_app.errors import BadRequestError
from serve_app.rollouts.core.decide import Decision, Observations, decide
from serve_app.rollouts.core.plan import Plan
from serve_app.rollouts.core.state import Phase, RolloutState, canary_share, move_state
from serve_app.rollouts.core.verdict import Interval
from serve_app.scoring.core.counters import N_SCORE_BINS, SCORE_LOGIT_MAX, ArmCounters
from serve_app.scoring.core.split import N_GROUPS
from serve_app.stats.intervals import median_interval, share_interval

STABLE: Final = 1
CANARY: Final = 2

LATENCY_MEDIAN_S: Final = 0.02
LATENCY_SIGMA: Final = 0.6
"""Spread of log latency; about that of a loaded service here (p99 four times the median)."""

SCORE_LOGIT_MEAN: Final = -3.7
SCORE_LOGIT_SIGMA: Final = 1.0
"""Scores like those of the shipped model: about 3 % on average."""

BLOCK: Final = 16
"""Intervals that are drawn at once."""

_CHUNK: Final = 10

MAX_INTERVALS: Final = 100_000

End = Literal["promoted", "rolled_back", "paused", "unfinished"]


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What is assumed of the two versions.

    Attributes
    ----------
    stable_error, canary_error : float
        Share of requests that fail, 0-1.
    rate : float
        Requests per second of both versions together.
    latency_ratio : float
        Canary's latency divided by the stable version's.
    score_shift : float
        Added to the log-odds of the canary's scores.
    requests_per_user : float
        Mean number of requests a user sends at once, geometric; all of a user's requests fail or none does, and
        all have one score: the hardest case for tests that count requests.
    """

    stable_error: float
    canary_error: float
    rate: float
    latency_ratio: float = 1.0
    score_shift: float = 0.0
    requests_per_user: float = 1.0

    def __post_init__(self) -> None:
        for name in ("stable_error", "canary_error"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise BadRequestError(f"{name} must lie between 0 and 1, got {getattr(self, name):g}")
        for name, low in (("rate", 0.0), ("latency_ratio", 0.0), ("requests_per_user", 1.0)):
            value = getattr(self, name)
            if not math.isfinite(value) or value < low or value == 0.0:
                raise BadRequestError(f"{name} must be a number {f'from {low:g}' if low else 'above 0'}, got {value:g}")
        if not math.isfinite(self.score_shift):
            raise BadRequestError(f"score_shift must be a number, got {self.score_shift:g}")

    @property
    def is_equal(self) -> bool:
        """Whether the canary is no worse, so that every rollback is a false one."""
        return self.canary_error <= self.stable_error and self.latency_ratio <= 1.0 and self.score_shift == 0.0


@dataclass(frozen=True, slots=True)
class SimulatedRun:
    """How one simulated rollout ended: how, why, after how many canary requests and seconds, at which step."""

    end: End
    why: str
    n_canary: int
    seconds: float
    step: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What many runs say; each share and median comes with its 95 % interval.

    Attributes
    ----------
    n_runs : int
    shares : dict of str to (share, low, high)
        By end.
    causes : dict of str to int
        Rollbacks by metric.
    canary_requests : (median, low, high) or None
        Canary requests until rollback.
    seconds_to_rollback, seconds_to_promotion : (median, low, high) or None
    """

    n_runs: int
    shares: dict[str, tuple[float, float, float]]
    causes: dict[str, int]
    canary_requests: tuple[float, float, float] | None
    seconds_to_rollback: tuple[float, float, float] | None
    seconds_to_promotion: tuple[float, float, float] | None


def simulate_plan(
    plan: Plan,
    assumed: Assumptions,
    n_runs: int,
    seed: int,
    *,
    n_workers: int = 1,
    report: Callable[[int], None] = lambda _: None,
) -> list[SimulatedRun]:
    """Run a plan `n_runs` times; run k depends on the seed and on k alone, not on the number of workers.

    Parameters
    ----------
    n_workers : int
        Processes; 1 runs here.
    report : callable
        Told the number of finished runs.
    """
    chunks = [range(k, min(k + _CHUNK, n_runs)) for k in range(0, n_runs, _CHUNK)]
    work = functools.partial(_run_chunk, plan, assumed, seed)
    runs: list[SimulatedRun] = []
    with contextlib.ExitStack() as stack:
        done: Iterator[list[SimulatedRun]] = map(work, chunks)
        if n_workers > 1:
            context = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(n_workers, mp_context=context))
            done = pool.map(work, chunks)
        for chunk in done:
            runs += chunk
            report(len(runs))
    return runs


def _run_chunk(plan: Plan, assumed: Assumptions, seed: int, chunk: range) -> list[SimulatedRun]:
    return [simulate_run(plan, assumed, np.random.default_rng((seed, k))) for k in chunk]


def simulate_run(plan: Plan, assumed: Assumptions, rng: np.random.Generator) -> SimulatedRun:
    """Run a plan once, from a canary that is ready to its end or to the first pause."""
    tick_s = min((metric.interval_s for metric in plan.metrics), default=max(plan.interval_s, 1.0))
    state = move_state(RolloutState(STABLE, CANARY), Phase.DEPLOYING, 0.0, "simulated")
    decision = decide(plan, state, Observations(), 0.0)
    now_s, share, intervals = 0.0, -1.0, iter(())  # type: tuple[float, float, Iterator[Interval]]
    for _ in range(MAX_INTERVALS):
        if decision.state.phase is not Phase.PROGRESSING:
            break
        if share != canary_share(plan, decision.state):
            share = canary_share(plan, decision.state)
            intervals = draw_intervals(assumed, share, tick_s, rng)
        now_s += tick_s
        decision = decide(plan, decision.state, Observations((next(intervals),)), now_s)
    return _end_run(decision, now_s)


def summarise_runs(runs: Sequence[SimulatedRun]) -> Summary:
    """Return shares and medians with their intervals."""
    ends = Counter(run.end for run in runs)
    back = [run for run in runs if run.end == "rolled_back"]
    return Summary(
        n_runs=len(runs),
        shares={
            end: share_interval(ends[end], len(runs)) for end in ("promoted", "rolled_back", "paused", "unfinished")
        },
        causes=dict(Counter(run.why.split(":", 1)[0] for run in back)),
        canary_requests=median_interval([run.n_canary for run in back]),
        seconds_to_rollback=median_interval([run.seconds for run in back]),
        seconds_to_promotion=median_interval([run.seconds for run in runs if run.end == "promoted"]),
    )


def _end_run(decision: Decision, now_s: float) -> SimulatedRun:
    ends: dict[Phase, End] = {
        Phase.PROMOTING: "promoted",
        Phase.ROLLED_BACK: "rolled_back",
        Phase.PAUSED: "paused",
        Phase.PROGRESSING: "unfinished",
    }
    state = decision.state
    return SimulatedRun(ends[state.phase], decision.why, state.errors.n_canary, now_s, state.step)


def draw_intervals(assumed: Assumptions, share: float, tick_s: float, rng: np.random.Generator) -> Iterator[Interval]:
    """Yield interval after interval of a canary with a share (0-1), each `tick_s` seconds long."""
    shares = {CANARY: share, STABLE: 1.0 - share}
    slow = math.log(assumed.latency_ratio)
    while True:
        n_users = assumed.rate * tick_s / assumed.requests_per_user
        canary = _draw_arm(assumed, n_users * share, assumed.canary_error, (slow, assumed.score_shift), rng)
        stable = _draw_arm(assumed, n_users * (1 - share), assumed.stable_error, (0.0, 0.0), rng)
        for one, other in zip(canary, stable, strict=True):
            yield Interval(shares, {CANARY: one, STABLE: other})


def _draw_arm(
    assumed: Assumptions, n_users: float, error: float, shifts: tuple[float, float], rng: np.random.Generator
) -> list[ArmCounters]:
    """Draw `BLOCK` intervals of one version, user by user."""
    tick = np.repeat(np.arange(BLOCK), rng.poisson(n_users, BLOCK))
    n = len(tick)
    size = rng.geometric(1.0 / assumed.requests_per_user, n) if assumed.requests_per_user > 1 else np.ones(n, np.int64)
    group, is_error = rng.integers(0, N_GROUPS, n), rng.random(n) < error
    logit = rng.normal(SCORE_LOGIT_MEAN + shifts[1], SCORE_LOGIT_SIGMA, n)
    score_bin = np.floor((logit + SCORE_LOGIT_MAX) * (N_SCORE_BINS / (2 * SCORE_LOGIT_MAX)))
    score_bin = np.clip(score_bin, 0, N_SCORE_BINS - 1).astype(np.int64)
    answered, probability = np.where(is_error, 0, size), 1.0 / (1.0 + np.exp(-logit))
    n_answered = _count(tick, 1, answered)[:, 0]
    mean = math.log(LATENCY_MEDIAN_S) + shifts[0]
    log_sum = rng.normal(n_answered * mean, LATENCY_SIGMA * np.sqrt(n_answered))
    within = LATENCY_SIGMA**2 * rng.chisquare(np.maximum(n_answered - 1, 1)) * (n_answered > 1)
    squares = within + log_sum**2 / np.maximum(n_answered, 1)
    columns = {
        "n_requests": _count(tick, 1, size)[:, 0],
        "n_errors": _count(tick, 1, size * is_error)[:, 0],
        "n_latencies": n_answered,
        "log_latency_sum": log_sum,
        "log_latency_squares": squares,
        "n_scores": n_answered,
        "score_sum": np.bincount(tick, answered * probability, BLOCK),
        "score_squares": np.bincount(tick, answered * probability**2, BLOCK),
        "score_bins": _count(tick * N_SCORE_BINS + score_bin, N_SCORE_BINS, answered),
        "group_requests": _count(tick * N_GROUPS + group, N_GROUPS, size),
        "group_errors": _count(tick * N_GROUPS + group, N_GROUPS, size * is_error),
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [ArmCounters(**dict(zip(columns, row, strict=True)), routed={"user-hash": row[0]}) for row in rows]


def _count(index: NDArray[np.int64], width: int, weight: NDArray[Any]) -> NDArray[np.int64]:
    return np.bincount(index, weight, BLOCK * width).astype(np.int64).reshape(BLOCK, width)
