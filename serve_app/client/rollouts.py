"""The operator's calls: rollouts and what is served, over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import httpx

from serve_app.client.operator import OperatorClient, take_list, take_object

_BRIEF: Final = ("id", "kind", "phase")


class RolloutClient(OperatorClient):
    """Rollouts of one service.

    Raises
    ------
    NotReadyError
        Nothing answers, or the control app does not.
    ConflictError
        The rollout's phase does not allow it, or another rollout is active.
    NotFoundError
        There is no such rollout or version.
    BadRequestError
        Change what was asked; `errors` names the members.
    """

    def models(self) -> list[dict[str, Any]]:
        """Return what is served, with the share of each version."""
        return take_list(self.send("GET", "/v1/models"), "models", ("name", "versions"))

    def start(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Start a rollout, and return it."""
        return take_object(self.send("POST", "/v1/rollouts", body), _BRIEF)

    def recent(self, model: str = "", limit: int = 20) -> list[dict[str, Any]]:
        """Return rollouts in short form, newest first."""
        query = httpx.QueryParams({"model": model, "limit": limit})
        return take_list(self.send("GET", f"/v1/rollouts?{query}"), "rollouts", _BRIEF)

    def describe(self, rollout_id: int) -> dict[str, Any]:
        """Return a rollout."""
        return take_object(self.send("GET", f"/v1/rollouts/{rollout_id}"), _BRIEF)

    def history(self, rollout_id: int) -> list[dict[str, Any]]:
        """Return the changes of a rollout, oldest first."""
        return take_list(self.send("GET", f"/v1/rollouts/{rollout_id}/history"), "changes", ("at", "who", "why"))

    def command(self, rollout_id: int, command: str, who: str, why: str) -> dict[str, Any]:
        """Tell a rollout to pause, resume, promote or abort, and return it."""
        answer = self.send("POST", f"/v1/rollouts/{rollout_id}/{command}", {"who": who, "why": why})
        return take_object(answer, _BRIEF)
