"""What replicas count: many batches at once, one increment a label set, nothing kept too long."""

from __future__ import annotations

import asyncio
import weakref
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from ray.serve import metrics as ray_metrics

from serve_app.deployments.calls.handles import parse_version_app, version_app
from serve_app.deployments.meters import (
    FLUSH_S,
    KEPT_ROWS,
    METRICS,
    SAMPLED_AGES,
    HttpMeter,
    InputMeter,
    RayJobMeter,
    create_metric,
)
from serve_app.features.core.encoding import FeatureEncoder
from serve_app.features.core.input_counts import KINDS, InputCounts, count_inputs
from serve_app.features.core.row_errors import RowError, add_unreadable, list_unreadable
from serve_app.features.core.specs import PURCHASE_FEATURES, PURCHASE_NAMES
from serve_app.history.core.lookup_status import FOUND, NEW, UNAVAILABLE
from serve_app.history.service.reader import RowHistories
from tests.testing_kit import VOCABULARIES, random_rows, run_virtual

pytestmark = pytest.mark.unit

ENCODER = FeatureEncoder(PURCHASE_FEATURES, VOCABULARIES)


class MemoryCounter:
    """Keeps increments by label set, and how many there were."""

    def __init__(self) -> None:
        self.n_calls = 0
        self.values: dict[tuple[tuple[str, str], ...], float] = {}

    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert value > 0
        self.n_calls += 1
        key = tuple(sorted(tags.items()))
        self.values[key] = self.values.get(key, 0) + value


