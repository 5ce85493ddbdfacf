"""Trouble that comes again and again is logged once."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator


class LogOnce:
    """Tells trouble that is new from trouble that goes on; threads that share one may log a trouble once each.

    Parameters
    ----------
    logger : Logger
        Is told what `guard` catches.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._known: dict[str, str] = {}

    def is_new(self, trouble: object, what: str = "") -> bool:
        """Return whether to log a trouble of `what`: its text is not that of the one before."""
        text = str(trouble)
        is_new = self._known.get(what) != text
        self._known[what] = text
        return is_new

    def clear(self, what: str = "") -> bool:
        """Take `what` for well again, and return whether it was not."""
        return self._known.pop(what, None) is not None

    @contextlib.contextmanager
    def guard(self, message: str, *args: object) -> Iterator[None]:
        """Log what the block raises with this message, once for each text until the block succeeds, and go on."""
        what = message % args
        try:
            yield
        except Exception as exc:
            if self.is_new(exc, what):
                self._logger.exception(message, *args)
        else:
            self.clear(what)
