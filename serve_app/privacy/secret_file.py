"""The secret that ids are keyed with: made once in the state folder, then read by every process."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from serve_app.errors import InvariantError, NotReadyError
from serve_app.privacy.pseudonyms import SECRET_BYTES_MIN

SECRET_BYTES: Final = 32


def load_state_secret(path: Path) -> bytes:
    """Return the secret of a file, which is made with random bytes when there is none.

    Whoever loses it loses the states kept under it: they can no longer be found. Deleting it on purpose
    makes every stored key meaningless.

    Raises
    ------
    NotReadyError
        The file can be neither read nor made.
    InvariantError
        The file holds something else.
    """
    try:
        if not path.exists():
            _create(path)
        text = path.read_text("ascii").strip()
    except OSError as exc:
        raise NotReadyError(f"the secret of the state in {path} cannot be used: {exc.strerror}") from exc
    except UnicodeDecodeError:
        text = ""
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) < SECRET_BYTES_MIN:
        raise InvariantError(f"{path} holds no secret of at least {SECRET_BYTES_MIN} bytes in hex: restore it")
    return secret


def _create(path: Path) -> None:
    """Make the file; of processes that try at once, one wins and nobody sees a half-written one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_hex(SECRET_BYTES) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(partial, path)
        except FileExistsError:
            return
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        partial.unlink(missing_ok=True)
