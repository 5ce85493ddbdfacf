"""CPU and memory of the processes of a job while it runs, by role."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import psutil

from benchmarks.load import read_busy_s

EVERY_S = 0.25
MACHINE = "machine"
"""The role under which all cores' busy time is kept."""
MEMORY_EVERY = 6
"""Memory is read every so many samples: the kernel walks every page table for it, some 5 ms a process."""


class Watch(threading.Thread):
    """Samples processes until told to stop.

    Parameters
    ----------
    find : callable
        Returns {process: role} of those that live now.
    measured : sequence of str
        Roles whose memory is read.

    Attributes
    ----------
    driver : Popen or None
        The process that was started, for who waits for it.
    most_processes : Counter
        Most processes of each role at one time.
    """

    def __init__(self, find: Callable[[], dict[psutil.Process, str]], measured: Sequence[str]) -> None:
        super().__init__(daemon=True)
        self._find, self._measured = find, measured
        self._ended = threading.Event()
        self._cpu_s: dict[tuple[int, float], tuple[str, float]] = {}
        self._history: list[tuple[float, dict[str, float]]] = []
        self._memory: list[dict[str, Counter[str]]] = []
        self.most_processes: Counter[str] = Counter()
        self.driver: subprocess.Popen | None = None

    def run(self) -> None:
        number = 0
        while not self._ended.wait(EVERY_S):
            found = self._find()
            self._read_cpu(found)
            if number % MEMORY_EVERY == 0:
                self._read_memory({p: role for p, role in found.items() if role in self._measured})
                self.most_processes |= Counter(found.values())
            number += 1

    def end(self) -> None:
        self._ended.set()
        self.join()

    def cpu_s(self, began_at: float, ended_at: float) -> dict[str, float]:
        """Return the CPU seconds by role between two times, interpolated."""
        first, last = (self._cpu_at(at) for at in (began_at, ended_at))
        return {role: last[role] - first.get(role, 0.0) for role in last}

    def _cpu_at(self, at: float) -> dict[str, float]:
        before = self._history[0]
        for after in self._history:
            if after[0] >= at:
                share = (at - before[0]) / (after[0] - before[0]) if after[0] > before[0] else 0.0
                return {r: s * share + before[1].get(r, 0.0) * (1 - share) for r, s in after[1].items()}
            before = after
        return before[1]

    def _read_cpu(self, found: dict[psutil.Process, str]) -> None:
        for process, role in found.items():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                self._cpu_s[process.pid, process.create_time()] = role, times.user + times.system
        total: dict[str, float] = {}
        for role, seconds in self._cpu_s.values():  # a process that has ended keeps what it used
            total[role] = total.get(role, 0.0) + seconds
        total[MACHINE] = read_busy_s()
        self._history.append((time.time(), total))

    def _read_memory(self, found: dict[psutil.Process, str]) -> None:
        now: dict[str, Counter[str]] = {"pss": Counter(), "rss": Counter()}
        for process, role in found.items():
            with contextlib.suppress(psutil.Error):
                memory = process.memory_full_info()
                for kind, roles in now.items():
                    roles[role] += getattr(memory, kind)
        self._memory.append(now)

    def peak_bytes(self, kind: str, roles: Iterable[str]) -> int:
        """Return the most that the processes of some roles held together; `kind` is pss or rss."""
        return max((sum(now[kind][role] for role in roles) for now in self._memory), default=0)
