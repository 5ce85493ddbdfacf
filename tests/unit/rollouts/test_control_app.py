"""The shells of the control app, without Ray running: the handle to it, version apps, reports."""

from __future__ import annotations

import asyncio
import functools
import inspect
from types import SimpleNamespace

import numpy as np
import pytest
from ray import exceptions as ray_errors
from ray.serve import exceptions as serve_errors
from ray.serve._private.common import DeploymentID, ReplicaState
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview, DeploymentStatusOverview

from serve_app.deployments.apps import version_apps as version_apps_module
from serve_app.deployments.apps.apps import STATUS, await_apps, describe_app, to_state
from serve_app.deployments.apps.version_apps import ServeVersionApps
from serve_app.deployments.calls.handles import parse_version_app, version_app
from serve_app.deployments.control_app import ControlApp
from serve_app.deployments.control_handle import PRESENCE_TIMEOUT_S, ControlHandle
from serve_app.deployments.reporting import report_counts, take_reports
from serve_app.deployments.tenants import PROTOCOLS, list_methods
from serve_app.errors import (
    ConflictError,
    GoldenMismatchError,
    InvalidDataError,
    InvariantError,
    NotFoundError,
    NotReadyError,
    PackageError,
    ReplicaLostError,
)
from serve_app.features.core.encoding import FeatureEncoder
from serve_app.jobs.service.control import JobControl
from serve_app.models.adapters.package_dir import load_parts
from serve_app.models.adapters.registry_folder import DirectoryRegistry
from serve_app.rollouts.service.control import RolloutControl
from serve_app.rollouts.service.ports import Report, Rollouts, StartRollout
from serve_app.scoring.service.ports import AppState
from serve_app.scoring.service.traffic import Traffic
from tests.testing_kit import LocalEncoder, LocalModel, MemorySplit, make_scorer, run_virtual

pytestmark = pytest.mark.unit


# --- the handle to the control app


class FakeHandle:
    """A deployment handle; `answers` maps a method to what it returns, raises, or `never`."""

    def __init__(self, **answers) -> None:
        self.answers = {"ping": None, **answers}
        self.calls: list[str] = []

    def options(self, *, method_name: str, **_) -> SimpleNamespace:
        async def remote(*arguments):
            method = arguments[1] if method_name == "call" else method_name
            self.calls.append(method)
            answer = self.answers[method]
            if answer == "never":
                await asyncio.sleep(1e6)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return SimpleNamespace(remote=remote)


def control_over(handle: FakeHandle) -> Rollouts:
    control = ControlHandle()
    control._handle = handle
    return control.rollouts


def test_calls_reach_the_controller_and_bring_its_answer_back():
    handle = FakeHandle(start={"id": 1}, describe={"id": 2}, recent=[{"id": 3}], history=[], command={"id": 4})
    control = control_over(handle)

    async def main():
        assert await control.start(StartRollout("2"), "anna", "") == {"id": 1}
        assert await control.describe(2) == {"id": 2}
        assert await control.recent("", 5) == [{"id": 3}]
        assert await control.history(2) == []
        assert await control.command(4, "abort", "anna", "") == {"id": 4}

    run_virtual(main())
    assert [call for call in handle.calls if call != "ping"] == ["start", "describe", "recent", "history", "command"]


def test_a_control_app_that_is_not_there_is_found_out_within_a_second():
    handle = FakeHandle(ping="never", start={"id": 1})

    async def main():
        with pytest.raises(NotReadyError, match="control app does not answer") as caught:
            await control_over(handle).start(StartRollout("2"), "anna", "")
        assert type(caught.value) is NotReadyError
        assert caught.value.retry_after_s >= 1
        assert asyncio.get_running_loop().time() == pytest.approx(100.0 + PRESENCE_TIMEOUT_S)

    run_virtual(main())
    assert handle.calls == ["ping"]


