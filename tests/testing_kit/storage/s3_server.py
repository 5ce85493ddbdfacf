"""A local S3-compatible server: moto's, in a process of its own, on loopback.

``python -m tests.testing_kit.storage.s3_server PORT``. moto compares If-Match with the object and then writes
it in two steps; S3 does both as one, so requests are answered one at a time here.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

WSGI = Callable[[dict[str, Any], Any], Iterable[bytes]]


def one_at_a_time(app: WSGI) -> WSGI:
    lock = threading.Lock()

    def call(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with lock:
            return list(app(environ, start_response))

    return call


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    run_simple(
        "127.0.0.1", int(sys.argv[1]), one_at_a_time(DomainDispatcherApplication(create_backend_app)), threaded=True
    )
