"""Large JSON is parsed in a process beside the Gateway.

Parsing JSON holds Python's interpreter lock to the end: 15 MB of it kept every other request of the
Gateway waiting for 0.3 s, in a thread just as well. Other formats release the lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import multiprocessing
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Final, TypeVar

from serve_app.core.errors import NotReadyError

MIN_BYTES: Final = 1024 * 1024
"""Bodies up to here (about 10 ms of parsing) are parsed in the Gateway."""
_PR_SET_PDEATHSIG: Final = 1

T = TypeVar("T")


class ParsingProcess:
    """One process, started with the first large body, that runs module-level functions.

    It ends with this process, however that ends.
    """

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Return ``function(*arguments)``; everything travels by pickle.

        Raises
        ------
        NotReadyError
            The process died under it; the next call starts another.
        """
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_end_with_parent)
        pool = self._pool
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, function, *arguments)
        except BrokenProcessPool as exc:
            if self._pool is pool:
                self._pool = None
                pool.shutdown(wait=False, cancel_futures=True)
            raise NotReadyError("the process that parses large bodies died; try again", 1.0) from exc

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


def _end_with_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
