"""Names that Ray and uvicorn do not promise to keep, and on which this service stands for want of public ones.

Ray's are used in `serve_app.cluster.ray_internals` only, uvicorn's in `serve_app.http.row.fast_protocol` only.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from serve_app.errors import InvariantError

NAMES: Final[Mapping[str, str]] = {
    "ray/_private/worker.py": "global_worker actors actor_id _worker_logs_enabled",
    "ray/serve/api.py": "_blocking _check_exists",
    "ray/serve/handle.py": "_router",
    "ray/serve/_private/common.py": "RequestMetadata",
    "ray/serve/_private/replica.py": (
        "add_port_to_grpc_server _replica_impl _metrics_manager inc_num_ongoing_requests dec_num_ongoing_requests"
    ),
    "ray/serve/_private/router.py": (
        "_asyncio_router request_router _metrics_manager inc_num_running_requests_for_replica "
        "dec_num_running_requests_for_replica"
    ),
    "ray/serve/_private/request_router/request_router.py": "curr_replicas",
    "uvicorn/config.py": "HTTP_PROTOCOLS",
    "uvicorn/protocols/http/httptools_impl.py": (
        "STATUS_LINE HttpToolsProtocol cycle response_complete expect_100_continue server_state"
    ),
}
"""By file, with blanks between."""


def check_names(names: Mapping[str, str] = NAMES) -> None:
    """Raise InvariantError when a name is gone from what is installed.

    The files are read and not imported: that would take seconds, and Ray reads its environment when it is imported.
    """
    for file, wanted in names.items():
        library, _, below = file.partition("/")
        spec = importlib.util.find_spec(library)
        folders = (spec.submodule_search_locations if spec else None) or []
        paths = [path for folder in folders if (path := Path(folder, below)).is_file()]
        text = "".join(path.read_text() for path in paths)
        missing = [name for name in wanted.split() if not re.search(rf"\b{name}\b", text)]
        if missing:
            raise InvariantError(
                f"{library} {_read_version(library)} has no {', '.join(missing)} in {file}, which this service needs: "
                "install the version that `requirements.lock` names"
            )


def _read_version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
