"""Stands in for the HAProxy binary: puts right what Ray's generated configuration gets wrong, then runs it.

Ray 2.60 starts ``RAY_SERVE_HAPROXY_BINARY_PATH -f CONFIG ...`` for every start and reload. As
generated, the configuration

1. turns every 502-504 into a plain-text 500 without Retry-After;
2. sends requests to a queueing Python proxy when no Gateway is up, where they hang for ten seconds;
3. binds its metrics and statistics ports on every interface;
4. passes headers on over which Ray's part of the replica stumbles: request ids that are not
   printable, and ``X-Request-Timeout-Seconds``, which it answers with a plain-text 408 of its own.
   (Told that nobody minds a disconnect, it also saves two tasks a request; and making a request id
   costs it 8 us, the proxy nothing.)
5. keeps requests in a queue for as long as two seconds before it refuses them, however many wait already;
6. lets half a request occupy a connection for an hour, takes a busy Gateway for a dead one, and
   while it knows no Gateway yet answers 404.

`rewrite_config` mends these; `main` replaces this process by HAProxy, so Ray sees the process it
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
    400: ("malformed-request", "Bad request", "the request is not valid HTTP, or its line or headers exceed 16 KiB"),
    405: ("method-not-allowed", "Method not allowed", "there is no such method here; /docs lists what is"),
    408: ("request-timeout", "Request timeout", "the request did not arrive within 10 seconds"),
    413: ("payload-too-large", "Payload too large", "the body is too large"),
    500: ("internal", "Internal error", "the proxy failed; try again"),
    502: ("replica-lost", "Not ready", "the gateway replica was lost while it had this request; try again"),
    503: ("not-ready", "Not ready", "no gateway replica can take the request right now; try again"),
    504: ("deadline-exceeded", "Deadline exceeded", "the gateway did not answer in time; try again"),
}
"""Code, title and detail of HAProxy's own answers; what it would answer with 502 becomes a 503."""
_REASONS: Final = {
    400: "Bad Request",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}

_REQUEST_RULES: Final = """\
    http-request deny deny_status 405 unless { method GET POST HEAD OPTIONS PUT PATCH DELETE }
    http-request set-header x-request-id %[req.fhdr(x-request-id)]
    http-request del-header x-request-id unless { req.fhdr(x-request-id) -m reg ^[!-~]{1,128}$ }
    http-request set-header x-request-id %[uuid()] unless { req.fhdr(x-request-id) -m found }
    http-request set-header x-scorecat-timeout-seconds %[req.fhdr(x-request-timeout-seconds)]
    http-request del-header x-request-timeout-seconds
    http-request set-header x-scorecat-arrived-ms %[date(0,ms)]
    http-request del-header serve_multiplexed_model_id
    http-request del-header serve-multiplexed-model-id
    http-request del-header x-session-id
    http-request set-header x-request-disconnect-disabled ?1
    http-request set-priority-class int(-1) unless METH_POST
"""
"""First rules of the frontend; see 4 above. Health and status go before what is scored and stored."""

_DEFAULTS: Final = """\
    option http-buffer-request
    timeout http-request 10s
    timeout check 3s
    timeout queue 2s
"""
"""A request must arrive within 10 s, its body too as far as it fits a buffer; a busy Gateway is not
taken for a dead one; what no Gateway takes within 2 s is refused."""

MAX_REQUESTS: Final = 512
"""Requests HAProxy hands to one Gateway at once; others wait in HAProxy, where refusing costs nothing."""
MAX_QUEUED: Final = 512
"""Requests that may wait in HAProxy; more are refused at once, as they would wait for longer than clients do."""
_OVERLOADED_FILE: Final = "overloaded.json"


def _dump_problem(status: int, code: str, title: str, detail: str, request_id: str = "") -> str:
    members = {
        "type": f"urn:scorecat:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "request_id": request_id,
    }
    return json.dumps(members)


def render_overloaded() -> str:
    """Return HAProxy's own answer while `MAX_QUEUED` requests wait: a log-format string with the request's id."""
    detail = "more requests wait than can be answered in time"
    return _dump_problem(503, "overloaded", "Not ready", detail, "%[req.fhdr(x-request-id),json(ascii)]")


def render_error(cause: int) -> str:
    """Return the raw HTTP answer for HAProxy's own 502, 503 or 504, as problem details."""
    status = 503 if cause == 502 else cause  # noqa: PLR2004
    body = _dump_problem(status, *_DETAILS[cause])
    lines = [
        f"HTTP/1.1 {status} {_REASONS[status]}",
        "Content-Type: application/problem+json",
        *(["Retry-After: 1"] if status >= 503 else []),  # noqa: PLR2004
        "Cache-Control: no-store",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", body])


def rewrite_config(text: str, folder: str) -> str:
    """Return HAProxy configuration `text`, mended; error files are looked for in `folder`."""
    if "http-buffer-request" in text:
        return text
    text = re.sub(r"(?m)^\s*errorfile \d+ .*\n", "", text)
    files = "".join(f"    errorfile {cause} {folder}/{cause}.http\n" for cause in _DETAILS)
    text = re.sub(r"(?m)^defaults\n", f"defaults\n{_DEFAULTS}{files}", text)
    text = re.sub(r"(?m)^(frontend http_frontend\n.*\n)", rf"\1{_REQUEST_RULES}", text)
    text = re.sub(r"(?m)^\s*server \S+ \S+ .*\bbackup\b.*\n", "", text)
    text = re.sub(r"(?m)^(    server \S+ \S+) check", rf"\1 maxconn {MAX_REQUESTS} check", text)
    refusal = (  # at once, of what would wait too long
        "    http-request return status 503 content-type application/problem+json hdr Retry-After 1 "
        f"hdr Cache-Control no-store lf-file {folder}/{_OVERLOADED_FILE} if METH_POST {{ queue ge {MAX_QUEUED} }}\n"
    )
    text = re.sub(r"(?m)^(backend (?!default_backend).*\n)", rf"\1{refusal}", text)
    text = re.sub(
        r"(?m)^(backend default_backend\n)    http-request return status 404 .*$",
        rf"\1    http-request return status 503 errorfile {folder}/503.http",
        text,
    )
    return re.sub(r"(?m)^(\s*)bind (?:\*)?:(\d+)", r"\1bind 127.0.0.1:\2", text)


def main() -> None:
    """Rewrite the file behind ``-f`` in place and become HAProxy."""
    arguments = sys.argv[1:]
    if "-f" in arguments:
        config = Path(arguments[arguments.index("-f") + 1])
        for cause in _DETAILS:
            (config.parent / f"{cause}.http").write_text(render_error(cause), newline="")
        (config.parent / _OVERLOADED_FILE).write_text(render_overloaded())
        config.write_text(rewrite_config(config.read_text(), str(config.parent)))
    binary = os.environ[BINARY_VARIABLE]
    os.execv(binary, [binary, *arguments])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
