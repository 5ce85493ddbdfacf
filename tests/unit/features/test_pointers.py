"""Every pointer of a refusal leads to what is there, or to what a member is missing in (RFC 6901)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.errors import MAX_POINTED, point_at
from serve_app.features.core.specs import FeatureSpec
from serve_app.http.app import create_app
from serve_app.http.schemas import EXAMPLE_REQUEST
from serve_app.models.core.manifest import Manifest
from serve_app.models.service.ports import Package
from serve_app.scoring.service.traffic import Traffic
from tests.testing_kit import MemoryAccessLog, MemorySplit
from tests.testing_kit.deployments.calls import AppCalls
from tests.testing_kit.history.live import LiveService
from tests.testing_kit.jobs.jobs import JobWorld
from tests.testing_kit.rollouts.control import AppTransport, LocalJobs, LocalRollouts
from tests.testing_kit.rollouts.rollouts import RolloutWorld

pytestmark = pytest.mark.unit

ODD_NAMES = ("debt/income", 'a~b "q"', " Ünïcode name\t", "~1", "/", "", "0", "a/b~c/")
MISSING = object()


def follow(document: Any, pointer: str) -> Any:
    """What a pointer leads to, `MISSING` when only the last member is; fails when the way there is none."""
    found = document
    parts = pointer.split("/")
    assert parts[0] == ""
    for k, part in enumerate(parts[1:], 1):
        assert "~" not in part.replace("~0", "").replace("~1", "")
        name = part.replace("~1", "/").replace("~0", "~")
        is_last = k == len(parts) - 1
        if isinstance(found, list):
            assert name.isdecimal()
            assert int(name) < len(found)
            found = found[int(name)]
        else:
            assert isinstance(found, dict), f"{pointer} leads nowhere"
            assert name in found or is_last, f"{pointer} leads nowhere"
            found = found.get(name, MISSING)
    return found


@given(st.lists(st.one_of(st.text(max_size=MAX_POINTED), st.integers(0, 10**6)), max_size=5))
def test_a_pointer_leads_to_the_member_it_was_made_for(parts):
    document: Any = "here"
    for part in reversed(parts):
        document = {str(part): document}
    assert follow(document, point_at(*parts)) == "here"


def test_a_name_too_long_to_repeat_is_pointed_at_by_what_holds_it():
    assert point_at("metrics", "x" * MAX_POINTED + "y", "limit") == "/metrics"


class SumModel:
    """Scores that tell rows apart."""

    def predict(self, matrix, strings=None):
        return matrix.sum(axis=1)


@pytest.fixture(scope="module")
def odd() -> Iterator[AppCalls]:
    """A model whose inputs have every name that a pointer has to escape."""
    features = tuple(FeatureSpec(name, "numeric", "", on_null="nan") for name in ODD_NAMES)
    manifest = Manifest("odd", "2026-01-01T00:00:00Z", "regression", features)
    with AppCalls(Package(manifest, {}, pa.table({}), pa.table({}), SumModel())) as opened:
        yield opened


@pytest.fixture(scope="module")
def shop(package) -> Iterator[AppCalls]:
    with AppCalls(package) as opened:
        yield opened


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("key", ["dataframe_records", "instances", "inputs"])
def test_a_bad_value_of_any_name_is_pointed_at_in_the_rows(odd, name, key):
    rows = [dict.fromkeys(ODD_NAMES, 1.0) for _ in range(3)]
    rows[2][name] = "x"
    some = odd.post("/invocations", json.dumps({key: rows}).encode()).json()["errors"]
    assert [follow(rows, error["pointer"]) for error in some] == ["x"]
    every = odd.post("/invocations", json.dumps({key: rows[2:]}).encode())
    assert every.status_code == 422
    assert [follow(rows[2:], error["pointer"]) for error in every.json()["errors"]] == ["x"]


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("nested", [False, True])
def test_a_bad_value_of_any_name_is_pointed_at_in_the_tensors(odd, name, nested):
    value = ["x"] if nested else "x"
    others = [1.0] if nested else 1.0
    shape = [2, 1] if nested else [2]
    body = {
        "inputs": [
            {"name": each, "datatype": "FP64", "shape": shape, "data": [value if each == name else others] * 2}
            for each in ODD_NAMES
        ]
    }
    answer = odd.post("/v2/models/odd/infer", json.dumps(body).encode())
    assert answer.status_code == 422
    assert [follow(body, error["pointer"]) for error in answer.json()["errors"]] == [value, value]
    assert all(error["detail"].startswith(name) for error in answer.json()["errors"])


def test_a_datatype_that_cannot_be_is_pointed_at_by_the_place_of_its_input(odd):
    body = {"inputs": [{"name": n, "datatype": "FP64", "shape": [1], "data": [1]} for n in ODD_NAMES]}
    body["inputs"][3]["datatype"] = "BYTES"
    for datatype in ("BYTES", "FP64"):
        body["inputs"][3]["datatype"] = datatype
        answer = odd.post("/v2/models/odd/infer", json.dumps(body).encode())
        assert answer.status_code == (422 if datatype == "BYTES" else 200)
        if datatype == "BYTES":
            (error,) = answer.json()["errors"]
            assert error["pointer"] == "/inputs/3/datatype"
            assert follow(body, error["pointer"]) == "BYTES"
            assert ODD_NAMES[3] in error["detail"]


def test_a_value_of_a_binary_tensor_is_pointed_at_by_its_input(shop):
    body = {
        "inputs": [
            {"name": name, "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": 8}}
            for name in ("price", "hour", "day_of_week", "is_weekend")
        ]
    }
    head = json.dumps(body).encode()
    answer = shop.post("/v2/models/purchase/infer", head + bytes(32), Inference_Header_Content_Length=str(len(head)))
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert follow(body, error["pointer"])["name"] == "price"
    assert error["detail"].startswith("price ")


BAD_ROWS: list[Any] = [
    {},
    *({**EXAMPLE_REQUEST, name: value} for name in EXAMPLE_REQUEST for value in ([1], {"a": 1}, True, -1, "x" * 600)),
    *({n: v for n, v in EXAMPLE_REQUEST.items() if n != name} for name in EXAMPLE_REQUEST),
    {**EXAMPLE_REQUEST, "price": 1e300},
    {**EXAMPLE_REQUEST, "event_time": "soon", "observe": 3, "total_sessions": [], "category_id": -1},
]


@pytest.mark.parametrize("row", BAD_ROWS)
def test_the_pointers_of_a_bad_row_resolve(shop, row):
    answer = shop.post("/predict_purchase", json.dumps(row).encode())
    for error in answer.json().get("errors", []):
        found = follow(row, error["pointer"])
        assert (found is MISSING) == ("is required" in error["detail"] and "got" not in error["detail"])
    assert answer.status_code in {200, 422}


BAD_EVENTS: list[Any] = [
    {"event_type": 1},
    [{"event_type": 1}, {"price": "x"}, 3],
    [[]],
    {"event_time": True},
]


@pytest.mark.parametrize("events", BAD_EVENTS)
def test_the_pointers_of_bad_events_resolve(package, events):
    async def send() -> httpx.Response:
        async with LiveService(package) as service:
            return await service.client.post("/v1/events", json=events)

    answer = asyncio.run(send())
    assert answer.status_code == 422
    errors = answer.json()["errors"]
    assert len(errors) == (len(events) if isinstance(events, list) else 1)
    for k, error in enumerate(errors):
        assert follow(events, error["pointer"]) is (events[k] if isinstance(events, list) else events)


LONG = "x" * 300
BAD_ROLLOUTS: list[Any] = [
    {},
    {"vershun": 2, "a/b": 1, "~": 2, LONG: 3},
    {"version": {}, "kind": "no", "model": 7, "allow": [1.5], "who": 4, "why": []},
    {"version": 2, "plan": {"steps": [], "a/b": 1, LONG: 2, "metrics": {"err/ors": {}, "errors": {"a~b": 1}, "x": 3}}},
    {"version": 2, "plan": {"metrics": 3, "interval": "soon", "stop": 1, "webhook": "ftp://x"}},
    {"version": 2, "plan": []},
    {"kind": "ab", "share": 0.5, "plan": {}},
    {"kind": "ab", "shares": {"1": 50, "2": "x"}},
    {"kind": "shadow", "version": 2, "allow": ["u"], "shares": {"1": 1}},
]
BAD_JOBS: list[Any] = [
    {},
    {"inputt": "x", "in/put": 1, "~1": 2, LONG: 3},
    {"input": "", "output": [], "keep": [1], "mapping": {"a/b": 1}, "workers": 0, "pool": "x", "resume": 1},
    {"input": "x", "mapping": {"columns": {"a": 3}}, "explain": -1, "max_rejected": "lots", "partition_by": ["a,b"]},
]


@pytest.fixture
def control(tmp_path, package_dir) -> httpx.Client:
    rollouts = RolloutWorld(tmp_path / "rollouts", package_dir)
    jobs = JobWorld(tmp_path / "jobs")

    def make_app():
        apps = {"rollouts": LocalRollouts(rollouts.control), "jobs": LocalJobs(jobs.control)}
        return create_app(Traffic(MemorySplit(), None), MemoryAccessLog(), timeout_s=1, **apps)

    return httpx.Client(transport=AppTransport(make_app), base_url="http://shop")


def test_the_pointers_of_bad_commands_resolve(control):
    commands = [{"who": 1, "why": []}, {"a/b": 1, "~0": 2, LONG: 3}]
    bodies = [
        *(("/v1/rollouts", body) for body in BAD_ROLLOUTS),
        *(("/v1/jobs", body) for body in BAD_JOBS),
        *((path, body) for path in ("/v1/rollouts/1/abort", "/v1/jobs/j-1/cancel") for body in commands),
    ]
    for path, body in bodies:
        answer = control.post(path, json=body)
        assert answer.status_code == 422, (path, body, answer.text)
        errors = answer.json()["errors"]
        assert errors
        for error in errors:
            found = follow(body, error["pointer"])
            assert (found is MISSING) == ("is required" in error["detail"] or "is needed" in error["detail"]), error
