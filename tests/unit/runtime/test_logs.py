"""Application logs are one JSON object a line."""

from __future__ import annotations

import json
import logging

import pytest

from serve_app.runtime.json_logs import JsonFormatter, log_json_lines

pytestmark = pytest.mark.unit


@pytest.fixture
def scorecat_logger():
    logger = logging.getLogger("scorecat")
    before, level = logger.handlers, logger.level
    yield logger
    for handler in logger.handlers:
        handler.close()
    logger.handlers, logger.level = before, level


def test_records_below_scorecat_become_json_lines(tmp_path, scorecat_logger):
    path = tmp_path / "logs" / "gateway.jsonl"
    log_json_lines(path)
    logging.getLogger("scorecat.http").info("request %s\nfailed", "shop-7")
    logging.getLogger("elsewhere").warning("not ours")
    (line,) = [json.loads(text) for text in path.read_text().splitlines()]
    assert line["message"] == "request shop-7\nfailed"
    assert (line["level"], line["logger"]) == ("INFO", "scorecat.http")


def test_setting_up_twice_writes_each_line_once(tmp_path, scorecat_logger):
    path = tmp_path / "gateway.jsonl"
    log_json_lines(path)
    first = scorecat_logger.handlers[0]
    log_json_lines(path)
    first.close()
    logging.getLogger("scorecat.x").info("once")
    assert len(path.read_text().splitlines()) == 1


def test_an_exception_is_part_of_its_line():
    exc = ValueError("inside")
    record = logging.LogRecord("scorecat.x", logging.ERROR, "", 0, "failed", None, (type(exc), exc, None))
    assert "ValueError: inside" in json.loads(JsonFormatter().format(record))["exception"]
