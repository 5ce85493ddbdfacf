"""The access log costs lines when the disk is in trouble, never a request."""

from __future__ import annotations

import json
import logging

import pytest

from serve_app.scoring.adapters import access_log as module
from serve_app.scoring.adapters.access_log import AccessLogFile

pytestmark = pytest.mark.unit


def record(log, number: int = 0, path: str = "/predict_purchase") -> None:
    log.record(f"r{number}", "POST", path, 200, 0.0123456, 3)


def read(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_request_becomes_one_json_line(tmp_path):
    log = AccessLogFile(tmp_path / "logs" / "access.jsonl")
    record(log, 1)
    log.record("r2", "GET", "/nowhere", 404, 0.5, None)
    log.flush()
    one, two = read(tmp_path / "logs" / "access.jsonl")
    assert one.pop("time") <= two.pop("time")
    assert one == {
        "request_id": "r1", "method": "POST", "path": "/predict_purchase", "status": 200, "duration_ms": 12.35,
        "version": 3,
    }  # fmt: skip
    assert two == {
        "request_id": "r2", "method": "GET", "path": "/nowhere", "status": 404, "duration_ms": 500.0, "version": None,
    }  # fmt: skip


def test_lines_are_appended_in_order_and_written_once(tmp_path):
    log = AccessLogFile(tmp_path / "access.jsonl")
    for number in range(100):
        record(log, number)
        if number % 30 == 0:
            log.flush()
    log.flush()
    log.flush()
    assert [line["request_id"] for line in read(tmp_path / "access.jsonl")] == [f"r{n}" for n in range(100)]


def test_without_lines_no_file_is_made(tmp_path):
    AccessLogFile(tmp_path / "access.jsonl").flush()
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_written_keeps_the_lines_until_it_can(tmp_path, caplog):
    blocked = tmp_path / "logs"
    blocked.write_text("a file in place of the folder")
    log = AccessLogFile(blocked / "access.jsonl")
    with caplog.at_level(logging.WARNING, "scorecat.access"):
        for number in range(5):
            record(log, number)
            log.flush()
    assert len(caplog.records) == 1
    assert "cannot be written" in caplog.text
    blocked.unlink()
    record(log, 5)
    log.flush()
    assert [line["request_id"] for line in read(blocked / "access.jsonl")] == [f"r{n}" for n in range(6)]


def test_of_more_lines_than_fit_the_oldest_are_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_PENDING", 10)
    blocked = tmp_path / "logs"
    blocked.write_text("")
    log = AccessLogFile(blocked / "access.jsonl")
    for number in range(25):
        record(log, number)
        if number in (7, 19):
            log.flush()
    blocked.unlink()
    log.flush()
    assert [line["request_id"] for line in read(blocked / "access.jsonl")] == [f"r{n}" for n in range(15, 25)]


def test_a_big_file_makes_room_and_the_one_before_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 10)
    log = AccessLogFile(tmp_path / "access.jsonl")
    for number in range(3):
        record(log, number)
        log.flush()
    assert [line["request_id"] for line in read(tmp_path / "access.jsonl")] == ["r2"]
    assert [line["request_id"] for line in read(tmp_path / "access.jsonl.1")] == ["r1"]


def test_a_long_path_is_cut(tmp_path):
    log = AccessLogFile(tmp_path / "access.jsonl")
    record(log, path="/" + "x" * 5_000)
    log.flush()
    assert len(read(tmp_path / "access.jsonl")[0]["path"]) == 200


def test_a_line_that_cannot_be_written_does_not_cost_the_others(tmp_path):
    log = AccessLogFile(tmp_path / "access.jsonl")
    record(log, 1)
    record(log, 2, path="/\ud800")
    record(log, 3)
    log.flush()
    assert {"r1", "r3"} <= {line["request_id"] for line in read(tmp_path / "access.jsonl")}
