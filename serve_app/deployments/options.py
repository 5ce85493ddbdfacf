"""Every deployment option in one typed table, by profile.

Ray drops unknown keys of a Serve config silently, so options exist only as fields here, and a test
holds each field against Ray's own schema.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

Profile = Literal["laptop", "production"]


@dataclass(frozen=True, slots=True)
class DeploymentOptions:
    """Options of one deployment; units in the names, meanings as in Ray Serve.

    Attributes
    ----------
    min_replicas, max_replicas : int
        Bounds of autoscaling.
    target_ongoing_requests : float
        Calls a replica should have under way; a call of Encoder or CatBoostModel is a micro-batch.
    max_ongoing_requests : int
        Calls a replica accepts at once.
    max_queued_requests : int
        Calls a caller queues before it gives up; -1 is no limit.
    num_cpus : float
        CPUs Ray reserves for a replica; a share, because replicas wait most of the time.
    upscale_delay_s, downscale_delay_s : float
        How long a need must last before replicas are added or removed.
    metrics_interval_s, look_back_period_s : float
        How often load is reported, and over how long it is averaged.
    graceful_shutdown_timeout_s, graceful_shutdown_wait_loop_s : float
        A stopping replica finishes what it has: for how long at most, and how often it looks.
    health_check_period_s, health_check_timeout_s : float
        How often a replica is asked, and how long it may take.
    """

    min_replicas: int = 1
    max_replicas: int = 1
    target_ongoing_requests: float = 2.0
    max_ongoing_requests: int = 64
    max_queued_requests: int = -1
    num_cpus: float = 0.1
    upscale_delay_s: float = 3.0
    downscale_delay_s: float = 60.0
    metrics_interval_s: float = 1.0
    look_back_period_s: float = 5.0
    graceful_shutdown_timeout_s: float = 20.0
    graceful_shutdown_wait_loop_s: float = 0.5
    health_check_period_s: float = 5.0
    health_check_timeout_s: float = 10.0

    def to_ray(self) -> dict[str, Any]:
        """Return the keyword arguments of ``Deployment.options``."""
        options = asdict(self)
        scaling = {name: options.pop(name) for name in _SCALING}
        return {
            "autoscaling_config": {"initial_replicas": self.min_replicas, **scaling},
            "ray_actor_options": {"num_cpus": options.pop("num_cpus")},
            # Ray's access log costs about 100 us a request; ours is buffered, see AccessLogFile. Below WARNING
            # Ray makes a record for each request even then.
            "logging_config": {"encoding": "JSON", "enable_access_log": False, "log_level": "WARNING"},
            **options,
        }


_SCALING: Final = (
    *("min_replicas", "max_replicas", "target_ongoing_requests", "upscale_delay_s", "downscale_delay_s"),
    *("metrics_interval_s", "look_back_period_s"),
)
"""Fields that are Ray's options of autoscaling."""


# The Gateway accepts more than it will queue, so that it answers overload itself with a problem and
# Retry-After; what it does not accept the proxy answers, in plain text.
_GATEWAY: Final = DeploymentOptions(max_ongoing_requests=10_000, target_ongoing_requests=200.0)

# One, always: it decides for the whole cluster. Versions answer without it, so it may be away for a while.
_CONTROL: Final = DeploymentOptions(num_cpus=0.05, graceful_shutdown_timeout_s=5.0)

OPTIONS: Final[dict[Profile, dict[str, DeploymentOptions]]] = {
    "laptop": {
        "Gateway": _GATEWAY,
        "Encoder": DeploymentOptions(max_replicas=4),
        "CatBoostModel": DeploymentOptions(max_replicas=4),
        "ControlApp": _CONTROL,
    },
    "production": {
        "Gateway": replace(_GATEWAY, min_replicas=2, max_replicas=8),
        "Encoder": DeploymentOptions(min_replicas=2, max_replicas=16),
        "CatBoostModel": DeploymentOptions(min_replicas=2, max_replicas=16),
        "ControlApp": _CONTROL,
    },
}
"""Options by profile and deployment.

laptop: one replica each, for one machine. production: at least two of everything that answers,
because the only replica takes about 10 s to come back; the ControlApp answers no scoring request.
"""


def pool_options(max_replicas: int) -> dict[str, DeploymentOptions]:
    """Return the options of a batch job's own copy of a version: its calls are large and few, its load sudden."""
    one = DeploymentOptions(
        max_replicas=max_replicas, target_ongoing_requests=1.5, upscale_delay_s=2.0, downscale_delay_s=20.0
    )
    return {"Encoder": one, "CatBoostModel": one}
