"""Routes of rollouts on the real use case, without a cluster."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from serve_app.http.admission import MAX_RECORD_BYTES
from serve_app.http.app import create_app
from serve_app.http.operator.rollout_schemas import (
    RolloutHistory,
    RolloutList,
    RolloutView,
    ServedModels,
)
from serve_app.http.operator.rollouts import describe_split
from serve_app.scoring.service.traffic import Traffic
from tests.testing_kit import MemoryAccessLog, MemorySplit
from tests.testing_kit.rollouts.control import AppTransport, LocalRollouts
from tests.testing_kit.rollouts.rollouts import RolloutWorld

pytestmark = pytest.mark.unit

PLAN = {"steps": [10, 50, 100], "interval": "5s", "bake_time_s": 10, "metrics": {}}


class Shop:
    """An operator's HTTP client of a service whose control app is here."""

    def __init__(self, world: RolloutWorld) -> None:
        self.world = world
        self.rollouts: LocalRollouts | None = LocalRollouts(world.control)
        self.http = httpx.Client(transport=AppTransport(self.make_app), base_url="http://shop")

    def make_app(self):
        traffic = Traffic(MemorySplit(), None)
        return create_app(traffic, MemoryAccessLog(), timeout_s=1, rollouts=self.rollouts)

    def post(self, path: str = "/v1/rollouts", body=None, **options) -> httpx.Response:
        return self.http.post(path, json=body, **options)

    def start(self, **members) -> dict:
        answer = self.post(body={"version": 2, "plan": PLAN, **members})
        assert answer.status_code == 201, answer.text
        return answer.json()


@pytest.fixture
def shop(tmp_path, package_dir) -> Shop:
    return Shop(RolloutWorld(tmp_path, package_dir))


def assert_problem(answer: httpx.Response, status: int, *pointers: str) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert [e["pointer"] for e in problem.get("errors", [])] == list(pointers)
    return problem


def test_a_rollout_is_created_with_its_address_and_can_be_read_there(shop):
    answer = shop.post(body={"version": 2, "plan": PLAN, "who": "anna", "why": "retrained"})
    assert answer.status_code == 201
    assert answer.headers["location"] == "/v1/rollouts/1"
    found = shop.http.get(answer.headers["location"]).json()
    assert (found["phase"], found["version"], found["stable"]) == ("deploying", 2, 1)
    assert found["steps"] == [10, 50, 100]
    RolloutView.model_validate(found)
    changes = shop.http.get("/v1/rollouts/1/history").json()
    RolloutHistory.model_validate(changes)
    assert [(c["who"], c["from"], c["to"], c["why"]) for c in changes["changes"]] == [
        ("anna", "", "deploying", "retrained")
    ]


def test_who_is_http_when_nobody_says_so(shop):
    shop.start()
    assert shop.http.get("/v1/rollouts/1/history").json()["changes"][0]["who"] == "http"


def test_rollouts_are_listed_newest_first_and_no_more_than_asked_for(shop):
    for _ in range(3):
        shop.post(f"/v1/rollouts/{shop.start()['id']}/abort")
    listed = shop.http.get("/v1/rollouts?limit=2").json()
    RolloutList.model_validate(listed)
    assert [r["id"] for r in listed["rollouts"]] == [3, 2]
    assert shop.http.get("/v1/rollouts?model=other").json() == {"rollouts": []}


def test_a_rollout_obeys_every_command_its_phase_allows(shop):
    number = shop.start()["id"]
    shop.world.run_until(number, "progressing")
    for command, phase in [
        ("pause", "paused"), ("resume", "progressing"), ("promote", "promoting"), ("abort", "rolled_back"),
    ]:  # fmt: skip
        answer = shop.post(f"/v1/rollouts/{number}/{command}", {"who": "anna", "why": f"try {command}"})
        assert (answer.status_code, answer.json()["phase"]) == (200, phase)
    changes = shop.http.get(f"/v1/rollouts/{number}/history").json()["changes"]
    assert [c["who"] for c in changes if c["to"] == "paused"] == ["anna"]


def test_a_command_needs_no_body(shop):
    number = shop.start()["id"]
    assert shop.http.post(f"/v1/rollouts/{number}/abort").status_code == 200


def test_a_command_that_the_phase_does_not_allow_is_a_conflict_that_says_what_is_possible(shop):
    number = shop.start()["id"]
    assert "abort" in assert_problem(shop.post(f"/v1/rollouts/{number}/resume"), 409)["detail"]