@pytest.mark.parametrize(
    "failure",
    [
        ray_errors.ActorDiedError(),
        ray_errors.ActorUnavailableError("restarting", None),
        serve_errors.DeploymentUnavailableError(DeploymentID("ControlApp", "control")),
        serve_errors.ReplicaUnavailableError("gone"),
        TimeoutError(),
    ],
    ids=lambda e: type(e).__name__,
)
def test_a_control_app_that_dies_during_the_call_is_away_and_nothing_is_sent_twice(failure):
    handle = FakeHandle(command=failure, report=failure)
    control = control_over(handle)

    async def main():
        with pytest.raises(NotReadyError, match="versions keep their shares"):
            await control.command(1, "abort", "anna", "")
        with pytest.raises(NotReadyError):
            await control.report(Report("g", 1, {}))

    run_virtual(main())
    assert handle.calls == ["ping", "command", "report"]


@pytest.mark.parametrize("error", [ConflictError("rollout 1"), NotFoundError("x"), NotReadyError("the database", 3.0)])
def test_an_error_of_the_controller_comes_back_as_it_was(error):
    wrapped = ray_errors.RayTaskError("command", "Traceback ...", error).as_instanceof_cause()

    async def main():
        with pytest.raises(type(error)) as caught:
            await control_over(FakeHandle(command=wrapped)).command(1, "abort", "anna", "")
        assert vars(caught.value) == vars(error)

    run_virtual(main())


@pytest.mark.parametrize(("tenant", "service"), [("rollouts", RolloutControl), ("jobs", JobControl)])
def test_a_service_has_the_methods_of_its_protocol_with_the_same_parameters(tenant, service):
    for name in list_methods(tenant):
        of_protocol = inspect.signature(getattr(PROTOCOLS[tenant], name))
        assert inspect.signature(getattr(service, name)) == of_protocol, name


def test_only_methods_of_a_tenants_protocol_can_be_called():
    world = SimpleNamespace(tick=None, start=lambda *asked: asked, _store=None)
    app = object.__new__(ControlApp)
    app._tenants = {"rollouts": world}
    assert app.call("rollouts", "start", 1, 2) == (1, 2)
    for tenant, method in [("rollouts", "tick"), ("rollouts", "_store"), ("rollouts", "__init__"), ("apps", "start")]:
        with pytest.raises(InvariantError, match="can be called"):
            app.call(tenant, method)


# --- applications


def overview(status: str, message: str = "", **deployments: tuple[str, str]) -> ApplicationStatusOverview:
    parts = {
        name: DeploymentStatusOverview(status=state, status_trigger="UNSPECIFIED", replica_states={}, message=text)
        for name, (state, text) in deployments.items()
    }
    return ApplicationStatusOverview(
        status=ApplicationStatus(status), message=message, last_deployed_time_s=0.0, deployments=parts
    )


def test_every_status_of_ray_has_a_meaning():
    assert set(STATUS) == set(ApplicationStatus)


def test_an_app_is_down_when_one_of_its_deployments_has_no_running_replica():
    found = overview("RUNNING", Encoder=("HEALTHY", ""), CatBoostModel=("UNHEALTHY", ""))
    assert not to_state(found).is_down  # not counted
    found.deployments["Encoder"].replica_states[ReplicaState.RUNNING] = 1
    assert not to_state(found).is_down
    found.deployments["CatBoostModel"].replica_states[ReplicaState.STARTING] = 2
    assert to_state(found).is_down
    found.deployments["CatBoostModel"].replica_states[ReplicaState.RUNNING] = 1
    assert not to_state(found).is_down


def test_an_app_that_runs_has_nothing_to_say():
    assert describe_app(overview("RUNNING", "fine", Encoder=("HEALTHY", "up"))) == ""


def test_of_a_traceback_the_first_sentence_and_the_error_are_kept():
    text = (
        "The deployment failed to start 3 times in a row. See the logs.\nray::ServeReplica\n  File x\nValueError: torn"
    )
    found = describe_app(overview("DEPLOY_FAILED", "Failed.", Encoder=("DEPLOY_FAILED", text), M=("HEALTHY", "ok")))
    assert found == "The deployment failed to start 3 times in a row: ValueError: torn"
    assert len(describe_app(overview("DEPLOY_FAILED", "x" * 10_000))) <= 500


