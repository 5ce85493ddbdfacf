"""Values of plans and jobs, read one by one: each reader returns the value or says in a ValueError what is right."""

from __future__ import annotations

import re
from typing import Any, Final

from serve_app.notices.addresses import check_webhook
from serve_app.runtime.read_values import Read
from serve_app.runtime.shown_values import is_number, show
from serve_app.scoring.core.split import N_BUCKETS

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
FULL: Final = 100.0
_PERCENT_BUCKETS: Final = N_BUCKETS // 100

MAX_SECONDS: Final = 366 * 86_400.0
"""No time of a plan is longer: a year."""
MAX_DIGITS: Final = 64


def read_steps(value: Any) -> tuple[float, ...]:
    """Return rising shares in per cent."""
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("must be a list of at least one share in per cent, such as [1, 5, 25, 50, 100]")
    steps: list[float] = []
    for step in value:
        if not is_number(step) or not 0 < step <= FULL:
            raise ValueError(f"each step must be a number above 0 and up to 100 per cent, got {show(step)}")
        if not is_dealt(step):
            raise ValueError(f"a step is a multiple of 0.01 per cent, got {show(step)}")
        if steps and step <= steps[-1]:
            how = "twice" if step == steps[-1] else f"after {steps[-1]:g}"
            raise ValueError(f"steps must rise (users would bounce between versions), got {step:g} {how}")
        steps.append(float(step))
    return tuple(steps)


def is_dealt(percent: float) -> bool:
    """Return whether a share can be dealt out exactly: a multiple of 0.01 per cent."""
    return abs(percent * _PERCENT_BUCKETS - round(percent * _PERCENT_BUCKETS)) <= 1e-6  # noqa: PLR2004


def read_seconds(low: float) -> Read:
    """Return a reader of times, in seconds or as a text such as 5m."""

    def read(value: Any) -> float:
        if isinstance(value, str):
            match = _DURATION.fullmatch(value.strip()) if len(value) <= MAX_DIGITS else None
            value = float(match[1]) * _SECONDS[match[2]] if match else value
        if not is_number(value) or not low <= value <= MAX_SECONDS:
            most = f"{MAX_SECONDS:,.0f} (a year)"
            raise ValueError(
                f"must be seconds from {low:g} to {most}, or a text such as 30s, 5m, 1h, got {show(value)}"
            )
        return float(value)

    return read


def read_webhook(value: Any) -> str | None:
    """Return an address that events can be posted to, or None."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"must be an http or https address, got {show(value)}")  # noqa: TRY004
    try:
        return check_webhook(value)
    except ValueError as exc:
        raise ValueError(f"must be an http or https address to post to; {show(value)} {exc}") from exc