class MemoryHistogram:
    """Keeps what was observed."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def observe(self, value: float, tags: dict[str, str]) -> None:
        self.values.append(value)


def remember_metrics(made: dict[str, Any]) -> tuple[dict[str, MemoryCounter], Callable[[str], Any]]:
    """Counters by name, and what makes them; other metrics are those in `made`, or kept nowhere."""
    counters: dict[str, MemoryCounter] = {}

    def create(name: str) -> Any:
        if name in made:
            return made[name]
        return counters.setdefault(name, MemoryCounter()) if name.endswith("_total") else MemoryHistogram()

    return counters, create


def make_meter() -> tuple[InputMeter, MemoryCounter, MemoryCounter]:
    counters, create = remember_metrics({})
    meter = InputMeter(PURCHASE_NAMES, "purchase", 7, create)
    return meter, counters["scorecat_encoded_rows_total"], counters["scorecat_input_values_total"]


def with_bad_rows(n: int, seed: int) -> pa.RecordBatch:
    """Rows some of which have no price, one of 0, or one that is text."""
    rows = random_rows(n, seed)
    price = rows.column("price").to_pylist()
    unread = []
    for i in range(0, n, 5):
        price[i] = [None, 0.0, None][i // 5 % 3]
        if i // 5 % 3 == 2:
            unread.append(RowError(i, "price", "must be a number, got 'x'", "type"))
    at = rows.schema.get_field_index("price")
    return add_unreadable(rows.set_column(at, "price", pa.array(price, pa.float64())), unread)


def count_slowly(batch: pa.RecordBatch) -> dict[tuple[str, str], int]:
    """The same counts, from the rows themselves."""
    found: dict[tuple[str, str], int] = {}
    unread = list_unreadable(batch)
    for i, row in enumerate(batch.to_pylist()):
        kinds = []
        if i in unread:
            kinds = [("price", "rejected_type")]
        elif row["price"] is None:
            kinds = [("price", "rejected_null")]
        elif row["price"] == 0:
            kinds = [("price", "rejected_range")]
        else:
            for spec in PURCHASE_FEATURES:
                if row[spec.name] is None:
                    kinds.append((spec.name, "defaulted"))
                elif spec.kind == "categorical" and row[spec.name] not in VOCABULARIES[spec.name]:
                    kinds.append((spec.name, "unseen"))
        for key in kinds:
            found[key] = found.get(key, 0) + 1
    return found


@pytest.mark.parametrize("size", [1, 7, 100, 5_000])
def test_counts_are_those_of_the_rows_whatever_batches_they_come_in(size):
    whole = with_bad_rows(5_000, seed=1)
    batches = [ENCODER.encode(whole.slice(at, size)) for at in range(0, 5_000 if size > 1 else 300, size)]
    counts = count_inputs(PURCHASE_NAMES, batches)
    expected = count_slowly(whole if size > 1 else whole.slice(0, 300))
    assert dict(counts.values) == expected
    assert counts.n_rows == (5_000 if size > 1 else 300)
    assert {kind for _, kind in counts.values} == set(KINDS) - {"rejected_unseen"}


def test_nothing_has_no_counts():
    assert count_inputs(PURCHASE_NAMES, []) == InputCounts(0, Counter())
    empty = ENCODER.encode(random_rows(1).slice(0, 0))
    assert count_inputs(PURCHASE_NAMES, [empty]).n_rows == 0
    assert not count_inputs(PURCHASE_NAMES, [empty]).values


def test_batches_of_a_second_are_told_with_one_increment_a_label_set():
    async def main() -> None:
        meter, rows, values = make_meter()
        batches = [with_bad_rows(10, seed) for seed in range(50)]
        for batch in batches:
            meter.note(ENCODER.encode(batch))
        assert rows.n_calls == values.n_calls == 0
        await asyncio.sleep(FLUSH_S + 0.001)
        assert rows.values == {(("model", "purchase"), ("version", "7")): 500}
        expected: dict[tuple[str, str], int] = {}
        for batch in batches:
            for key, n in count_slowly(batch).items():
                expected[key] = expected.get(key, 0) + n
        found = {(dict(key)["feature"], dict(key)["kind"]): n for key, n in values.values.items()}
        assert found == expected
        assert values.n_calls == len(expected)
        meter.note(ENCODER.encode(batches[0]))
        await asyncio.sleep(FLUSH_S + 0.001)
        assert rows.values == {(("model", "purchase"), ("version", "7")): 510}

    run_virtual(main())


def test_many_rows_are_not_kept_until_they_are_told_and_none_counts_twice():
    async def main() -> None:
        meter, rows, values = make_meter()
        part = ENCODER.encode(random_rows(1_024))
        gone = weakref.ref(part.matrix)
        n_batches = KEPT_ROWS // 1_024
        for _ in range(n_batches):
            meter.note(part)
        expected = count_inputs(PURCHASE_NAMES, [part]).values
        del part
        assert gone() is None
        await asyncio.sleep(5 * FLUSH_S)
        assert list(rows.values.values()) == [KEPT_ROWS]
        found = {(dict(key)["feature"], dict(key)["kind"]): n for key, n in values.values.items()}
        assert found == {key: n * n_batches for key, n in expected.items()}

    run_virtual(main())


def test_the_name_of_an_application_says_model_and_version():
    for name in ("purchase", "a-v2", "x-v"):
        assert parse_version_app(version_app(name, 12)) == (name, 12)


def test_rows_are_counted_by_what_became_of_their_look_up_and_ages_are_sampled():
    async def main():
        histories, ages = MemoryCounter(), MemoryHistogram()
        made = {"scorecat_history_rows_total": histories, "scorecat_history_age_seconds": ages}
        meter = InputMeter(PURCHASE_NAMES, "purchase", 7, remember_metrics(made)[1])
        statuses = np.array([FOUND] * 90 + [NEW, UNAVAILABLE] * 5, dtype=np.uint8)
        meter.note(ENCODER.encode(random_rows(100)), RowHistories({}, statuses, np.arange(90.0)))
        await asyncio.sleep(2 * FLUSH_S)
        assert {dict(key)["kind"]: n for key, n in histories.values.items()} == {
            "found": 90,
            "new": 5,
            "unavailable": 5,
        }
        assert 20 <= len(ages.values) <= SAMPLED_AGES
        meter.note(ENCODER.encode(random_rows(3)))
        await asyncio.sleep(2 * FLUSH_S)
        assert sum(histories.values.values()) == 100

    run_virtual(main())


def test_what_a_gateway_refuses_and_ignores_is_counted_by_route():
    counters, create = remember_metrics({})
    meter = HttpMeter(create)
    meter.count_problem("/invocations", "invalid-data")
    meter.count_problem("/invocations", "invalid-data")
    meter.count_ignored_columns("/invocations", 3)
    assert {name: counter.values for name, counter in counters.items()} == {
        "scorecat_problems_total": {(("code", "invalid-data"), ("route", "/invocations")): 2},
        "scorecat_ignored_columns_total": {(("route", "/invocations"),): 3},
        "scorecat_events_total": {},
        "scorecat_requests_total": {},
    }


def test_requests_are_counted_by_route_status_and_version_and_some_durations_kept():
    durations = MemoryHistogram()
    counters, create = remember_metrics({"scorecat_request_seconds": durations})
    meter = HttpMeter(create)

    async def main() -> None:
        for k in range(1_050):
            meter.count_request("/predict_purchase", 200, 3, k / 1_000)
        meter.count_request("other", 404, None, 0.5)
        await asyncio.sleep(2 * FLUSH_S)
        meter.count_request("other", 404, None, 0.5)
        await asyncio.sleep(2 * FLUSH_S)

    run_virtual(main())
    requests = counters["scorecat_requests_total"]
    assert requests.values == {
        (("route", "/predict_purchase"), ("status", "200"), ("version", "3")): 1_050,
        (("route", "other"), ("status", "404"), ("version", "")): 2,
    }
    assert requests.n_calls == 3
    assert len(durations.values) == 1_050 / 11 // 1 + 1 + 2
    assert durations.values[:3] == [0.0, 0.011, 0.022]


def test_jobs_are_counted_by_version_and_by_how_they_ended():
    levels: dict[str, float] = {}
    gauge = SimpleNamespace(set=lambda value, tags: levels.update({tags["kind"]: value}))
    made = {"scorecat_jobs": gauge}
    counters, create = remember_metrics(made)
    meter = RayJobMeter(create)
    meter.count_rows("purchase", 3, "scored", 5)
    meter.count_ended("died")
    meter.set_jobs("running", 2)
    assert {name: counter.values for name, counter in counters.items()} == {
        "scorecat_job_rows_total": {(("kind", "scored"), ("model", "purchase"), ("version", "3")): 5},
        "scorecat_jobs_ended_total": {(("kind", "died"),): 1},
    }
    assert levels == {"running": 2}


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_one_of_ray_s_with_the_labels_that_are_listed(name, monkeypatch):
    made = {}

    def remember(name: str, description: str, tag_keys: tuple[str, ...], **_: Any) -> str:
        made[name] = (description, tag_keys)
        return "metric"

    kind = "Gauge"
    if name.endswith("_total"):
        kind = "Counter"
    if name.endswith("_seconds"):
        kind = "Histogram"
    monkeypatch.setattr(ray_metrics, kind, remember)
    assert create_metric(name) == "metric"
    assert made == {name: METRICS[name]}


def test_what_a_reader_could_not_read_is_of_the_wrong_type_and_no_null():
    rows = random_rows(3, null_share=0.0)
    errors = (RowError(1, "total_sessions", "must be a number, got 'x'", "type"),)
    assert add_unreadable(rows, ()) is rows
    encoded = ENCODER.encode(add_unreadable(rows, errors))
    assert encoded.errors == errors
    assert encoded.rows.tolist() == [0, 2]
    assert np.isfinite(encoded.matrix).all()
    part = ENCODER.encode(add_unreadable(rows, errors).slice(1, 2))
    assert [e.row for e in part.errors] == [0]
