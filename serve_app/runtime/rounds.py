"""Threads whose work comes in rounds."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from serve_app.errors import InvariantError
from serve_app.runtime.log_once import LogOnce

logger = logging.getLogger("scorecat.rounds")


class Rounds(threading.Thread):
    """Calls a function again and again; what it raises is logged, once for each text, and the next round comes.

    Parameters
    ----------
    name : str
    function : callable
    pause_s : float
        Between two rounds.
    limit_s : float
        A round that takes longer hangs.
    clock, wait : callable
        Seconds that only grow; waits so many seconds and returns whether to end.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[], None],
        pause_s: float,
        limit_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._function = function
        self._pause_s = pause_s
        self._limit_s = limit_s
        self._clock = clock
        self._wait = wait or threading.Event().wait
        self._began_at = clock()
        self._trouble = LogOnce(logger)

    def run(self) -> None:
        """Go on until the process ends."""
        is_over = False
        while not is_over:
            self._began_at = self._clock()
            with self._trouble.guard("a round of %s failed; the next one comes", self.name):
                self._function()
            is_over = self._wait(self._pause_s)

    def check(self) -> None:
        """Raise InvariantError when the thread has died or hangs."""
        if not self.is_alive():
            raise InvariantError(f"the thread of {self.name} has died")
        lasts_s = self._clock() - self._began_at - self._pause_s
        if lasts_s > self._limit_s:
            raise InvariantError(f"a round of {self.name} hangs for {lasts_s:.0f} s")
