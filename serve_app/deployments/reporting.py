"""A Gateway tells the control app what it counted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from serve_app.errors import ScorecatError
from serve_app.rollouts.service.ports import Report, Rollouts
from serve_app.runtime.log_once import LogOnce
from serve_app.scoring.service.traffic import Traffic

REPORT_S: Final = 1.0

logger = logging.getLogger("scorecat.gateway")


async def report_counts(
    traffic: Traffic, rollouts: Rollouts, gateway: str, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    """Report for ever what was counted since the last time, once at most: what does not arrive is lost.

    Of a version that has everything no counts are sent: there is nothing to compare it with.
    """
    trouble = LogOnce(logger)
    while True:
        await sleep(REPORT_S)
        for report in take_reports(traffic, gateway):
            try:
                await rollouts.report(report)
                trouble.clear()
            except ScorecatError as exc:
                if trouble.is_new(type(exc)):
                    logger.warning("counts of revision %d were not taken in: %s", report.revision, exc)


def take_reports(traffic: Traffic, gateway: str) -> list[Report]:
    """Take the counts of every revision, those of the one in force even when there are none: it says who follows it."""
    try:
        revision = traffic.split.revision
    except ScorecatError:
        return []
    counts, shadow = {revision: {}, **dict(traffic.take_counts())}, traffic.take_shadow()
    return [
        Report(gateway, each, arms if len(arms) > 1 else {}, shadow if each == revision else None)
        for each, arms in counts.items()
    ]
