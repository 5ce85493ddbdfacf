"""Values of plans and jobs, read one by one: each reader returns the value or says in a ValueError what is right."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Final
from urllib.parse import urlsplit

from serve_app.runtime.read_values import Read
from serve_app.runtime.shown_values import is_number, show
from serve_app.scoring.core.split import N_BUCKETS

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
FULL: Final = 100.0
_PERCENT_BUCKETS: Final = N_BUCKETS // 100

MAX_SECONDS: Final = 366 * 86_400.0
"""No time of a plan is longer: a year."""
MAX_DIGITS: Final = 64
MAX_CHARACTERS: Final = 2_000
"""Of the address of a webhook."""
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"0x[0-9a-f]*|[0-9]+")
_METADATA: Final = frozenset({"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"})
"""Names by which clouds answer on link-local addresses."""


def read_steps(value: Any) -> tuple[float, ...]:
    """Return rising shares in per cent."""
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("must be a list of at least one share in per cent, such as [1, 5, 25, 50, 100]")
    steps: list[float] = []
    for step in value:
        if not is_number(step) or not 0 < step <= FULL:
            raise ValueError(f"each step must be a number above 0 and up to 100 per cent, got {show(step)}")
        if not is_dealt(step):
            raise ValueError(f"a step is a multiple of 0.01 per cent, got {show(step)}")
        if steps and step <= steps[-1]:
            how = "twice" if step == steps[-1] else f"after {steps[-1]:g}"
            raise ValueError(f"steps must rise (users would bounce between versions), got {step:g} {how}")
        steps.append(float(step))
    return tuple(steps)


def is_dealt(percent: float) -> bool:
    """Return whether a share can be dealt out exactly: a multiple of 0.01 per cent."""
    return abs(percent * _PERCENT_BUCKETS - round(percent * _PERCENT_BUCKETS)) <= 1e-6  # noqa: PLR2004


def read_seconds(low: float) -> Read:
    """Return a reader of times, in seconds or as a text such as 5m."""

    def read(value: Any) -> float:
        if isinstance(value, str):
            match = _DURATION.fullmatch(value.strip()) if len(value) <= MAX_DIGITS else None
            value = float(match[1]) * _SECONDS[match[2]] if match else value
        if not is_number(value) or not low <= value <= MAX_SECONDS:
            most = f"{MAX_SECONDS:,.0f} (a year)"
            raise ValueError(
                f"must be seconds from {low:g} to {most}, or a text such as 30s, 5m, 1h, got {show(value)}"
            )
        return float(value)

    return read


def read_webhook(value: Any) -> str | None:
    """Return an address that events can be posted to, or None."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"must be an http or https address, got {show(value)}")  # noqa: TRY004
    try:
        return check_webhook(value)
    except ValueError as exc:
        raise ValueError(f"must be an http or https address to post to; {show(value)} {exc}") from exc


def check_webhook(url: str) -> str:
    """Return an http(s) address that something can be sent to.

    Loopback and private addresses are allowed: receivers often live there. Link-local ones are not, since clouds give
    out credentials there; nor are those that name no single host.

    Raises
    ------
    ValueError
        Says what is wrong.
    """
    if len(url) > MAX_CHARACTERS:
        raise ValueError(f"is longer than {MAX_CHARACTERS:,} characters")
    if not url.isprintable() or " " in url or not url.isascii():
        raise ValueError("has blanks, control characters or letters that have to be written as %XX (names as xn--…)")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is not an http or https address with a host")
    try:
        port = parts.port
    except ValueError as exc:
        raise ValueError("has a port that is not a number from 1 to 65535") from exc
    if port == 0:
        raise ValueError("has the port 0")
    _check_host(parts.hostname)
    return url


def _check_host(host: str) -> None:
    bare = host.removesuffix(".")
    if ":" in host or _NUMBER.fullmatch(bare.rsplit(".", 1)[-1]):
        _check_number(host)
    elif len(bare) > 253 or not all(_LABEL.fullmatch(label) for label in bare.split(".")):  # noqa: PLR2004
        raise ValueError("has a host that is no name of a machine")
    elif bare in _METADATA:
        raise ValueError("is the metadata service of a cloud, which no webhook may be")


def _check_number(host: str) -> None:
    """Check a host that resolvers take for a number, in whatever spelling."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError as exc:
        raise ValueError("has a host that is no IP address in its usual spelling") from exc
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_link_local or address.is_unspecified or address.is_multicast:
        raise ValueError("is link-local, multicast or unspecified: use the address of one host")
