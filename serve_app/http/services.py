"""What the routes work with: put beside each request, so that routes are made once and not for every application."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

from starlette.requests import Request

from serve_app.history.service.intake import EventSink
from serve_app.http.bulk import Bulk
from serve_app.jobs.service.ports import Jobs
from serve_app.rollouts.service.ports import Rollouts

STATE_KEY: Final = "services"


@dataclass(frozen=True, slots=True)
class Services:
    """What an application was made of.

    Attributes
    ----------
    bulk : Bulk
        With the traffic and the meter.
    events : EventSink or None
    rollouts : Rollouts or None
    jobs : Jobs or None
        Routes of what is None answer 503.
    """

    bulk: Bulk
    events: EventSink | None
    rollouts: Rollouts | None
    jobs: Jobs | None


def services_of(request: Request) -> Services:
    """Return what the application that a request came to was made of."""
    return cast("Services", request.scope["state"][STATE_KEY])
