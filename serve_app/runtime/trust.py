"""Which certificate authorities a server is verified by."""

from __future__ import annotations

import ssl


def choose_trust(url: str) -> ssl.SSLContext | bool:
    """Return what httpx takes for ``verify``: all authorities of the machine for https, none for plain http.

    Reading the certificates takes a tenth of a second, which every short command would pay for nothing.
    """
    return True if url.lower().startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
