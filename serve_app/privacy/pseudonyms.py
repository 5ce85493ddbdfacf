"""Numbers and keys that stand for ids, so that no id is ever stored.

Keyed BLAKE2b: equal ids give equal keys, and without the key nobody can tell which id a key stands for,
nor try ids one by one.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

from serve_app.errors import BadRequestError

KEY_BYTES: Final = 16
"""Of users, sessions and events: two of 10 billion ids share a key with a chance of 1e-19."""

ITEM_BYTES: Final = 8
"""Of products and categories: of the 1,024 that a session counts, two are taken for one with a chance of 3e-14."""

SECRET_BYTES_MIN: Final = 16
SECRET_BYTES_MAX: Final = 64


class Pseudonyms:
    """Keys of ids under one secret.

    Parameters
    ----------
    secret : bytes
        16 to 64 random bytes; whoever has them can test whether an id is stored.

    Raises
    ------
    BadRequestError
        The secret is too short or too long.

    Notes
    -----
    About 1 us an id; an id of any length and any Unicode (lone surrogates too) costs the same to keep.
    """

    def __init__(self, secret: bytes) -> None:
        if not SECRET_BYTES_MIN <= len(secret) <= SECRET_BYTES_MAX:
            raise BadRequestError(
                f"the secret of the ids has {len(secret)} bytes; {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} are needed"
            )

        def start(purpose: bytes, size: int) -> hashlib.blake2b:
            return hashlib.blake2b(key=secret, digest_size=size, person=purpose)

        # The key's block is hashed once here; each id then starts from a copy.
        self._user = start(b"user", KEY_BYTES)
        self._session = start(b"session", KEY_BYTES)
        self._event = start(b"event", KEY_BYTES)
        self._product = start(b"product", ITEM_BYTES)
        self._category = start(b"category", ITEM_BYTES)
        self._content = start(b"content", ITEM_BYTES)
        self.check = start(b"check", KEY_BYTES).digest()
        """Tells whether two secrets are equal without telling them."""

    def user(self, user_id: str) -> bytes:
        """Return the key of a user."""
        return _digest(self._user, _encode(user_id))

    def session(self, user_key: bytes, session_id: str) -> bytes:
        """Return the key of a session; sessions of two users never share one."""
        return _digest(self._session, user_key + _encode(session_id))

    def event(self, event_id: str) -> bytes:
        """Return the key of an event."""
        return _digest(self._event, _encode(event_id))

    def product(self, product_id: str) -> int:
        """Return the number of a product, 64 bits, signed."""
        return int.from_bytes(_digest(self._product, _encode(product_id)), "little", signed=True)

    def category(self, category_id: str) -> int:
        """Return the number of a category, 64 bits, signed."""
        return int.from_bytes(_digest(self._category, _encode(category_id)), "little", signed=True)

    def content(
        self, session_key: bytes, product: int, category: int | None, event_type: str, price: float, time_s: int | None
    ) -> bytes:
        """Return a fingerprint of what an event says, to tell a repetition from a contradiction.

        Eight bytes: four of what every event says, two of the category and two of the time, zeros for what
        it does not say; `serve_app.history.core.fold_batch.is_repetition` compares them.
        """
        said = session_key + _CONTENT.pack(product, float(price)) + _encode(event_type)
        return _digest(self._content, said)[:4] + self._part(b"category", category) + self._part(b"time", time_s)

    def _part(self, name: bytes, value: int | None) -> bytes:
        if value is None:
            return NOT_SAID
        part = _digest(self._content, name + _NUMBER.pack(value))[:2]
        return part if part != NOT_SAID else b"\1\0"


_CONTENT: Final = struct.Struct("<qd")
_NUMBER: Final = struct.Struct("<q")
NOT_SAID: Final = b"\0\0"
"""In a fingerprint of `Pseudonyms.content`: the event has no category, or no time of its own."""


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _digest(start: hashlib.blake2b, data: bytes) -> bytes:
    state = start.copy()
    state.update(data)
    return state.digest()
