"""Asynchronous work of a command, which signals end without a traceback."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from types import FrameType
from typing import Any


def run_gently(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine as `asyncio.run` does; SIGTERM and SIGHUP cancel it as Ctrl-C does, and raise KeyboardInterrupt.

    The handlers of the command line raise where the process happens to be: in a task, whose traceback would be shown.
    """
    before = {n: handler for n in (signal.SIGTERM, signal.SIGHUP) if callable(handler := signal.getsignal(n))}
    ended: list[int] = []

    async def main() -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None

        def end(number: int, _: FrameType | None) -> None:
            ended.append(number)
            loop.call_soon_threadsafe(task.cancel)

        for number in before:
            signal.signal(number, end)
        await work

    try:
        asyncio.run(main())
    except asyncio.CancelledError:
        if not ended:
            raise
        raise KeyboardInterrupt(f"signal {ended[0]}") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
