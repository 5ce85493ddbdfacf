"""A process that gave up its rights cannot take them back."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

from serve_app.models.untrusted.sandbox import Limits, enter

pytestmark = pytest.mark.unit

SCRIPT = """
import json, os, socket, sys, subprocess, threading
from serve_app.models.untrusted.sandbox import Limits, enter
import http.client, encodings.idna
folder, strict = sys.argv[1], sys.argv[2] == "strict"
held = enter(Limits(memory_bytes=1 << 30, output_bytes=1 << 20), strict=strict)
def attempt(what):
    try:
        what()
    except (OSError, MemoryError, subprocess.SubprocessError) as exc:
        return type(exc).__name__
    return "done"
tries = {
    "read": lambda: open("/etc/passwd").read(1),
    "write": lambda: open(f"{folder}/new", "w").write("x"),
    "append": lambda: open(f"{folder}/old", "a").write("x"),
    "delete": lambda: os.unlink(f"{folder}/old"),
    "link": lambda: os.symlink("/etc/passwd", f"{folder}/link"),
    "folder": lambda: os.mkdir(f"{folder}/folder"),
    "connect": lambda: socket.create_connection(("127.0.0.1", int(sys.argv[3])), timeout=2).close(),
    "start": lambda: subprocess.run(["touch", f"{folder}/touched"], check=True),
    "memory": lambda: bytes(2 << 30),
    "signal": lambda: os.kill(os.getppid(), 0),
}
print(json.dumps({"held": held, "found": {name: attempt(what) for name, what in tries.items()}}))
"""


@pytest.fixture(scope="module")
def port():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def run(tmp_path, mode, port):
    (tmp_path / "old").write_text("")
    done = subprocess.run(
        [sys.executable, "-I", "-c", SCRIPT, str(tmp_path), mode, str(port)], capture_output=True, text=True, check=True
    )
    answer = json.loads(done.stdout)
    return answer["held"], answer["found"]


def test_a_strict_process_can_compute_and_nothing_else(tmp_path, port):
    held, found = run(tmp_path, "strict", port)
    assert held["resource limits"] == held["no new privileges"] == "in force"
    seccomp = held["no other system calls (seccomp)"] == "in force"
    if platform.machine() == "x86_64":
        assert seccomp, held
    if seccomp or held["no writing of files (landlock)"] == "in force":
        assert [found[name] for name in ("read", "write", "append", "delete", "link", "folder")] == [
            "PermissionError"
        ] * 6
    if seccomp:
        assert found["start"] == found["signal"] == found["connect"] == "PermissionError"
    assert found["memory"] == "MemoryError"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["old"]
    assert (tmp_path / "old").read_text() == ""


def test_a_process_that_tries_a_model_reads_files_and_writes_none(tmp_path, port):
    held, found = run(tmp_path, "loose", port)
    assert found["read"] == "done"
    assert found["memory"] == "MemoryError"
    if held["no writing of files (landlock)"] == "in force":
        assert found["write"] == found["append"] == found["delete"] == found["link"] == "PermissionError"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["old"]
    if held["no network (namespace)"] == "in force":
        assert found["connect"] == "OSError"


@pytest.mark.parametrize("strict", [True, False])
def test_what_the_kernel_refuses_is_said_and_does_not_stop_the_import(monkeypatch, strict):
    from serve_app.models.untrusted import sandbox

    class Refusing:
        def __getattr__(self, name):
            return lambda *_: -1

    monkeypatch.setattr(sandbox, "_LIBC", Refusing())
    monkeypatch.setattr(sandbox.resource, "setrlimit", lambda *_: (_ for _ in ()).throw(OSError("no")))
    found = enter(Limits(), strict=strict)
    assert len(found) == 4 + strict
    assert "in force" not in found.values()


def test_another_machine_has_no_list_of_calls(monkeypatch):
    from serve_app.models.untrusted import sandbox

    monkeypatch.setattr(sandbox.platform, "machine", lambda: "m68k")
    assert sandbox._filter_calls() == "no list of calls for m68k"
    assert os.getpid() > 0
