"""Application logs as JSON lines."""

from __future__ import annotations

import logging
import logging.handlers
import traceback
from pathlib import Path

import orjson


class JsonFormatter(logging.Formatter):
    """One JSON object a record: time, level, logger, message, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = {
            "time": round(record.created, 3),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            # not formatException: Ray replaces the print function that it uses in workers
            fields["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return orjson.dumps(fields).decode()


def log_json_lines(path: Path) -> None:
    """Send everything below the logger ``scorecat`` to a rotating file of JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=16 * 1024 * 1024, backupCount=1, delay=True)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("scorecat")
    logger.setLevel(logging.INFO)
    logger.handlers = [handler]
