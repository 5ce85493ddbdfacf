"""``scorecat down``."""

from __future__ import annotations

from serve_app.cluster.processes import find_processes, stop_cluster
from serve_app.cluster.spec import SPEC_FILE, derive_spec, lock_home
from serve_app.errors import InvariantError
from serve_app.settings import load_settings
from serve_app.terminal.console import JsonOption, err, print_json


def down(as_json: JsonOption = False) -> None:
    """Stop everything that `up` started; the registry and all state stay."""
    settings = load_settings()
    with lock_home(settings.home):
        # Mark and folder follow from the home, so a lost or damaged record hides nothing.
        spec = derive_spec(settings)
        stopped = stop_cluster(spec)
        left = find_processes(spec)
        if left:
            raise InvariantError(f"these processes would not end: {', '.join(str(p.pid) for p in left)}")
        (settings.home / SPEC_FILE).unlink(missing_ok=True)
    if as_json:
        print_json({"stopped_processes": stopped})
    else:
        err.print(f"stopped {stopped} processes" if stopped else "nothing was running")