@pytest.mark.parametrize(("name", "version"), [("purchase", 7), ("a-v2", 13), ("x", 1)])
def test_a_version_app_s_name_is_read_back(name, version):
    assert parse_version_app(version_app(name, version)) == (name, version)


@pytest.mark.parametrize("app", ["gateway", "control", "purchase-v", "purchase-v0", "v1", "-v1x"])
def test_other_apps_are_no_versions(app):
    assert parse_version_app(app) is None


def test_apps_are_waited_for_until_all_run():
    looks = iter([
        {}, {"a": AppState("starting")}, {"a": AppState("running"), "b": AppState("starting")},
        {"a": AppState("running"), "b": AppState("running"), "c": AppState("failed", "torn")},
    ])  # fmt: skip
    found = await_apps(["a", "b"], read=lambda: next(looks), sleep=lambda _: None)
    assert found["c"] == AppState("failed", "torn")
    with pytest.raises(InvariantError, match="a does not start: torn"):
        await_apps(["a"], read=lambda: {"a": AppState("failed", "torn")}, sleep=lambda _: None)
    with pytest.raises(InvariantError, match="a \\(unhealthy\\) sick"):
        await_apps(["a"], 1.0, read=lambda: {"a": AppState("unhealthy", "sick")}, sleep=lambda _: None)


# --- version apps


class Cluster:
    """What Serve would hold: states by app, what was run and deleted."""

    def __init__(self, monkeypatch, package, tmp_path, package_dir) -> None:
        self.states: dict[str, AppState] = {"gateway": AppState("running"), "control": AppState("running")}
        self.ran: list[str] = []
        self.deleted: list[str] = []
        self.encoder = LocalEncoder(FeatureEncoder(package.manifest.features, package.vocabularies))
        self.model = LocalModel(package.model)
        self.registry = DirectoryRegistry(tmp_path / "registry")
        self.registry.publish("purchase", package_dir)
        monkeypatch.setattr(version_apps_module, "read_states", lambda: self.states)
        monkeypatch.setattr(version_apps_module, "run_apps", self.ran.extend)
        monkeypatch.setattr(version_apps_module, "EncoderHandle", lambda app: self.encoder)
        monkeypatch.setattr(version_apps_module, "ModelHandle", lambda app: self.model)
        monkeypatch.setattr(version_apps_module, "delete_app", self.deleted.append)
        self.apps = ServeVersionApps(self.registry, lambda path: f"application of {path}")


@pytest.fixture
def cluster(monkeypatch, package, tmp_path, package_dir) -> Cluster:
    return Cluster(monkeypatch, package, tmp_path, package_dir)


def test_only_versions_are_listed(cluster):
    cluster.states["purchase-v3"] = AppState("unhealthy", "sick")
    assert cluster.apps.states() == {("purchase", 3): AppState("unhealthy", "sick")}


@pytest.mark.parametrize("status", ["starting", "running", "unhealthy"])
def test_a_living_app_is_never_run_again(cluster, status):
    cluster.states["purchase-v1"] = AppState(status)
    cluster.apps.create("purchase", 1)
    assert cluster.ran == []


def test_an_app_that_is_missing_or_failed_is_run(cluster):
    cluster.apps.create("purchase", 1)
    cluster.states["purchase-v1"] = AppState("failed")
    cluster.apps.create("purchase", 1)
    assert cluster.ran == ["purchase-v1", "purchase-v1"]


def test_an_app_that_is_being_removed_is_not_run_yet(cluster):
    cluster.states["purchase-v1"] = AppState("deleting")
    with pytest.raises(NotReadyError):
        cluster.apps.create("purchase", 1)
    assert cluster.ran == []


def test_a_damaged_or_unknown_package_is_refused_before_anything_runs(cluster):
    model = cluster.registry.locate("purchase", 1) / "model.cbm"
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    with pytest.raises(PackageError):
        cluster.apps.create("purchase", 1)
    with pytest.raises(NotFoundError):
        cluster.apps.create("purchase", 2)
    assert cluster.ran == []


