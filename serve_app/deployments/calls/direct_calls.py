"""Calls between replicas of one machine over a Unix socket, in place of a Serve handle's gRPC call.

A handle's call costs two to three milliseconds of CPU on both sides together, whatever it carries; a frame on a
socket about a twentieth. Ray Serve still places, proves, scales, drains and removes the replicas: which there are is
read from the handle's router, both ends count a call as under way where Ray counts its own, and whenever one
replica of a deployment has no socket here (a cluster of several machines, a replica that just died) the caller
falls back on the handle.

A frame is a length and a call's number (`_HEAD`) and so many bytes: ``(method, arguments)`` pickled one way,
``(is_value, value)`` the other way; no bytes at all give the call up. The folder belongs to the user alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import pickle
import struct
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

from serve_app.cluster.environment import SOCKETS
from serve_app.errors import InvariantError, ReplicaLostError, ScorecatError
from serve_app.models.service.ports import Ongoing

_HEAD: Final = struct.Struct("<QQ")
_JOIN_BYTES: Final = 65_536
"""Frames up to here are joined with their head: one system call."""

logger = logging.getLogger("scorecat.direct_calls")

Method = Callable[..., Awaitable[Any]]


def socket_path(replica: str) -> Path | None:
    """Return where a replica of this machine listens, None when no replica does."""
    folder = os.environ.get(SOCKETS)
    return Path(folder, f"{replica}.sock") if folder else None


class _Frames(asyncio.Protocol):
    """One end of a connection."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._data = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no instance

    def data_received(self, data: bytes) -> None:
        """Take every frame that is whole."""
        self._data += data
        while len(self._data) >= _HEAD.size:
            length, number = _HEAD.unpack_from(self._data)
            end = _HEAD.size + length
            if len(self._data) < end:
                return
            payload = bytes(memoryview(self._data)[_HEAD.size : end])
            del self._data[:end]
            self.take(number, payload)

    def send(self, number: int, payload: bytes) -> None:
        """Send one frame."""
        head = _HEAD.pack(len(payload), number)
        if len(payload) <= _JOIN_BYTES:
            self.transport.write(head + payload)
        else:
            self.transport.writelines((head, payload))

    @abstractmethod
    def take(self, number: int, payload: bytes) -> None:
        """Take one frame."""


class _Answering(_Frames):
    """A replica's end of a connection."""

    def __init__(self, methods: Mapping[str, Method], ongoing: Ongoing) -> None:
        super().__init__()
        self._methods = methods
        self._ongoing = ongoing
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def take(self, number: int, payload: bytes) -> None:
        """Begin a call, or give one up."""
        if payload:
            task = self._tasks[number] = asyncio.get_running_loop().create_task(self._answer(number, payload))
            task.add_done_callback(lambda _: self._tasks.pop(number))  # one given up before it began ends too
        elif number in self._tasks:
            self._tasks[number].cancel()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Give up what nobody waits for."""
        for task in self._tasks.values():
            task.cancel()

    async def _answer(self, number: int, payload: bytes) -> None:
        self._ongoing.begin()
        try:
            method, arguments = pickle.loads(payload)  # noqa: S301 - only this user's processes reach the socket
            answer = _dump(await self._methods[method](*arguments))
        except ScorecatError as exc:
            answer = _dump(exc, is_value=False)
        except Exception as exc:
            logger.exception("a call failed")
            answer = _dump(InvariantError(f"{type(exc).__name__}: {exc}"), is_value=False)
        finally:
            self._ongoing.end()
        if not self.transport.is_closing():
            self.send(number, answer)


def _dump(value: Any, *, is_value: bool = True) -> bytes:
    return pickle.dumps((is_value, value), protocol=5)


async def answer_calls(path: Path, methods: Mapping[str, Method], ongoing: Ongoing) -> asyncio.Server:
    """Answer calls of `methods` on a socket from now on.

    Raises
    ------
    OSError
        There can be no socket.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - of a process that was killed; it takes microseconds
    loop = asyncio.get_running_loop()
    return await loop.create_unix_server(lambda: _Answering(methods, ongoing), str(path))


class Link(_Frames):
    """A caller's end of a connection to one replica."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = itertools.count()
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self.is_lost = False

    @property
    def n_pending(self) -> int:
        """Calls without an answer yet."""
        return len(self._pending)

    async def call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        """Return what the replica's method returns.

        Raises
        ------
        ReplicaLostError
            The connection broke first.
        ScorecatError
            What the method raised; `InvariantError` in place of anything else.
        """
        if self.is_lost:
            raise ReplicaLostError("the replica was lost before the call", 1.0)
        number = next(self._numbers)
        future = self._pending[number] = asyncio.get_running_loop().create_future()
        try:
            self.send(number, pickle.dumps((method, arguments), protocol=5))
            return await future
        except asyncio.CancelledError:
            if not self.transport.is_closing():
                self.send(number, b"")
            raise
        finally:
            self._pending.pop(number, None)

    def take(self, number: int, payload: bytes) -> None:
        """Hand an answer over, unless its caller went away."""
        future = self._pending.get(number)
        if future is None or future.done():
            return
        is_value, value = pickle.loads(payload)  # noqa: S301 - as above; one that is torn ends the connection
        if is_value:
            future.set_result(value)
        else:
            future.set_exception(value)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Fail what waits."""
        self.is_lost = True
        for future in self._pending.values():
            if not future.done():
                future.set_exception(ReplicaLostError("the replica was lost during the call", 1.0))
        self._pending.clear()


class Links:
    """Connections to the replicas of one deployment.

    Parameters
    ----------
    find_path : callable
        Returns where the replica of an id listens, None when it does not listen on this machine.
    """

    def __init__(self, find_path: Callable[[Any], Path | None]) -> None:
        self._find_path = find_path
        self._links: dict[Any, Link | None] = {}
        self._opening: set[asyncio.Task[None]] = set()

    def choose(self, replicas: Mapping[Any, Any]) -> tuple[Any, Link] | None:
        """Return the replica with the fewest calls of this process under way, and the link to it.

        None as long as one of the replicas has no link: then some of them would get no calls. Replicas seen for the
        first time are connected to meanwhile; a link that was lost is not replaced, the replica has died.

        Parameters
        ----------
        replicas : mapping
            Those that take calls now, by id.
        """
        best: tuple[Any, Link] | None = None
        is_whole = True
        for replica in replicas:
            if replica not in self._links:
                self._links[replica] = None
                task = asyncio.get_running_loop().create_task(self._open(replica))
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)
            link = self._links[replica]
            if link is None or link.is_lost:
                is_whole = False
            elif best is None or link.n_pending < best[1].n_pending:
                best = replica, link
        if len(self._links) > len(replicas):
            self._forget(replicas)
        return best if is_whole else None

    def _forget(self, replicas: Mapping[Any, Any]) -> None:
        for replica in [each for each in self._links if each not in replicas]:
            link = self._links[replica]
            if link is None or link.n_pending == 0:
                del self._links[replica]
                if link is not None:
                    link.transport.close()

    async def _open(self, replica: Any) -> None:
        path = self._find_path(replica)
        if path is None:
            return
        try:
            _, link = await asyncio.get_running_loop().create_unix_connection(Link, str(path))
        except OSError as exc:
            logger.info("calls of replica %s go through its handle: %s", replica, exc)
            return
        if replica in self._links:
            self._links[replica] = link
        else:
            link.transport.close()
