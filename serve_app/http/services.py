"""What the routes work with: put beside each request, so that routes are made once and not for every application."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

from starlette.requests import Request

from serve_app.history.service.intake import EventSink
from serve_app.http.asgi import Meter
from serve_app.http.bulk import Bulk
from serve_app.jobs.service.ports import Jobs
from serve_app.rollouts.service.ports import Rollouts
from serve_app.scoring.service.traffic import Traffic

STATE_KEY: Final = "services"


@dataclass(frozen=True, slots=True)
class Services:
    """What an application was made of.

    Attributes
    ----------
    traffic : Traffic
    bulk : Bulk
    meter : Meter
    events : EventSink or None
    rollouts : Rollouts or None
    jobs : Jobs or None
        Routes of what is None answer 503.
    """

    traffic: Traffic
    bulk: Bulk
    meter: Meter
    events: EventSink | None
    rollouts: Rollouts | None
    jobs: Jobs | None


def services_of(request: Request) -> Services:
    """Return what the application that a request came to was made of."""
    return cast("Services", request.scope["state"][STATE_KEY])
