"""Who lives in the control app: services whose protocols say what can be called, and proxies that send calls there.

A new method is written in the service and in its protocol, and nowhere else.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, Literal

from serve_app.jobs.service.ports import Jobs
from serve_app.rollouts.service.ports import Rollouts

Tenant = Literal["rollouts", "jobs"]

PROTOCOLS: Final[Mapping[Tenant, Any]] = {"rollouts": Rollouts, "jobs": Jobs}


@functools.cache  # asked at every call, by every Gateway once a second
def list_methods(tenant: Tenant) -> frozenset[str]:
    """Return what can be called of a tenant: the public methods of its protocol."""
    found = inspect.getmembers_static(PROTOCOLS.get(tenant), inspect.isfunction)
    return frozenset(name for name, _ in found if not name.startswith("_"))


def create_proxy(tenant: Tenant, send: Callable[..., Awaitable[Any]]) -> Any:
    """Return an object with a tenant's methods; each awaits ``send(tenant, method, *arguments, **named)``."""
    return SimpleNamespace(**{method: partial(send, tenant, method) for method in list_methods(tenant)})
