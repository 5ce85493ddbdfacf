"""What the use cases of scoring reach the outside through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

AppStatus = Literal["starting", "running", "unhealthy", "failed", "deleting"]


@dataclass(frozen=True, slots=True)
class AppState:
    """The application of one version as the cluster sees it.

    Attributes
    ----------
    status : {"starting", "running", "unhealthy", "failed", "deleting"}
        ``failed``: it will not come up by itself.
    detail : str
        The cluster's own words, for the record; empty when there are none.
    is_down : bool
        Whether one of its deployments has no replica that runs, so that it cannot answer.
    """

    status: AppStatus
    detail: str = ""
    is_down: bool = False
