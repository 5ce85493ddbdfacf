"""Direct calls over real Unix sockets: what goes through, what is told of failures, and whom `Links` chooses."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
from pathlib import Path

import numpy as np
import pytest

from serve_app.cluster.environment import SOCKETS
from serve_app.deployments.calls.direct_calls import (
    _HEAD,
    Link,
    Links,
    _Answering,
    answer_calls,
    socket_path,
)
from serve_app.errors import InvalidRowError, InvariantError, ReplicaLostError

pytestmark = pytest.mark.unit


class Ongoing:
    def __init__(self) -> None:
        self.now = self.most = self.total = 0

    def begin(self) -> None:
        self.now += 1
        self.total += 1
        self.most = max(self.most, self.now)

    def end(self) -> None:
        self.now -= 1


class Replica:
    """Methods as a replica has them."""

    def __init__(self) -> None:
        self.ongoing = Ongoing()
        self.cancelled = 0
        self.gate = asyncio.Event()
        self.server: asyncio.Server | None = None

    async def echo(self, *arguments):
        return arguments

    async def double(self, values):
        await asyncio.sleep(0)
        return values * 2

    async def refuse(self, kind):
        raise {"row": InvalidRowError("the row is bad"), "bug": KeyError("price")}[kind]

    async def wait(self):
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return "waited"

    async def listen(self, path: Path) -> None:
        methods = {name: getattr(self, name) for name in ("echo", "double", "refuse", "wait")}
        self.server = await answer_calls(path, methods, self.ongoing)


@contextlib.asynccontextmanager
async def connected(folder: Path):
    replica = Replica()
    await replica.listen(folder / "a.sock")
    transport, link = await asyncio.get_running_loop().create_unix_connection(Link, str(folder / "a.sock"))
    try:
        yield replica, link
    finally:
        transport.close()
        replica.server.close()
        await asyncio.sleep(0)


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - of the sockets, which set no event
            await asyncio.sleep(0.001)


def test_arguments_and_results_come_through_to_the_last_bit(tmp_path):
    async def main():
        async with connected(tmp_path) as (replica, link):
            assert await link.call("echo", (1, "zwei", None)) == (1, "zwei", None)
            values = np.random.default_rng(0).random(300_000)  # 2.4 MB: many reads a frame
            assert np.array_equal(await link.call("double", (values,)), values * 2)
            assert replica.ongoing.total == 2
            assert replica.ongoing.now == link.n_pending == 0

    asyncio.run(main())


def test_many_calls_share_a_link_and_each_gets_its_own_answer(tmp_path):
    async def main():
        async with connected(tmp_path) as (replica, link):
            sizes = [1 if k % 7 else 40_000 for k in range(200)]
            found = await asyncio.gather(*(link.call("double", (np.full(n, k),)) for k, n in enumerate(sizes)))
            assert [(len(v), int(v[0])) for v in found] == [(n, 2 * k) for k, n in enumerate(sizes)]
            assert replica.ongoing.most > 1

    asyncio.run(main())


def test_an_answer_does_not_wait_for_a_slower_call_before_it(tmp_path):
    async def main():
        async with connected(tmp_path) as (replica, link):
            slow = asyncio.create_task(link.call("wait", ()))
            assert await link.call("echo", (1,)) == (1,)
            assert not slow.done()
            replica.gate.set()
            assert await slow == "waited"

    asyncio.run(main())


def test_errors_of_ours_come_through_and_others_as_our_own_mistake(tmp_path, caplog):
    async def main():
        async with connected(tmp_path) as (replica, link):
            with pytest.raises(InvalidRowError, match="the row is bad"):
                await link.call("refuse", ("row",))
            with pytest.raises(InvariantError, match=r"KeyError: 'price'"):
                await link.call("refuse", ("bug",))
            with pytest.raises(InvariantError, match="KeyError: 'nothing'"):
                await link.call("nothing", ())
            assert await link.call("echo", (1,)) == (1,)
            assert replica.ongoing.now == 0
        assert "a call failed" in caplog.text

    asyncio.run(main())


def test_a_call_that_is_given_up_ends_in_the_replica(tmp_path):
    async def main():
        async with connected(tmp_path) as (replica, link):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await link.call("wait", ())
            await until(lambda: replica.cancelled == 1 and replica.ongoing.now == 0)
            assert link.n_pending == 0
            assert await link.call("echo", (1,)) == (1,)

    asyncio.run(main())


def test_a_call_given_up_before_it_began_leaves_nothing_behind(tmp_path):
    async def main():
        replica = Replica()
        answering = _Answering({"echo": replica.echo}, replica.ongoing)
        answering.take(7, pickle.dumps(("echo", (1,))))
        answering.take(7, b"")  # both in one read
        await asyncio.sleep(0.01)
        assert answering._tasks == {}
        assert replica.ongoing.total == replica.ongoing.now

    asyncio.run(main())


def test_an_answer_that_cannot_be_read_fails_its_call_at_once(tmp_path):
    async def garble(reader, writer):
        await reader.read(100)
        writer.write(_HEAD.pack(3, 0) + b"bad")

    async def main():
        server = await asyncio.start_unix_server(garble, str(tmp_path / "a.sock"))
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        _, link = await asyncio.get_running_loop().create_unix_connection(Link, str(tmp_path / "a.sock"))
        with pytest.raises(ReplicaLostError):
            await asyncio.wait_for(link.call("echo", (1,)), 5)
        server.close()

    asyncio.run(main())


def test_a_replica_that_dies_fails_what_waits_and_what_comes_after(tmp_path):
    async def main():
        async with connected(tmp_path) as (replica, link):
            calls = [asyncio.create_task(link.call("wait", ())) for _ in range(3)]
            await until(lambda: replica.ongoing.now == 3)
            link.transport.abort()  # as the kernel closes a dead process's end
            for call in calls:
                with pytest.raises(ReplicaLostError, match="during the call"):
                    await call
            assert link.is_lost
            with pytest.raises(ReplicaLostError, match="before the call"):
                await link.call("echo", (1,))
            await until(lambda: replica.ongoing.now == 0 and replica.cancelled == 3)

    asyncio.run(main())


def test_a_socket_left_by_a_killed_process_is_replaced(tmp_path):
    async def main():
        (tmp_path / "a.sock").write_text("")
        async with connected(tmp_path) as (_, link):
            assert await link.call("echo", (1,)) == (1,)

    asyncio.run(main())


@contextlib.asynccontextmanager
async def replicas(folder: Path, *names: str):
    found = {}
    for name in names:
        found[name] = Replica()
        await found[name].listen(folder / f"{name}.sock")
    links = Links(lambda name: folder / f"{name}.sock")
    try:
        yield found, links
    finally:
        links.choose({})
        for replica in found.values():
            replica.server.close()
        await asyncio.sleep(0.01)


def test_links_choose_the_replica_with_the_fewest_calls(tmp_path):
    async def main():
        async with replicas(tmp_path, "a", "b") as (found, links):
            assert links.choose(found) is None  # not connected yet
            await until(lambda: links.choose(found) is not None)
            calls = []
            for _ in range(6):
                _, link = links.choose(found)
                calls.append(asyncio.create_task(link.call("wait", ())))
                await asyncio.sleep(0)
            await until(lambda: [r.ongoing.now for r in found.values()] == [3, 3])
            found["b"].gate.set()
            await until(lambda: found["b"].ongoing.now == 0)
            await asyncio.sleep(0.01)
            assert links.choose(found)[0] == "b"
            found["a"].gate.set()
            assert await asyncio.gather(*calls) == ["waited"] * 6

    asyncio.run(main())


def test_one_replica_without_a_socket_here_keeps_all_calls_with_the_handle(tmp_path):
    async def main():
        async with replicas(tmp_path, "a") as (found, links):
            await_links = {**found, "elsewhere": None}
            for _ in range(20):
                assert links.choose(await_links) is None
                await asyncio.sleep(0.002)
            assert links.choose(found)[0] == "a"  # it has left

    asyncio.run(main())


def test_a_lost_replica_is_not_chosen_and_its_successor_is(tmp_path):
    async def main():
        async with replicas(tmp_path, "a", "b") as (_, links):
            only = {"a": None}
            links.choose(only)
            await until(lambda: links.choose(only) is not None)
            _, link = links.choose(only)
            link.transport.abort()
            await until(lambda: link.is_lost)
            assert links.choose(only) is None
            await until(lambda: links.choose({"b": None}) is not None)
            assert links.choose({"b": None})[0] == "b"

    asyncio.run(main())


def test_a_replica_that_leaves_answers_what_it_has_and_is_disconnected(tmp_path):
    async def main():
        async with replicas(tmp_path, "a", "b") as (found, links):
            links.choose(found)
            await until(lambda: links.choose(found) is not None)
            _, link = links.choose(found)
            call = asyncio.create_task(link.call("wait", ()))
            await until(lambda: found["a"].ongoing.now == 1)
            assert links.choose({"b": None})[0] == "b"
            assert not link.is_lost
            found["a"].gate.set()
            assert await call == "waited"
            links.choose({"b": None})
            await until(lambda: link.is_lost)

    asyncio.run(main())


def test_without_a_folder_no_replica_listens(monkeypatch, tmp_path):
    monkeypatch.delenv(SOCKETS, raising=False)
    assert socket_path("x") is None
    monkeypatch.setenv(SOCKETS, str(tmp_path))
    assert socket_path("x") == tmp_path / "x.sock"
