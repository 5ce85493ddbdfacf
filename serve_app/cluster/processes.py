"""Find the processes of a cluster again, and end them.

Every process of the cluster inherits ``SCORECAT_CLUSTER=<token>``, so `stop_cluster` finds exactly
those, HAProxy and orphans included, and never touches another cluster on the machine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psutil

from serve_app.cluster.environment import MARK
from serve_app.cluster.spec import ClusterSpec, shared_arrays_dir

STOP_TIMEOUT_S: Final = 3.0


def find_processes(spec: ClusterSpec) -> list[psutil.Process]:
    """Return the living processes of the cluster, this one and its parents excepted.

    A process belongs to it when its environment carries the mark, its output goes to the cluster's
    folder, or it descends from one that does: setting a process title, as Ray's workers and agents
    do, overwrites the environment that others can read.
    """
    own = {os.getpid(), *(p.pid for p in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid in own or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.environ().get(MARK) == spec.token or _writes_below(process.pid, f"{spec.run_dir}/"):
                found += [process, *process.children(recursive=True)]
    return list(dict.fromkeys(found))


def _writes_below(pid: int, prefix: str) -> bool:
    """Return whether a process has a file below `prefix` open for writing."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(link.readlink()).startswith(prefix):
                flags = Path(f"/proc/{pid}/fdinfo/{link.name}").read_text().partition("flags:")[2].split()[0]
                if int(flags, 8) & os.O_ACCMODE != os.O_RDONLY:
                    return True
    return False


def stop_cluster(spec: ClusterSpec) -> int:
    """End every process of the cluster, asking first, and remove its folder; return how many there were."""
    processes = find_processes(spec)
    _end(processes, STOP_TIMEOUT_S)
    late = find_processes(spec)  # started while the others were ending
    _end(late, 1.0)
    if not find_processes(spec):
        shutil.rmtree(spec.run_dir, ignore_errors=True)
        shutil.rmtree(shared_arrays_dir(spec), ignore_errors=True)
    return len(processes)


def _end(processes: Sequence[psutil.Process], timeout_s: float) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=timeout_s)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=5)