def test_an_app_is_deleted_without_waiting_and_only_when_it_is_there(cluster):
    cluster.apps.delete("purchase", 1)
    assert cluster.deleted == []
    cluster.states["purchase-v1"] = AppState("running")
    cluster.apps.delete("purchase", 1)
    assert cluster.deleted == ["purchase-v1"]


def test_golden_rows_go_through_both_deployments(cluster, package_dir):
    for _ in range(2):
        cluster.apps.prove("purchase", 1)
    assert [batch.num_rows for batch in cluster.encoder.batches] == [64, 64]
    assert cluster.model.n_calls == 2
    assert load_parts(package_dir).golden.num_rows >= 64


def test_a_version_that_answers_wrongly_mismatches(cluster, monkeypatch):
    right = LocalModel.predict

    async def shifted(self, rows, *, timeout_s):
        return await right(self, rows, timeout_s=timeout_s) + 1e-6

    monkeypatch.setattr(LocalModel, "predict", shifted)
    with pytest.raises(GoldenMismatchError):
        cluster.apps.prove("purchase", 1)


def test_a_version_whose_encoder_moves_a_value_mismatches(cluster, monkeypatch):
    right = LocalEncoder.encode

    async def moved(self, batch, *, timeout_s):
        encoded = await right(self, batch, timeout_s=timeout_s)
        encoded.matrix[3, 0] = np.nextafter(encoded.matrix[3, 0], np.float32(np.inf))
        return encoded

    monkeypatch.setattr(LocalEncoder, "encode", moved)
    with pytest.raises(GoldenMismatchError, match="golden row 3"):
        cluster.apps.prove("purchase", 1)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ReplicaLostError("gone"), ReplicaLostError),
        (InvariantError("OutOfMemoryError"), NotReadyError),
        (InvalidDataError("column price must hold numbers"), GoldenMismatchError),
    ],
)
def test_a_version_that_does_not_answer_is_told_from_one_that_refuses(cluster, raised, expected):
    async def fail() -> None:
        raise raised

    cluster.encoder.before = fail
    with pytest.raises(expected):
        cluster.apps.prove("purchase", 1)
    cluster.encoder.before = None
    cluster.apps.prove("purchase", 1)


# --- reports


def make_traffic(package, record) -> Traffic:
    async def connect(name, version):
        return make_scorer(package, version=version)[0]

    return Traffic(MemorySplit(record), connect, draw=lambda: 0.5)


CANARY = {"model": "purchase", "stable": 1, "revision": 4, "arms": [[2, 0, 1000], [1, 1000, 10000]]}


def test_counts_are_reported_once_with_the_revision_they_belong_to(package):
    async def main():
        traffic = make_traffic(package, CANARY)
        assert take_reports(traffic, "g") == []
        await traffic.refresh()
        assert take_reports(traffic, "g") == [Report("g", 4, {})]
        values = [None] * len(package.manifest.features)
        for name, value in (("price", 9.5), ("hour", 3), ("day_of_week", 1), ("is_weekend", 0)):
            values[package.manifest.feature_names.index(name)] = value
        for user in range(30):
            await traffic.choose(str(user)).score(values, asyncio.get_running_loop().time() + 5)
        (report,) = take_reports(traffic, "g")
        assert (report.gateway, report.revision, set(report.arms)) == ("g", 4, {1, 2})
        assert sum(arm.n_requests for arm in report.arms.values()) == 30
        assert take_reports(traffic, "g") == [Report("g", 4, {})]

    run_virtual(main())


def test_a_report_that_is_not_taken_in_is_dropped_and_the_next_one_is_sent(package, monkeypatch):
    sent: list[int] = []

    class Away:
        async def report(self, report: Report) -> None:
            sent.append(report.revision)
            raise NotReadyError("the control app does not answer")

    reports = iter([[Report("g", 1, {})], [Report("g", 2, {}), Report("g", 3, {})]])
    monkeypatch.setattr("serve_app.deployments.reporting.take_reports", lambda *_: next(reports))

    async def main():
        loop = functools.partial(report_counts, None, Away(), "g")
        with pytest.raises(RuntimeError):  # the made-up reports ran out: a coroutine turns that into RuntimeError
            await loop()

    run_virtual(main())
    assert sent == [1, 2, 3]
