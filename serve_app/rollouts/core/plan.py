"""A plan: which shares a canary gets, what is measured at each, and what ends the rollout.

The words are those of Argo Rollouts' analysis (interval, initialDelay, count, failureLimit, inconclusiveLimit,
consecutiveErrorLimit, dryRun), written here with underscores and units; Argo's spelling is read as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from serve_app.errors import BadRequestError, FieldError, point_at
from serve_app.rollouts.core.plan_values import FULL, read_seconds, read_steps, read_webhook
from serve_app.runtime.near_names import say_unknown
from serve_app.runtime.read_values import Read, read_count, read_flag, read_number
from serve_app.runtime.shown_values import show

LIMIT_NAMES: Final[Mapping[str, str]] = {"errors": "max_added_share", "latency": "max_ratio", "score": "max_psi"}
"""The name of each metric's limit in a plan file."""

_ARGO: Final = {
    "interval": "interval_s",
    "initialDelay": "initial_delay_s",
    "failureLimit": "failure_limit",
    "inconclusiveLimit": "inconclusive_limit",
    "consecutiveErrorLimit": "consecutive_error_limit",
    "dryRun": "dry_run",
}
_NOTHING_TO_COMPARE: Final = (
    "a first step of 100 per cent leaves nothing to compare with, so that no metric can be measured: begin with a "
    "smaller one, or write `metrics: {}` to let time and health alone decide"
)


@dataclass(frozen=True, slots=True)
class Metric:
    """One comparison of the canary with the stable version.

    Attributes
    ----------
    name : {"errors", "latency", "score"}
    alpha : float
        Probability at most of failing a good canary, over all looks of the whole rollout.
    limit : float
        What a canary may add and still pass. errors: share of requests (0.02 is two points more); latency: ratio
        of geometric means (1.2 is 20 % slower); score: population stability index.
    interval_s : float
        Seconds from one measurement to the next.
    count : int
        Measurements that must pass before a step is done.
    failure_limit, inconclusive_limit, consecutive_error_limit : int
        How many measurements of one step may fail, be inconclusive, or (in a row) not be taken.
    dry_run : bool
        Measured and shown, never decides.
    """

    name: str
    alpha: float
    limit: float
    interval_s: float = 10.0
    count: int = 1
    failure_limit: int = 0
    inconclusive_limit: int = 1080
    consecutive_error_limit: int = 4
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A rollout's plan.

    Attributes
    ----------
    steps : tuple of float
        Per cent of the users, rising, at most 100. A last step of 100 promotes by itself; any other waits there for
        a person.
    interval_s : float
        Least seconds at each step.
    initial_delay_s : float
        Seconds from the start of a step to its first measurement.
    deploy_timeout_s : float
        A canary that is not ready by then fails the rollout before it gets traffic.
    bake_time_s : float
        Seconds at 100 % before the rollout has succeeded.
    rollback_window_s : float
        Seconds after success in which the old version stays warm and can be taken back.
    webhook : str or None
        http(s) address that is told of every change.
    metrics : tuple of Metric
        Each name at most once; without any, time and health alone decide.
    """

    steps: tuple[float, ...] = (1.0, 5.0, 25.0, 50.0, 100.0)
    interval_s: float = 120.0
    initial_delay_s: float = 10.0
    deploy_timeout_s: float = 600.0
    bake_time_s: float = 300.0
    rollback_window_s: float = 3600.0
    webhook: str | None = None
    metrics: tuple[Metric, ...] = (
        Metric("errors", alpha=0.03, limit=0.02),
        Metric("latency", alpha=0.01, limit=1.2, interval_s=30.0, inconclusive_limit=360),
        Metric("score", alpha=0.01, limit=0.25, interval_s=30.0, inconclusive_limit=360),
    )

    @property
    def false_rollback_share(self) -> float:
        """Bound on the share of good canaries that are rolled back: the deciding metrics' alphas together."""
        return sum(metric.alpha for metric in self.metrics if not metric.dry_run)


DEFAULT_PLAN: Final = Plan()
"""The plan of a rollout that names none; `docs/rollouts.md` shows what it does."""

_DEFAULT_METRICS: Final = {metric.name: metric for metric in DEFAULT_PLAN.metrics}


