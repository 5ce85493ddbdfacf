"""The colour of a state: green is well, yellow wants patience, red wants a person."""

from __future__ import annotations

from typing import Final

_WELL: Final = ("healthy", "running", "serving", "succeeded", "ready", "pass", "no harm")
_WAIT: Final = (
    *("starting", "updating", "upscaling", "downscaling", "queued", "pending", "deploying", "progressing"),
    *("promoting", "paused", "incomplete", "inconclusive", "not started", "not measured"),
)
_ILL: Final = ("unhealthy", "deploy_failed", "failed", "died", "not ready", "rolled back", "fail", "error")


def choose_style(state: str) -> str:
    """Return the style of a state by the words it begins with; none for what is neither well nor ill."""
    said = state.lower()
    for style, words in (("red", _ILL), ("yellow", _WAIT), ("green", _WELL)):
        if said.startswith(words):
            return style
    return ""
