"""Which addresses a webhook may have; said when a rollout is asked for and not when the first event is lost."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

MAX_CHARACTERS: Final = 2_000

_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"0x[0-9a-f]*|[0-9]+")
_METADATA: Final = frozenset({"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"})
"""Names by which clouds answer on link-local addresses."""


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
