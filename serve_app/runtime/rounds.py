"""Work of rounds that go on whatever becomes of it: trouble is logged once, and the next round tries again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any


class Guard:
    """Does pieces of work and keeps what goes wrong from the others; used by one thread at a time.

    Parameters
    ----------
    logger : Logger
        Is told of trouble, of the same once until the work succeeds.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._logged: dict[str, str] = {}

    def run(self, what: str, work: Callable[..., object], *args: Any) -> None:
        """Do one piece of work; `what` completes "cannot ..."."""
        try:
            work(*args)
        except Exception as exc:  # the next round tries again
            if self._logged.get(what) != str(exc):
                self._logger.exception("cannot %s", what)
            self._logged[what] = str(exc)
        else:
            self._logged.pop(what, None)
