"""Large JSON is parsed in a process beside the Gateway, which ends with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from functools import partial

import psutil
import pytest

from serve_app.errors import MalformedBodyError, NotReadyError, UnknownOutcomeError
from serve_app.features.core.row_errors import list_unreadable
from serve_app.features.core.specs import PURCHASE_FEATURES
from serve_app.http.parsing_process import ParsingProcess
from serve_app.http.tables.table_formats import parse_json

pytestmark = pytest.mark.unit
BODY = b'{"dataframe_records":[{"price":5.0,"hour":1,"day_of_week":1,"is_weekend":0},{"price":"x","hour":1}]}'


def list_parsers() -> set[psutil.Process]:
    parsers = set()
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.ZombieProcess):  # of another test, and not waited for
            if "spawn_main" in " ".join(child.cmdline()):
                parsers.add(child)
    return parsers


def test_it_gives_what_the_parser_gives_errors_too_and_survives_its_own_death():
    of_other_tests = list_parsers()
    process = ParsingProcess()

    async def use():
        parsed = await process.run(partial(parse_json, BODY, PURCHASE_FEATURES))
        here = parse_json(BODY, PURCHASE_FEATURES)
        assert parsed.batch.equals(here.batch)
        assert [error.row for error in list_unreadable(parsed.batch).values()] == [1]
        with pytest.raises(MalformedBodyError, match="not valid JSON"):
            await process.run(partial(parse_json, b"{", PURCHASE_FEATURES))
        pid = await process.run(os.getpid)
        assert pid != os.getpid()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(NotReadyError, match="died"):
            await process.run(os.getpid)
        assert await process.run(os.getpid) != pid

    try:
        asyncio.run(use())
    finally:
        process.close()
    _, alive = psutil.wait_procs(list_parsers() - of_other_tests, 10)
    assert not alive


def die_after(change):
    change()
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_call_that_was_handed_over_when_the_process_died_may_be_done_and_one_before_is_not(tmp_path):
    process = ParsingProcess(lambda: UnknownOutcomeError("it is not known", 1.0))

    async def use():
        await process.run(os.getpid)
        with pytest.raises(UnknownOutcomeError):
            await process.run(partial(die_after, (tmp_path / "done").touch))
        assert (tmp_path / "done").exists()
        pid = await process.run(os.getpid)
        os.kill(pid, signal.SIGKILL)
        process._process.join(10)
        with pytest.raises(NotReadyError, match="died") as refused:
            await process.run(partial(die_after, (tmp_path / "never").touch))
        assert type(refused.value) is NotReadyError
        assert not (tmp_path / "never").exists()

    try:
        asyncio.run(use())
    finally:
        process.close()


def test_a_call_that_is_given_up_holds_up_nobody():
    process = ParsingProcess()

    async def use():
        await process.run(os.getpid)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await process.run(partial(time.sleep, 60))
        started_s = time.perf_counter()
        assert await process.run(os.getpid)
        assert time.perf_counter() - started_s < 30  # a new process was started; the old one would sleep for a minute

    try:
        asyncio.run(use())
    finally:
        process.close()