def test_a_second_rollout_is_a_conflict(shop):
    shop.start()
    problem = assert_problem(shop.post(body={"version": 3}), 409)
    assert problem["type"] == "urn:scorecat:problem:conflict"
    assert "rollout 1" in problem["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/rollouts/9"), ("GET", "/v1/rollouts/9/history"), ("POST", "/v1/rollouts/9/abort")],
)
def test_an_unknown_rollout_is_not_found(shop, method, path):
    assert_problem(shop.http.request(method, path), 404)


def test_an_unknown_version_or_alias_is_not_found_and_the_stable_one_is_refused(shop):
    assert_problem(shop.post(body={"version": 99}), 404)
    assert_problem(shop.post(body={"version": "challenger"}), 404)
    assert_problem(shop.post(body={"version": "champion"}), 400)
    assert shop.http.get("/v1/rollouts").json() == {"rollouts": []}


def test_a_damaged_package_is_named_and_nothing_changes(shop):
    model = shop.world.registry.locate("purchase", 2) / "model.cbm"
    model.write_bytes(model.read_bytes()[:-1])
    assert "model.cbm" in assert_problem(shop.post(body={"version": 2}), 400)["detail"]
    assert shop.http.get("/v1/rollouts").json() == {"rollouts": []}


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/version"]),
        ({"version": 2, "vershun": 3}, ["/vershun"]),
        ({"version": True}, ["/version"]),
        ({"version": 2, "plan": {"steps": [50, 10], "alpha": 1}}, ["/plan/steps", "/plan/alpha"]),
        ({"version": 2, "plan": {"metrics": {"errors": {"alpha": 2}}}}, ["/plan/metrics/errors/alpha"]),
        ({"version": 2, "plan": [1]}, ["/plan"]),
        ({"version": 2, "share": 0.1}, ["/share"]),
        ({"version": 2, "kind": "shadow", "plan": {}}, ["/plan"]),
        ({"version": 2, "kind": "shadow", "share": 0}, ["/share"]),
        ({"version": 2, "kind": "shadow", "allow": ["anna"]}, ["/allow"]),
        ({"kind": "ab"}, ["/shares"]),
        ({"shares": {"1": 50, "x": 50}}, ["/shares"]),
        ({"shares": {"1": 50, "2": "half"}}, ["/shares"]),
        ({"version": 2, "kind": "blue-green"}, ["/kind"]),
        ({"version": 2, "allow": ["", "x"]}, ["/allow"]),
        ({"version": 2, "who": 7}, ["/who"]),
        ({"version": 2, "why": "x" * 2_001}, ["/why"]),
    ],
)  # fmt: skip
def test_everything_that_is_wrong_with_a_request_is_named(shop, body, pointers):
    assert_problem(shop.post(body=body), 422, *pointers)
    assert shop.http.get("/v1/rollouts").json() == {"rollouts": []}


def test_a_command_takes_nothing_but_who_and_why(shop):
    number = shop.start()["id"]
    assert_problem(shop.post(f"/v1/rollouts/{number}/abort", {"force": True}), 422, "/force")
    assert shop.http.get(f"/v1/rollouts/{number}").json()["is_active"]


