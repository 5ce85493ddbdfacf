"""Stands in for the HAProxy binary: puts right what Ray's generated configuration gets wrong, then runs it.

Ray 2.60 starts ``RAY_SERVE_HAPROXY_BINARY_PATH -f CONFIG ...`` for every start and reload. As
generated, the configuration

1. turns every 502-504 into a plain-text 500 without Retry-After;
2. sends requests to a queueing Python proxy when no Gateway is up, where they hang for ten seconds;
3. binds its metrics and statistics ports on every interface;
4. passes headers on over which Ray's part of the replica stumbles: request ids that are not
   printable, and ``X-Request-Timeout-Seconds``, which it answers with a plain-text 408 of its own.
   (Told that nobody minds a disconnect, it also saves two tasks a request.)

`rewrite_config` mends all four; `main` replaces this process by HAProxy, so Ray sees the process it
started.

Only the standard library is imported: this runs at every reload.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Final

BINARY_VARIABLE: Final = "SCORECAT_HAPROXY"
"""Environment variable with the path of the real binary."""

_DETAILS: Final = {
    502: (503, "replica-lost", "Not ready", "the gateway replica was lost while it had this request; try again"),
    503: (503, "not-ready", "Not ready", "no gateway replica can take the request right now; try again"),
    504: (504, "deadline-exceeded", "Deadline exceeded", "the gateway did not answer in time; try again"),
}


_REQUEST_RULES: Final = """\
    http-request del-header x-request-id unless { req.hdr(x-request-id) -m reg ^[!-~]{1,128}$ }
    http-request set-header x-scorecat-timeout-seconds %[req.hdr(x-request-timeout-seconds)]
    http-request del-header x-request-timeout-seconds
    http-request set-header x-request-disconnect-disabled ?1
"""


def render_error(cause: int) -> str:
    """Return the raw HTTP answer for HAProxy's own 502, 503 or 504, as problem details."""
    status, code, title, detail = _DETAILS[cause]
    members = {
        "type": f"urn:scorecat:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "request_id": "",
    }
    body = json.dumps(members)
    reason = {503: "Service Unavailable", 504: "Gateway Timeout"}[status]
    lines = [
        f"HTTP/1.1 {status} {reason}",
        "Content-Type: application/problem+json",
        "Retry-After: 1",
        "Cache-Control: no-store",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", body])


def rewrite_config(text: str, folder: str) -> str:
    """Return HAProxy configuration `text`, mended; error files are looked for in `folder`."""
    text = re.sub(r"(?m)^(\s*)errorfile (\d+) .*$", lambda m: f"{m[1]}errorfile {m[2]} {folder}/{m[2]}.http", text)
    text = re.sub(r"(?m)^(frontend http_frontend\n.*\n)(?!    http-request del-header)", rf"\1{_REQUEST_RULES}", text)
    text = re.sub(r"(?m)^\s*server \S+ \S+ .*\bbackup\b.*\n", "", text)
    return re.sub(r"(?m)^(\s*)bind (?:\*)?:(\d+)", r"\1bind 127.0.0.1:\2", text)


def main() -> None:
    """Rewrite the file behind ``-f`` in place and become HAProxy."""
    arguments = sys.argv[1:]
    if "-f" in arguments:
        config = Path(arguments[arguments.index("-f") + 1])
        for cause in _DETAILS:
            (config.parent / f"{cause}.http").write_text(render_error(cause), newline="")
        config.write_text(rewrite_config(config.read_text(), str(config.parent)))
    binary = os.environ[BINARY_VARIABLE]
    os.execv(binary, [binary, *arguments])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
