"""Ray's HAProxy configuration is mended, and what HAProxy answers by itself is a whole HTTP answer."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from serve_app.cluster import proxy_front
from serve_app.cluster.proxy_front import render_error, rewrite_config

pytestmark = pytest.mark.unit

SAMPLE = """\
global
    stats socket /tmp/h/a.sock mode 666 level admin
defaults
    mode http
    errorfile 502 /tmp/h/500.http
    errorfile 503 /tmp/h/500.http
    errorfile 504 /tmp/h/500.http
    balance leastconn
frontend prometheus
    bind :9101
    mode http
frontend http_frontend
    bind 127.0.0.1:8000
    acl healthcheck path -i /-/healthz
    use_backend http-gateway if is_http-gateway
backend http-gateway
    # Servers in this backend
    server gateway-1 127.0.0.1:30001 check
    server gateway-2 127.0.0.1:30002 check observe layer4 error-limit 5 on-error mark-down
    # Fallback to head node's Serve proxy when no ingress replicas are available
    server proxy 127.0.0.1:8500 check backup
listen stats
  bind *:8404
  stats enable
"""


def test_haproxys_own_errors_are_read_from_our_files():
    found = re.findall(r"errorfile (\d+) (\S+)", rewrite_config(SAMPLE, "/run/x"))
    assert found == [(str(c), f"/run/x/{c}.http") for c in proxy_front._DETAILS]


def test_the_queueing_proxy_is_no_fallback_and_the_replicas_stay():
    servers = re.findall(r"^\s*server (\S+)", rewrite_config(SAMPLE, "/x"), re.MULTILINE)
    assert servers == ["gateway-1", "gateway-2"]


def test_every_port_is_bound_on_loopback():
    binds = re.findall(r"^\s*bind (\S+)", rewrite_config(SAMPLE, "/x"), re.MULTILINE)
    assert binds == ["127.0.0.1:9101", "127.0.0.1:8000", "127.0.0.1:8404"]


def test_an_address_somebody_chose_is_left_alone():
    text = "frontend http_frontend\n    bind 10.0.0.7:8000\n"
    assert "    bind 10.0.0.7:8000\n" in rewrite_config(text, "/x")


def test_request_ids_that_cannot_be_printed_are_dropped_before_anything_else():
    lines = rewrite_config(SAMPLE, "/x").splitlines()
    at = lines.index("frontend http_frontend")
    assert lines[at + 1] == "    bind 127.0.0.1:8000"
    rules = lines[at + 2 : at + 2 + len(proxy_front._REQUEST_RULES.splitlines())]
    assert rules == proxy_front._REQUEST_RULES.splitlines()
    assert any(r.startswith("    http-request del-header x-request-id unless") for r in rules)


def test_everything_else_stays_as_it_was():
    changed = r"errorfile|bind|server|http-request|timeout|option http-buffer|return status"
    kept = [line for line in SAMPLE.splitlines() if not re.search(changed, line)]
    found = [line for line in rewrite_config(SAMPLE, "/x").splitlines() if not re.search(changed, line)]
    assert found == kept


def test_mending_twice_is_mending_once():
    once = rewrite_config(SAMPLE, "/x")
    assert rewrite_config(once, "/x") == once


@pytest.mark.parametrize(("cause", "status"), [(502, 503), (503, 503), (504, 504)])
def test_an_error_is_a_whole_http_answer_with_a_problem_in_it(cause, status):
    head, _, body = render_error(cause).partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert re.fullmatch(rf"HTTP/1\.1 {status} [A-Z][A-Za-z ]+", first)
    assert headers["Content-Type"] == "application/problem+json"
    assert int(headers["Content-Length"]) == len(body.encode())
    assert headers["Retry-After"] == "1"
    problem = json.loads(body)
    assert set(problem) == {"type", "title", "status", "detail", "request_id"}
    assert problem["status"] == status
    assert "\n" not in head.replace("\r\n", "")


def test_it_writes_the_files_and_becomes_haproxy(tmp_path, monkeypatch):
    config = tmp_path / "haproxy.cfg"
    config.write_text(SAMPLE)
    arguments = ["-f", str(config), "-sf", "123"]
    became = []
    monkeypatch.setattr(sys, "argv", ["haproxy-front", *arguments])
    monkeypatch.setenv(proxy_front.BINARY_VARIABLE, "/opt/haproxy")
    monkeypatch.setattr(proxy_front.os, "execv", lambda *a: became.append(a))
    proxy_front.main()
    assert became == [("/opt/haproxy", ["/opt/haproxy", *arguments])]
    assert config.read_text() == rewrite_config(SAMPLE, str(tmp_path))
    for cause in proxy_front._DETAILS:
        assert (tmp_path / f"{cause}.http").read_bytes() == render_error(cause).encode()


def test_it_runs_without_any_installed_package():
    script = "import sys; sys.argv = ['x']; import runpy; runpy.run_path(sys.stdin.read())"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script],
        input=proxy_front.__file__,
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
