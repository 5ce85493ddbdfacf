"""Room on a disk that is kept for the moment when the disk is full."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

RESERVE_BYTES: Final = 1024 * 1024
"""A decision takes about 50 kB of the database's log, its split less than 1 MB with a thousand named users."""
HOLD_EVERY_S: Final = 60.0
"""After it was given up, the room is needed for what follows; so long it is not taken again."""

logger = logging.getLogger("scorecat.disk")


class DiskReserve:
    """A file that is only there to be deleted; any thread may use it.

    Parameters
    ----------
    path : Path
        Beside what it is kept for.
    n_bytes : int
    clock : callable
        Seconds that only grow.
    """

    def __init__(
        self, path: Path, n_bytes: int = RESERVE_BYTES, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._n_bytes = n_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._next_s = clock()

    def hold(self) -> None:
        """Take the room unless it is taken; does nothing while there is none, and not soon after it was given up."""
        with self._lock:
            if self._clock() < self._next_s:
                return
            self._next_s = self._clock() + HOLD_EVERY_S
            try:
                if not self._path.exists():
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                    self._path.write_bytes(bytes(self._n_bytes))
            except OSError:
                with contextlib.suppress(OSError):
                    self._path.unlink()

    def release(self) -> bool:
        """Give the room back; returns whether there was any."""
        with self._lock:
            try:
                self._path.unlink()
            except OSError:
                return False
            self._next_s = self._clock() + HOLD_EVERY_S
            logger.warning("the disk is full: %s was given up for a decision that could not be stored", self._path)
            return True
