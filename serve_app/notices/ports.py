"""What webhooks are still to be told, as a port: written together with the change, settled when told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

NoticeStatus = Literal["waiting", "delivered", "undelivered"]


@dataclass(frozen=True, slots=True)
class Notice:
    """One event for one webhook.

    Attributes
    ----------
    id : int
    url : str
    event : mapping
        Plain JSON, see `serve_app.rollouts.service.changes.make_event`.
    n_attempts : int
        How often it was tried.
    """

    id: int
    url: str
    event: Mapping[str, Any]
    n_attempts: int = 0


class Outbox(Protocol):
    """Notices that wait; raises NotReadyError while it cannot be reached."""

    def waiting(self) -> list[Notice]:
        """Return what waits, oldest first."""
        ...

    def settle(self, notice_id: int, status: NoticeStatus, n_attempts: int, problem: str) -> None:
        """Record what became of a notice; `problem` is empty when nothing went wrong."""
        ...
