"""What replicas count, exported by Ray in Prometheus' format; docs/metrics.md lists it for people.

Never a label by user or request: a label's values stay few.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from ray import serve
from ray.serve import metrics

from serve_app.deployments.calls.handles import parse_pool_app, parse_version_app
from serve_app.features.core.encoding import EncodedBatch
from serve_app.features.core.input_counts import count_inputs
from serve_app.history.core.lookup_status import HISTORY_STATUSES
from serve_app.history.service.reader import RowHistories
from serve_app.http.admission import Meter
from serve_app.jobs.service.ports import JobMeter

METRICS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "scorecat_encoded_rows_total": ("Rows that came to an Encoder.", ("model", "version")),
    "scorecat_input_values_total": (
        "Values that were defaulted, unseen, or made their row be rejected.",
        ("model", "version", "feature", "kind"),
    ),
    "scorecat_history_rows_total": (
        "Rows by what became of their look-up in the state.",
        ("model", "version", "kind"),
    ),
    "scorecat_history_age_seconds": (
        "Time since the latest event of its session, of rows that were looked up (a sample).",
        ("model", "version"),
    ),
    "scorecat_events_total": ("Shop events by what became of them.", ("route", "kind")),
    "scorecat_event_delay_seconds": ("Age at arrival of the newest event of a request.", ("route",)),
    "scorecat_requests_total": ("Requests answered, by version where one answered.", ("route", "status", "version")),
    "scorecat_request_seconds": ("Time from a request to its answer (a sample).", ("route", "version")),
    "scorecat_problems_total": ("Requests answered with a problem.", ("route", "code")),
    "scorecat_ignored_columns_total": ("Columns of tables that are no feature.", ("route",)),
    "scorecat_job_rows_total": ("Rows that batch jobs scored or rejected.", ("model", "version", "kind")),
    "scorecat_jobs_ended_total": ("Batch jobs that ended, by how.", ("kind",)),
    "scorecat_jobs": ("Batch jobs that wait or run now.", ("kind",)),
}
"""Description and labels by name. Ray puts ``ray_`` before the name and adds its own labels."""
DURATIONS_S: Final = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 60)
"""Bounds of the histogram of durations."""
SAMPLED_DURATIONS: Final = 100
"""Durations of a route and version that a Gateway tells Ray of at once; counts are exact."""
AGES_S: Final = (1, 10, 60, 300, 1_800, 3_600, 21_600, 86_400, 604_800, 2_592_000)
"""Bounds of the histograms of ages."""
SAMPLED_AGES: Final = 32
"""Ages an Encoder tells Ray of at once: each costs 8 us."""
FLUSH_S: Final = 1.0
"""How long counts of an Encoder are kept before Ray is told."""
KEPT_ROWS: Final = 16_384
"""Most rows that are kept before they are counted (about 2 MB)."""


def create_metric(name: str) -> Any:
    """Return the counter, histogram or level of `METRICS` that a name's ending says; works inside a replica."""
    description, labels = METRICS[name]
    if name.endswith("_total"):
        return metrics.Counter(name, description=description, tag_keys=labels)
    if name.endswith("_seconds"):
        bounds = list(DURATIONS_S if name == "scorecat_request_seconds" else AGES_S)
        return metrics.Histogram(name, description=description, boundaries=bounds, tag_keys=labels)
    return metrics.Gauge(name, description=description, tag_keys=labels)


Create = Callable[[str], Any]
"""Makes the metric of a name, see `create_metric`."""


