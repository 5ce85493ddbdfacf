"""The commands as a newcomer types them, from an empty state folder."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from serve_app.cluster.processes import find_processes
from serve_app.cluster.spec import load_spec, shared_arrays_dir
from serve_app.models.adapters.registry_folder import DirectoryRegistry
from tests.testing_kit.cluster.service_process import ROW, SCORECAT, ServiceProcess, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Iterator[ServiceProcess]:
    """A service that `up` started from nothing: it generated events, trained, packaged and registered."""
    process = ServiceProcess(tmp_path_factory.mktemp("fresh"))
    process.up()
    yield process
    process.down()


def test_up_from_nothing_serves_a_model_trained_on_generated_events(fresh):
    assert fresh.facts["model"] == "purchase"
    assert fresh.facts["version"] == 1
    answer = fresh.predict()
    assert answer.status_code == 200
    assert set(answer.json()) == {"user_id", "purchase_probability", "recommendation"}
    assert 0 < answer.json()["purchase_probability"] < 1


def test_status_names_versions_and_replicas(fresh):
    status = json.loads(fresh.run("status", "--json").stdout)
    assert status["ready"] is True
    assert status["apps"]["purchase-v1"]["CatBoostModel"] == {"status": "HEALTHY", "replicas": 1, "target": 1}
    assert set(status["apps"]) == {"purchase-v1", "control", "gateway"}
    assert [(v["version"], v["role"], v["share"]) for v in status["models"][0]["versions"]] == [(1, "stable", 1.0)]


def test_predict_prints_the_service_s_answer(fresh):
    printed = json.loads(fresh.run("predict", json.dumps(ROW), "--detail", "--json").stdout)
    assert printed["purchase_probability"] == fresh.predict().json()["purchase_probability"]
    assert printed["features"]["price"]["source"] == "request"
    assert printed["features"]["total_events_x"] == {"value": 1.0, "source": "state"}


def test_predict_with_a_bad_row_says_which_field_and_exits_2(fresh):
    done = fresh.run("predict", json.dumps({**ROW, "hour": 24}), check=False)
    assert done.returncode == 2
    assert "/hour" in done.stderr
    assert "0 to 23" in done.stderr


def test_up_again_says_it_is_running(fresh):
    done = fresh.run("up", "--port", str(fresh.port), "--json")
    assert json.loads(done.stdout)["already_running"] is True


def test_every_view_and_cart_row_of_the_real_log_is_answered_but_those_with_price_0(fresh):
    log = Path(__file__).parents[3] / "shared" / "data" / "rees46" / "events_head.csv"
    if not log.exists():
        pytest.skip("the real log is not beside this checkout")
    found = json.loads(fresh.run("replay", str(log), "--json", timeout_s=600).stdout)
    counts = {name: found[name] for name in ("sent", "answered", "rejected", "failed")}
    assert counts == {"sent": 17220, "answered": 17201, "rejected": 19, "failed": 0}
    assert found["rejections"] == {"/price": 19}
    assert sum(part["rows"] for part in found["scores"]) == 17201


def count_answers(service: ServiceProcess) -> int:
    logs = (service.home / "logs").glob("access-*.jsonl")
    return sum(path.read_bytes().count(b'"/predict_purchase"') for path in logs)


def test_an_interrupted_replay_prints_what_it_knows(fresh, tmp_path):
    log = tmp_path / "events.csv"
    fresh.run("data", "generate", str(log), "--events", "2000")
    command = [str(SCORECAT), "replay", str(log), "--rate", "5", "--json"]
    before = count_answers(fresh)
    with subprocess.Popen(
        command,
        env=fresh.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job ignores SIGINT, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:
        wait_for(lambda: count_answers(fresh) > before, 60, "answers to the replay")
        process.send_signal(signal.SIGINT)
        printed, complaints = process.communicate(timeout=60)
    assert process.returncode == 130, complaints
    found = json.loads(printed)
    assert 0 < found["answered"] < 2000
    assert "Traceback" not in complaints


@pytest.mark.parametrize("options", [["--profile", "production"], ["--port", "1"], ["--model", "purchase@7"]])
def test_up_with_other_options_while_running_is_refused(fresh, options):
    done = fresh.run("up", *options, check=False)
    assert done.returncode == 2
    assert "scorecat down" in done.stderr or "version 7" in done.stderr
    assert fresh.is_answering()


def test_a_port_in_use_is_named_and_nothing_is_started(tmp_path, package_dir):
    service = ServiceProcess(tmp_path)
    publish(service, package_dir)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", service.port))
        taken.listen()
        done = service.run("up", "--port", str(service.port), check=False)
    assert done.returncode == 2
    assert f"port {service.port}" in done.stderr
    assert "--port" in done.stderr
    assert load_spec(service.home) is None


def test_a_torn_package_is_named_before_anything_starts(tmp_path, package_dir):
    service = ServiceProcess(tmp_path)
    publish(service, package_dir)
    model = service.home / "registry" / "purchase" / "versions" / "1" / "model.cbm"
    model.write_bytes(model.read_bytes()[:-100])
    done = service.run("up", "--port", str(service.port), check=False)
    assert done.returncode == 1
    assert "model.cbm" in done.stderr
    assert "Traceback" not in done.stderr
    assert load_spec(service.home) is None


def find_listeners() -> set[tuple[int, int | None]]:
    """(port, pid) of everything that listens."""
    return {(c.laddr.port, c.pid) for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN}


def test_down_leaves_no_process_and_no_listening_port(tmp_path, package_dir):
    service = ServiceProcess(tmp_path)
    publish(service, package_dir)
    service.up()
    spec = load_spec(service.home)
    pids = {p.pid for p in find_processes(spec)}
    ports = {port for port, pid in find_listeners() if pid in pids}
    assert service.port in ports
    (service.home / "cluster.json").write_text("{")  # a damaged record hides nothing from down
    service.down()
    assert find_processes(spec) == []
    assert not {p for p in pids if psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE}
    assert not ports & {port for port, _ in find_listeners()}
    assert not shared_arrays_dir(spec).exists()
    assert not spec.run_dir.exists()
    assert service.run("status", "--json", check=False).returncode == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["up", "--profile", "huge"], "laptop or production"),
        (["up", "--model", "no-such-model"], "there is no registry at"),
        (["predict", "{}", "--url", "http://127.0.0.1:1"], "scorecat up"),
        (["nonsense"], "nonsense"),
    ],
)
def test_wrong_use_says_what_to_do_without_a_trace(tmp_path, arguments, says):
    done = ServiceProcess(tmp_path).run(*arguments, check=False)
    assert done.returncode in {1, 2}
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_setting_is_an_error(tmp_path):
    service = ServiceProcess(tmp_path)
    service.environment["SCORECAT_PROT"] = "8001"
    done = service.run("status", check=False)
    assert done.returncode == 2
    assert "SCORECAT_PORT" in done.stderr


def publish(service: ServiceProcess, package_dir: Path) -> None:
    registry = DirectoryRegistry(service.home / "registry")
    registry.move_alias("purchase", "champion", registry.publish("purchase", package_dir))
