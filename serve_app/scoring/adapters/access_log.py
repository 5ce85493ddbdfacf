"""The access log: one JSON line a request, written in bulk off the hot path."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from pathlib import Path
from typing import Final

import orjson

from serve_app.runtime.log_once import LogOnce

FLUSH_S: Final = 0.5
MAX_PENDING: Final = 50_000
"""Lines kept when the disk cannot follow (about 20 MB); the oldest are dropped."""
MAX_FILE_BYTES: Final = 64 * 1024 * 1024
"""At this size the file becomes ``<name>.1``, replacing the one before."""

logger = logging.getLogger("scorecat.access")


class AccessLogFile:
    """Collects lines in memory (about 1 us each) and appends them to a file every `FLUSH_S`.

    Neither user ids nor bodies are logged. A disk that is full or slow costs log lines, never a
    request: pending lines are bounded, and a failed write is tried again with the next.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: deque[tuple[float, str, str, str, int, float, int | None]] = deque(maxlen=MAX_PENDING)
        self._trouble = LogOnce(logger)

    def record(
        self, request_id: str, method: str, path: str, status: int, duration_s: float, version: int | None
    ) -> None:
        """Keep a line for the next flush."""
        self._pending.append((time.time(), request_id, method, path, status, duration_s, version))

    async def run(self) -> None:
        """Flush for ever; cancelling flushes once more."""
        try:
            while True:
                await asyncio.sleep(FLUSH_S)
                await asyncio.to_thread(self.flush)
        finally:
            self.flush()

    def flush(self) -> None:
        """Append the pending lines; on failure they stay pending."""
        lines = [self._pending.popleft() for _ in range(len(self._pending))]
        if not lines:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                if self._path.stat().st_size > MAX_FILE_BYTES:
                    self._path.replace(self._path.with_name(self._path.name + ".1"))
            with self._path.open("ab") as file:
                file.write(b"".join(map(_format_line, lines)))
            self._trouble.clear()
        except OSError as exc:
            if self._trouble.is_new(exc):
                logger.warning("the access log cannot be written (%s); lines wait in memory", exc)
            room = MAX_PENDING - len(self._pending)
            self._pending.extendleft(reversed(lines[-room:] if room > 0 else []))


def _format_line(line: tuple[float, str, str, str, int, float, int | None]) -> bytes:
    at, request_id, method, path, status, duration_s, version = line
    fields = {
        "time": round(at, 3),
        "request_id": request_id,
        "method": method,
        "path": path[:200].encode(errors="replace").decode(),
        "status": status,
        "duration_ms": round(duration_s * 1000, 2),
        "version": version,
    }
    return orjson.dumps(fields) + b"\n"
