"""``/v1/rollouts`` and ``/v1/models``: who gets which version, and how that changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response

from serve_app.errors import BadRequestError, NotReadyError, PackageError
from serve_app.http.operator.rollout_schemas import (
    COMMAND,
    START,
    RolloutHistory,
    RolloutList,
    RolloutView,
    ServedModels,
)
from serve_app.http.parameters import LOCATION_HEADER, ROLLOUTS
from serve_app.http.records import REASON, answer_json, describe_answers, read_reason, read_record
from serve_app.http.services import services_of
from serve_app.rollouts.service.ports import Command, Rollouts
from serve_app.rollouts.service.request import MAX_NAME_CHARACTERS, parse_start
from serve_app.scoring.core.split import Arm, Split

MAX_ID: Final = 2**63 - 1

RolloutId = Annotated[int, Path(ge=1, le=MAX_ID, description="Number of the rollout.")]


ROUTER: Final = APIRouter(prefix="/v1", tags=[ROLLOUTS])
_REFUSED: Final = "409 when the rollout's phase or kind does not allow it; the detail says what can be done."
_TAKES_BACK: Final = (
    "The stable version answers everybody at once. Ends A/B tests and shadows too and, within the rollback window, "
    "takes back a canary that succeeded."
)
_COMMANDS: Final[Mapping[Command, tuple[str, str]]] = {
    "pause": ("Pause a canary", f"Shares stay as they are; a failure still rolls back. {_REFUSED}"),
    "resume": ("Go on after a pause", f"The step's measurements begin anew. {_REFUSED}"),
    "promote": ("Give a canary everything", f"It bakes, and then becomes the champion. {_REFUSED}"),
    "abort": ("Take everything back", f"{_TAKES_BACK} {_REFUSED}"),
}


@ROUTER.get("/models", summary="Which versions answer whom", responses=describe_answers(ServedModels, 503))
async def list_models(request: Request) -> Response:
    """List the served model's versions with their shares, as this Gateway follows them."""
    return answer_json({"models": [describe_split(services_of(request).traffic.split)]})


@ROUTER.get("/rollouts", summary="List rollouts", responses=describe_answers(RolloutList, 422, 503))
async def list_rollouts(
    request: Request,
    model: Annotated[str, Query(max_length=MAX_NAME_CHARACTERS, description="Default the served one.")] = "",
    limit: Annotated[int, Query(ge=1, le=1_000)] = 20,
) -> Response:
    """List rollouts, newest first."""
    return answer_json({"rollouts": await _need_rollouts(request).recent(model, limit)})


@ROUTER.get("/rollouts/{rollout_id}", summary="A rollout", responses=describe_answers(RolloutView, 404, 422, 503))
async def get_rollout(request: Request, rollout_id: RolloutId) -> Response:
    """Show a rollout's plan, shares, verdicts and figures."""
    return answer_json(await _need_rollouts(request).describe(rollout_id))


@ROUTER.get(
    "/rollouts/{rollout_id}/history",
    summary="What happened to a rollout",
    responses=describe_answers(RolloutHistory, 404, 422, 503),
)
async def get_rollout_history(request: Request, rollout_id: RolloutId) -> Response:
    """List the changes of a rollout, oldest first: when, who, why, and on what evidence."""
    return answer_json({"changes": await _need_rollouts(request).history(rollout_id)})


@ROUTER.post(
    "/rollouts",
    status_code=201,
    summary="Start a rollout",
    responses=describe_answers(
        RolloutView, 400, 404, 409, 413, 415, 422, 500, 503, 504, status=201, headers=LOCATION_HEADER
    ),
    openapi_extra=START.document(is_required=True),
)
async def start_rollout(request: Request) -> Response:
    """Start a canary, an A/B test or a shadow; its version is deployed and proved before it gets any traffic.

    409 while another rollout of the model is active. The header `Location` names the rollout.
    """
    record = await read_record(request)
    who, why = read_reason({name: record.pop(name) for name in REASON if name in record}, COMMAND)
    try:
        found = await _need_rollouts(request).start(parse_start(record), who, why)
    except PackageError as exc:  # of the version that was asked for; what is served is whole
        raise BadRequestError(f"the version cannot be rolled out: {exc.detail}") from exc
    return answer_json(found, 201, {"Location": f"/v1/rollouts/{found['id']}"})


def _add_command(command: Command, summary: str, description: str) -> None:
    @ROUTER.post(
        f"/rollouts/{{rollout_id}}/{command}",
        summary=summary,
        description=description,
        operation_id=f"{command}Rollout",
        responses=describe_answers(RolloutView, 400, 404, 409, 413, 415, 422, 503, 504),
        openapi_extra=COMMAND.document(is_required=False),
    )
    async def tell_rollout(request: Request, rollout_id: RolloutId) -> Response:
        who, why = read_reason(await read_record(request), COMMAND)
        return answer_json(await _need_rollouts(request).command(rollout_id, command, who, why))


for _command, (_summary, _description) in _COMMANDS.items():
    _add_command(_command, _summary, _description)


def describe_split(split: Split) -> dict[str, Any]:
    """Return the served model of a split, see `ServedModel`."""
    versions = [
        _describe_version(arm.version, _name_role(arm, split.stable), share=arm.share)
        for arm in sorted(split.arms, key=lambda arm: arm.version)
    ]
    if split.shadow is not None:
        versions.append(_describe_version(split.shadow.version, "shadow", copied_share=split.shadow.share))
    return {
        "name": split.model,
        "stable": split.stable,
        "revision": split.revision,
        "pins": split.pins,
        "versions": versions,
    }


def _name_role(arm: Arm, stable: int) -> str:
    if arm.version == stable:
        return "stable"
    return "canary" if arm.share else "standby"


def _describe_version(version: int, role: str, share: float = 0.0, copied_share: float = 0.0) -> dict[str, Any]:
    return {"version": version, "role": role, "share": share, "copied_share": copied_share}


def _need_rollouts(request: Request) -> Rollouts:
    rollouts = services_of(request).rollouts
    if rollouts is None:
        raise NotReadyError("this service runs without a control app, which rollouts need")
    return rollouts
