"""Where jobs that are asked for over HTTP may read and write."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from serve_app.errors import BadRequestError, ConflictError, NotFoundError

_URL: Final = re.compile(r"(s3|gs)://[A-Za-z0-9][A-Za-z0-9._-]*(/[^?#%@\\\x00-\x1f]*)?")
"""Neither options of the store's client (an endpoint, say) nor keys."""


class AllowedPlaces:
    """Folders and prefixes of object stores that jobs may use.

    Parameters
    ----------
    roots : sequence of str
        Absolute folders, ``s3://bucket/prefix``, ``gs://bucket/prefix``.
    """

    def __init__(self, roots: Sequence[str]) -> None:
        self._folders = [Path(root) for root in roots if "://" not in root]
        self._prefixes = [root.rstrip("/") for root in roots if "://" in root]

    def check(self, location: str, *, is_input: bool, is_new: bool = False) -> str:
        """Return where a job reads or writes, links followed.

        Parameters
        ----------
        location : str
            A path, absolute or below the first folder, or a URL.
        is_input : bool
            Whether there must be something already (looked at on this machine only).
        is_new : bool
            Whether an output must hold nothing yet (likewise).

        Raises
        ------
        BadRequestError
            It is at no allowed place.
        NotFoundError
            There is nothing there.
        ConflictError
            There is something there.
        """
        if "://" in location:
            return self._check_url(location)
        try:
            path = Path(self._folders[0] if self._folders else "/", location).resolve()
            is_allowed = any(path.is_relative_to(folder.resolve()) for folder in self._folders)
        except (ValueError, OSError, RuntimeError):
            is_allowed = False
        if not is_allowed:
            raise self._refuse(location)
        if is_input and not path.exists():
            raise NotFoundError(f"there is nothing at {path}")
        if not is_input and path.exists() and not path.is_dir():
            raise ConflictError(f"{path} is a file; the output is a folder")
        if is_new and path.is_dir() and _holds_files(path):
            raise ConflictError(f"{path} holds files already: choose another folder, or go on with its job by `resume`")
        return str(path)

    def _check_url(self, location: str) -> str:
        parts = location.split("/")
        is_plain = _URL.fullmatch(location) is not None and not {".", ".."} & set(parts) and "" not in parts[3:-1]
        url = location.rstrip("/")
        if not is_plain or not any(url == root or url.startswith(f"{root}/") for root in self._prefixes):
            raise self._refuse(location)
        return url

    def _refuse(self, location: str) -> BadRequestError:
        places = ", ".join([*map(str, self._folders), *self._prefixes])
        return BadRequestError(
            f"{location[:200]!r} is at no place that jobs asked for over HTTP may use ({places}); SCORECAT_JOB_ROOTS "
            "names them, and `scorecat score` may use any"
        )


def _holds_files(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except OSError as exc:
        raise BadRequestError(f"{folder} cannot be read: {exc.strerror}") from exc