class InputMeter:
    """Counts what an Encoder did with the values of its rows.

    Batches are only kept by `note` and counted together: a microsecond a batch, while counting each
    and telling Ray of it (8 us a label set) would take as long as encoding it.

    Parameters
    ----------
    names : sequence of str
        The model's features, in its order.
    model : str
    version : int
    create : callable
    """

    def __init__(self, names: Sequence[str], model: str, version: int, create: Create = create_metric) -> None:
        self._names = names
        self._tags = {"model": model, "version": str(version)}
        self._rows = create("scorecat_encoded_rows_total")
        self._values = create("scorecat_input_values_total")
        self._histories = create("scorecat_history_rows_total")
        self._ages = create("scorecat_history_age_seconds")
        self._statuses: NDArray[np.int64] = np.zeros(len(HISTORY_STATUSES), dtype=np.int64)
        self._kept_ages_s: list[NDArray[np.float64]] = []
        self._kept: list[EncodedBatch] = []
        self._n_kept = 0
        self._n_rows = 0
        self._counted: Counter[tuple[str, str]] = Counter()
        self._is_due = False

    def note(self, encoded: EncodedBatch, found: RowHistories | None = None) -> None:
        """Count a batch and what was known of its rows; Ray is told within `FLUSH_S`. Call it on the event loop."""
        if not self._is_due:
            asyncio.get_running_loop().call_later(FLUSH_S, self.flush)
            self._is_due = True
        if found is not None:
            self._statuses += np.bincount(found.statuses, minlength=len(HISTORY_STATUSES))
            if len(found.ages_s) and len(self._kept_ages_s) < SAMPLED_AGES:
                self._kept_ages_s.append(found.ages_s)
        self._kept.append(encoded)
        self._n_kept += len(encoded.rows) + len(encoded.errors)
        if self._n_kept >= KEPT_ROWS:
            self._count()

    def flush(self) -> None:
        """Tell Ray, with one increment for each label set that is above 0."""
        self._count()
        if self._n_rows:
            self._rows.inc(self._n_rows, self._tags)
        for (feature, kind), n in self._counted.items():
            self._values.inc(n, {**self._tags, "feature": feature, "kind": kind})
        self._n_rows, self._counted, self._is_due = 0, Counter(), False
        for status, n in zip(HISTORY_STATUSES, self._statuses.tolist(), strict=True):
            if n:
                self._histories.inc(n, {**self._tags, "kind": status})
        if self._kept_ages_s:
            ages_s = np.concatenate(self._kept_ages_s)
            for age_s in ages_s[:: -(-len(ages_s) // SAMPLED_AGES)].tolist():
                self._ages.observe(age_s, self._tags)
        self._statuses[:] = 0
        self._kept_ages_s = []

    def _count(self) -> None:
        found = count_inputs(self._names, self._kept)
        self._n_rows += found.n_rows
        self._counted.update(found.values)
        self._kept, self._n_kept = [], 0


def create_input_meter(names: Sequence[str]) -> InputMeter:
    """Return the meter of the Encoder replica this runs in; its application's name says model and version."""
    app = serve.get_replica_context().app_name
    model, version = parse_version_app(app) or parse_pool_app(app) or (app, 0)
    return InputMeter(names, model, version)


class RayJobMeter(JobMeter):
    """Counts what the control app reads in the records of batch jobs."""

    def __init__(self, create: Create = create_metric) -> None:
        self._rows = create("scorecat_job_rows_total")
        self._ended = create("scorecat_jobs_ended_total")
        self._jobs = create("scorecat_jobs")

    def count_rows(self, model: str, version: int, kind: str, n: int) -> None:
        """Count rows that were scored or rejected."""
        self._rows.inc(n, {"model": model, "version": str(version), "kind": kind})

    def count_ended(self, kind: str) -> None:
        """Count a job that ended, by its state."""
        self._ended.inc(1, {"kind": kind})

    def set_jobs(self, kind: str, n: int) -> None:
        """Note how many jobs are queued, starting or running."""
        self._jobs.set(n, {"kind": kind})


class HttpMeter(Meter):
    """Counts what a Gateway answers, refuses and ignores; Ray is told of requests once a second."""

    def __init__(self, create: Create = create_metric) -> None:
        self._problems = create("scorecat_problems_total")
        self._ignored = create("scorecat_ignored_columns_total")
        self._events = create("scorecat_events_total")
        self._delays = create("scorecat_event_delay_seconds")
        self._requests = create("scorecat_requests_total")
        self._durations = create("scorecat_request_seconds")
        self._counted: Counter[tuple[str, int, int | None]] = Counter()
        self._kept_s: dict[tuple[str, int | None], list[float]] = {}
        self._is_due = False

    def count_request(self, route: str, status: int, version: int | None, duration_s: float) -> None:
        """Count an answered request, about a microsecond. Call it on the event loop."""
        if not self._is_due:
            asyncio.get_running_loop().call_later(FLUSH_S, self._flush)
            self._is_due = True
        self._counted[route, status, version] += 1
        self._kept_s.setdefault((route, version), []).append(duration_s)

    def _flush(self) -> None:
        counted, self._counted = self._counted, Counter()
        kept_s, self._kept_s = self._kept_s, {}
        self._is_due = False
        for (route, status, version), n in counted.items():
            self._requests.inc(n, {"route": route, "status": str(status), "version": _name_version(version)})
        for (route, version), durations_s in kept_s.items():
            step = -(-len(durations_s) // SAMPLED_DURATIONS)
            for duration_s in durations_s[::step]:
                self._durations.observe(duration_s, {"route": route, "version": _name_version(version)})

    def count_problem(self, route: str, code: str) -> None:
        """Count an answer with a problem."""
        self._problems.inc(1, {"route": route, "code": code})

    def count_ignored_columns(self, route: str, n: int) -> None:
        """Count columns of a table that are no feature."""
        self._ignored.inc(n, {"route": route})

    def count_events(self, route: str, kind: str, n: int) -> None:
        """Count shop events by what became of them."""
        self._events.inc(n, {"route": route, "kind": kind})

    def note_delay(self, route: str, delay_s: float) -> None:
        """Keep how old the newest event of a request was when it arrived."""
        self._delays.observe(delay_s, {"route": route})


def _name_version(version: int | None) -> str:
    return "" if version is None else str(version)
