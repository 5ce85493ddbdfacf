"""The one cluster of a state folder: who may start and stop it, and what its processes are known by."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from serve_app.cluster.spec import ClusterSpec, plan_cluster
from serve_app.errors import BadRequestError
from serve_app.settings import Settings


def derive_spec(settings: Settings) -> ClusterSpec:
    """Return a spec with the mark and folder that any cluster of this home has; its ports mean nothing."""
    return plan_cluster(settings.home, settings.host, settings.port, settings.num_cpus)


@contextlib.contextmanager
def lock_home(home: Path) -> Iterator[None]:
    """Let one command at a time start or stop the service; raises BadRequestError while another does."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        file = (home / "up.lock").open("a")
    except OSError as exc:
        raise BadRequestError(f"the state folder {home} cannot be written: {exc.strerror}") from exc
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise BadRequestError(f"another `scorecat up` or `down` works on {home}: wait for it") from exc
        yield
