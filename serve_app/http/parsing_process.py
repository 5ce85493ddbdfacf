"""Large JSON is parsed in a process beside the Gateway.

Parsing JSON holds Python's interpreter lock to the end: 15 MB of it kept every other request of the
Gateway waiting for 0.3 s, in a thread just as well. Other formats release the lock.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final, TypeVar

from serve_app.errors import InvariantError, NotReadyError, ScorecatError

MIN_BYTES: Final = 1024 * 1024
"""Bodies up to here (about 10 ms of parsing) are parsed in the Gateway."""
DIED: Final = "the process that worked on this died; try again"

T = TypeVar("T")


class ParsingProcess:
    """One process, started with the first large body, that runs module-level functions one at a time.

    It ends with this process, however that ends: its end of the pipe closes.

    Parameters
    ----------
    lost : callable
        Makes the error of a call that the process had when it died. Where a call changes something, the error must
        say that nobody knows whether it did.
    """

    def __init__(self, lost: Callable[[], NotReadyError] = lambda: NotReadyError(DIED, 1.0)) -> None:
        self._lost = lost
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="parsing")
        self._process: BaseProcess | None = None
        self._pipe: Connection[Any, Any] | None = None
        self._running: Callable[..., Any] | None = None

    async def run(self, function: Callable[[], T]) -> T:
        """Return ``function()``; it and what it returns travel by pickle.

        When the caller gives up, a call that waits is dropped, and the process of one that is under way is
        ended: nobody else waits for what nobody wants.

        Raises
        ------
        NotReadyError
            The process was dead before it had the call, which did nothing; the next call starts another.
            When it died later: what `lost` makes.
        """
        try:
            found: T = await asyncio.get_running_loop().run_in_executor(self._thread, self._call, function)
        except asyncio.CancelledError:
            process = self._process
            if self._running is function and process is not None:
                process.kill()
            raise
        return found

    def close(self) -> None:
        """End the process."""
        self._thread.submit(self._end).result()
        self._thread.shutdown()

    def _call(self, function: Callable[[], Any]) -> Any:
        if self._pipe is None:
            self._start()
        self._running = function
        error = NotReadyError(DIED, 1.0)
        try:
            assert self._pipe is not None
            self._pipe.send(function)  # when this fails, not all of it went through and nothing was done
            error = self._lost()
            is_value, value = self._pipe.recv()
        except (EOFError, OSError) as exc:
            self._end()
            raise error from exc
        finally:
            self._running = None
        if is_value:
            return value
        raise value

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def _end(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.join(1.0)
            self._process.kill()
            self._process.join()
        self._pipe = self._process = None


def _serve(pipe: Connection[Any, Any]) -> None:
    """Answer calls until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            function = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = True, function()
        except ScorecatError as exc:
            answer = False, exc
        except Exception as exc:  # noqa: BLE001 - whatever it is, the caller must hear of it
            answer = False, InvariantError(f"{type(exc).__name__}: {exc}")
        pipe.send(answer)