@pytest.mark.parametrize(
    ("content", "media", "status"),
    [
        (b"{", "application/json", 400),
        (b"[1]", "application/json", 400),
        (b'{"version":2}', "text/csv", 415),
        (b" " * (MAX_RECORD_BYTES + 1), "application/json", 413),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(shop, content, media, status):
    assert_problem(shop.http.post("/v1/rollouts", content=content, headers={"content-type": media}), status)


@pytest.mark.parametrize("number", ["0", "-1", "x", str(2**63), str(10**30)])
def test_a_number_that_no_rollout_has_is_refused(shop, number):
    assert_problem(shop.http.get(f"/v1/rollouts/{number}"), 422, "/path/rollout_id")


def test_an_ab_test_and_a_shadow_can_be_started(shop):
    ab = shop.post(body={"shares": {"1": 50, "2": 50}}).json()
    assert (ab["kind"], ab["shares"]) == ("ab", {"1": 50.0, "2": 50.0})
    shop.post(f"/v1/rollouts/{ab['id']}/abort")
    shadow = shop.post(body={"kind": "shadow", "version": "3", "share": 0.25}).json()
    assert (shadow["kind"], shadow["version"], shadow["copied_share"]) == ("shadow", 3, 0.25)
    RolloutView.model_validate(shadow)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/rollouts"), ("GET", "/v1/rollouts/1"), ("GET", "/v1/rollouts/1/history"),
        ("POST", "/v1/rollouts"), ("POST", "/v1/rollouts/1/promote"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("how", ["away", "none"])
def test_without_the_control_app_every_route_says_when_to_try_again(shop, method, path, how):
    if how == "none":
        shop.rollouts = None
    else:
        shop.rollouts.is_away = True
    answer = shop.http.request(method, path, json={"version": 2} if path.endswith("rollouts") else None)
    assert_problem(answer, 503)
    assert int(answer.headers["retry-after"]) >= 1


def test_the_served_model_is_listed_with_the_share_of_each_version(shop):
    number = shop.start()["id"]
    shop.world.run_until(number, "progressing")
    found = {"models": [describe_split(shop.world.split)]}
    ServedModels.model_validate(found)
    assert found["models"][0]["versions"] == [
        {"version": 1, "role": "stable", "share": 0.9, "copied_share": 0.0},
        {"version": 2, "role": "canary", "share": 0.1, "copied_share": 0.0},
    ]


def test_a_version_that_is_kept_to_be_taken_back_stands_by(shop):
    number = shop.start()["id"]
    shop.world.run_until(number, "succeeded")
    versions = describe_split(shop.world.split)["versions"]
    assert [(v["version"], v["role"], v["share"]) for v in versions] == [(1, "standby", 0.0), (2, "stable", 1.0)]


def test_models_are_listed_from_the_split_that_a_gateway_follows(package):
    from tests.testing_kit import make_scorer, make_traffic

    async def main():
        scorer, _, _ = make_scorer(package, version=3)
        app = create_app(await make_traffic(scorer), MemoryAccessLog(), timeout_s=1)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
            return await client.get("/v1/models")

    (model,) = asyncio.run(main()).json()["models"]
    assert (model["name"], model["stable"], model["pins"]) == ("purchase", 3, False)
    assert model["versions"] == [{"version": 3, "role": "stable", "share": 1.0, "copied_share": 0.0}]


def test_before_a_split_is_known_models_say_when_to_try_again(shop):
    assert_problem(shop.http.get("/v1/models"), 503)


def test_every_command_is_documented_with_its_body_and_answers(shop):
    document = shop.http.get("/openapi.json").json()
    for command in ("pause", "resume", "promote", "abort"):
        operation = document["paths"][f"/v1/rollouts/{{rollout_id}}/{command}"]["post"]
        assert operation["summary"]
        assert operation["requestBody"]["required"] is False
        assert {"200", "400", "404", "409", "422", "503"} <= set(operation["responses"])
    start = document["paths"]["/v1/rollouts"]["post"]
    assert start["requestBody"]["required"] is True
    assert {"201", "400", "404", "409", "422", "503"} <= set(start["responses"])
    schema = document["components"]["schemas"]["StartBody"]
    assert set(schema["properties"]) == {
        "version", "model", "kind", "plan", "shares", "share", "allow", "who", "why",
    }  # fmt: skip
    for example in schema["examples"]:
        assert shop.post(body={**json.loads(json.dumps(example)), "version": 2}).status_code == 201


@pytest.mark.parametrize("name", ["steps", "interval_s", "webhook", "metrics", "what"])
def test_a_member_that_is_nested_deeply_is_refused(shop, name):
    deep = b'{"version": 2, "plan": {"%b": %b}}' % (name.encode(), b"[" * 990 + b"]" * 990)
    answer = shop.http.post("/v1/rollouts", content=deep, headers={"content-type": "application/json"})
    assert_problem(answer, 422, f"/plan/{name}")


@pytest.mark.parametrize("name", ["version", "allow", "shares", "kind", "who"])
def test_a_member_beside_the_plan_that_is_nested_deeply_is_refused(shop, name):
    deep = b'{"version": 2, "%b": %b}' % (name.encode(), b"[" * 990 + b"]" * 990)
    answer = shop.http.post("/v1/rollouts", content=deep, headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text


@pytest.mark.parametrize("members", [{"initialDelay": 1e12}, {"rollback_window_s": 1e300}, {"interval_s": 1e15}])
def test_times_that_no_rollout_can_have_are_refused(shop, members):
    assert_problem(shop.post(body={"version": 2, "plan": members}), 422, f"/plan/{next(iter(members))}")