def parse_plan(record: Any) -> Plan:
    """Return the plan of a mapping such as a YAML file holds; what is left out is as in `DEFAULT_PLAN`.

    Raises
    ------
    BadRequestError
        `errors` names every field that cannot be used and what would be right.
    """
    errors: list[FieldError] = []
    if not isinstance(record, Mapping):
        raise BadRequestError("a plan is a mapping of names such as `steps` and `metrics`")
    fields = _read_fields(record, "", _PLAN_FIELDS, errors)
    found = fields.pop("metrics", None)
    if found is not None:
        metrics = [_parse_metric(name, settings, errors) for name, settings in found.items()]
        fields["metrics"] = tuple(metric for metric in metrics if metric is not None)
    plan = Plan(**fields)
    if plan.steps[0] >= FULL and plan.metrics and "/steps" not in {error.pointer for error in errors}:
        errors.append(FieldError("/steps", _NOTHING_TO_COMPARE))
    if errors:
        raise BadRequestError("the plan cannot be used.", tuple(errors))
    return plan


def restore_plan(record: Mapping[str, Any]) -> Plan:
    """Return the plan that `dump_plan` made a record of, whatever would be refused today.

    Raises
    ------
    KeyError, TypeError
        It is no such record.
    """
    metrics = tuple(
        Metric(name, **{"limit" if field == LIMIT_NAMES[name] else field: value for field, value in settings.items()})
        for name, settings in record["metrics"].items()
    )
    return Plan(**{**record, "steps": tuple(record["steps"]), "metrics": metrics})


def dump_plan(plan: Plan) -> dict[str, Any]:
    """Return a plan as a plain dict that `parse_plan` reads."""
    record = dataclasses.asdict(plan) | {"steps": list(plan.steps), "metrics": {}}
    for metric in plan.metrics:
        settings = dataclasses.asdict(metric)
        name = settings.pop("name")
        record["metrics"][name] = {LIMIT_NAMES[name]: settings.pop("limit"), **settings}
    return record


def _parse_metric(name: Any, settings: Any, errors: list[FieldError]) -> Metric | None:
    pointer = point_at("metrics", name if isinstance(name, str) else show(name))
    settings = {} if settings is None else settings
    if name not in LIMIT_NAMES:
        errors.append(FieldError(pointer, f"there is no such metric; there are {', '.join(LIMIT_NAMES)}"))
        return None
    if not isinstance(settings, Mapping):
        errors.append(FieldError(pointer, "must be a mapping of settings"))
        return None
    limit_name = LIMIT_NAMES[name]
    fields = _read_fields(settings, pointer, {**_METRIC_FIELDS, limit_name: _LIMITS[name]}, errors)
    if limit_name in fields:
        fields["limit"] = fields.pop(limit_name)
    return dataclasses.replace(_DEFAULT_METRICS[name], **fields)


def _read_fields(
    record: Mapping[Any, Any], pointer: str, readers: Mapping[str, Read], errors: list[FieldError]
) -> dict[str, Any]:
    out: dict[str, Any] = {}
    read_as: dict[str, Any] = {}
    for given, value in record.items():
        name = _ARGO.get(given, given) if isinstance(given, str) else show(given)
        pointed = pointer + point_at(given if isinstance(given, str) else show(given))
        if name not in readers:
            errors.append(FieldError(pointed, say_unknown(given, readers, name)))
        elif name in read_as:
            errors.append(FieldError(pointed, f"says the same as {read_as[name]}: give one of them"))
        else:
            read_as[name] = given
            try:
                out[name] = readers[name](value)
            except ValueError as exc:
                errors.append(FieldError(pointed, str(exc)))
    return out


def _read_metrics(value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("must be a mapping from errors, latency or score to settings")  # noqa: TRY004
    return value


_METRIC_FIELDS: Final[Mapping[str, Read]] = {
    "alpha": read_number(0.0, 0.5, "a probability above 0 and below 0.5", is_open=True),
    "interval_s": read_seconds(1.0),
    "count": read_count(1),
    "failure_limit": read_count(0),
    "inconclusive_limit": read_count(0),
    "consecutive_error_limit": read_count(0),
    "dry_run": read_flag,
}
_LIMITS: Final[Mapping[str, Read]] = {
    "errors": read_number(0.0, 1.0, "a share above 0 and below 1", is_open=True),
    "latency": read_number(1.0, 100.0, "a ratio above 1 and below 100", is_open=True),
    "score": read_number(0.0, 100.0, "a PSI above 0 and below 100", is_open=True),
}
_PLAN_FIELDS: Final[Mapping[str, Read]] = {
    "steps": read_steps,
    "interval_s": read_seconds(0.0),
    "initial_delay_s": read_seconds(0.0),
    "deploy_timeout_s": read_seconds(1.0),
    "bake_time_s": read_seconds(0.0),
    "rollback_window_s": read_seconds(0.0),
    "webhook": read_webhook,
    "metrics": _read_metrics,
}

PLAN_MEMBERS: Final = tuple(_PLAN_FIELDS)
"""The members of a plan."""
PLAN_NAMES: Final = frozenset({*_PLAN_FIELDS, *_ARGO})
"""What the members of a plan may be called, Argo's spelling too."""
