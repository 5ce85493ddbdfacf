"""The Open Inference Protocol v2: ``/v2``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import numpy as np
import orjson
from fastapi import APIRouter, Request, Response

from serve_app import __version__
from serve_app.errors import FieldError, NotFoundError, point_at
from serve_app.features.core.row_errors import RowError
from serve_app.http.parameters import BINARY, INFERENCE, MANY_ROWS, ROUTING_HEADERS, describe_header
from serve_app.http.parsing_process import MIN_BYTES
from serve_app.http.problems import document_problems
from serve_app.http.query import parse_query, read_defaults
from serve_app.http.schemas import InferResponse, Live, ModelMetadata, Ready, ServerMetadata, TensorMetadata
from serve_app.http.services import exchange_of, services_of
from serve_app.http.tables.mlflow import refuse_if_all_rejected
from serve_app.http.tables.tensors import InferRequest, dump_tensor, parse_infer
from serve_app.models.core.manifest import Manifest
from serve_app.models.core.outputs import EXTRAS, list_outputs, name_prediction
from serve_app.scoring.service.route import Route
from serve_app.scoring.service.table_scoring import TableScores

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
_MAX_LENGTH_DIGITS: Final = 12
ERROR_OUTPUT: Final = "error"
"""Output with a message a rejected row; it comes unasked as soon as a row was rejected."""
BIAS: Final = "bias"
"""What the last of a row's SHAP values is called: it is of no feature."""

_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        "application/json": {"schema": {"$ref": "#/components/schemas/InferBody"}},
        "application/octet-stream": BINARY,
    },
}

_LENGTH: Final = describe_header(
    HEADER_LENGTH, {"type": "integer"}, "Bytes of JSON before the binary tensors, when there are any.", is_always=False
)


ROUTER: Final = APIRouter(prefix="/v2", tags=[INFERENCE])


@ROUTER.get("", summary="Server metadata")
async def get_server_metadata() -> ServerMetadata:
    """Answer name, version and extensions."""
    return ServerMetadata(name="scorecat", version=__version__, extensions=["binary_tensor_data"])


@ROUTER.get("/health/live", summary="Is the server alive?")
async def is_server_live() -> Live:
    """Answer as long as the process can."""
    return Live(live=True)


@ROUTER.get("/health/ready", summary="Can the server score?", responses=document_problems(503))
async def is_server_ready(request: Request) -> Ready:
    """Answer 200 when a model version answers."""
    await services_of(request).traffic.check_ready()
    return Ready(ready=True)


async def metadata(request: Request, model: str, version: str | None = None) -> ModelMetadata:
    """Answer inputs and outputs; a table has one input a column."""
    traffic = services_of(request).traffic
    scorer = traffic.find(model[:80], _parse_version(model, version))
    inputs = [
        TensorMetadata(name=s.name, datatype="BYTES" if s.kind == "categorical" else "FP64", shape=[-1])
        for s in scorer.manifest.features
    ]
    outputs = [
        TensorMetadata(name=name, datatype=output.datatype, shape=[-1, *output.shape])
        for name, output in list_outputs(scorer.manifest).items()
    ]
    versions = [str(v) for v in traffic.split.versions]
    return ModelMetadata(name=model, versions=versions, platform="catboost", inputs=inputs, outputs=outputs)


async def model_ready(request: Request, model: str, version: str | None = None) -> Ready:
    """Answer 200 when the model, and the version if named, answers."""
    services_of(request).traffic.find(model[:80], _parse_version(model, version)).check_answering()
    return Ready(ready=True)


async def infer(request: Request, model: str, version: str | None = None) -> Response:
    """Score the rows of the input tensors, in order.

    Outputs are `probability`, `recommendation` (binary), `label`, `raw`, `shap` and `version`, or
    `prediction` of a regression; the model's metadata lists them. Values of rejected rows are null
    (NaN in binary), and the output `error` says why. The parameter `features` of `shap` names what
    its values are of. A feature without a tensor refuses the request unless its default was
    declared or `defaults` names it.
    """
    services, exchange = services_of(request), exchange_of(request)
    given = parse_query(request.scope["query_string"], "defaults")
    deadline_at = exchange.find_deadline()
    length = exchange.read_number(HEADER_LENGTH, "a whole number", _MAX_LENGTH_DIGITS)
    route = services.traffic.route(model[:80], _parse_version(model, version), *exchange.read_routing())
    manifest = route.scorer.manifest
    body = await exchange.read_body(request.receive, deadline_at)
    is_large_json = (len(body) if length is None else length) > MIN_BYTES
    defaults = read_defaults(given, [spec.name for spec in manifest.inputs])
    parse = partial(parse_infer, body, length, manifest.inputs, defaults)
    asked = await services.run(parse, len(body), deadline_at, apart=is_large_json)
    wanted = _choose_outputs(asked, manifest)
    extras = [extra for extra in EXTRAS if extra in dict(wanted)]
    scores = await route.score_table(services.tables, asked.table.batch, deadline_at, extras)
    refuse_if_all_rejected(scores, partial(_point_into, asked.places))
    return await services.run(lambda: _answer(model, asked, wanted, scores, route), 24 * scores.n_rows, deadline_at)


def _add_model_routes(path: str, what: str) -> None:
    about = partial(ROUTER.get, responses=document_problems(404, 503))
    about(path, operation_id=f"get{what}Metadata", summary="Model metadata")(metadata)
    about(f"{path}/ready", operation_id=f"is{what}Ready", summary="Can the model score?")(model_ready)
    ROUTER.post(
        f"{path}/infer",
        operation_id=f"infer{what}",
        summary="Score many rows (Open Inference Protocol)",
        response_model=InferResponse,
        responses={
            200: {
                "headers": {**ROUTING_HEADERS, **_LENGTH},
                "content": {"application/octet-stream": BINARY},
            },
            **document_problems(400, 404, 413, 415, 422, 500, 503, 504),
        },
        openapi_extra={"requestBody": _BODY, "parameters": MANY_ROWS},
    )(infer)


for _path, _what in {"/models/{model}": "Model", "/models/{model}/versions/{version}": "ModelVersion"}.items():
    _add_model_routes(_path, _what)


def _parse_version(model: str, version: str | None) -> int | None:
    if version is not None and not (version.isdecimal() and version.isascii() and len(version) <= 9):  # noqa: PLR2004
        raise NotFoundError(f"version {version[:40]!r} of {model[:80]} is no number")
    return None if version is None else int(version)


def _point_into(places: Mapping[str, tuple[str | int, ...]], error: RowError) -> FieldError:
    """Return a row error that points at the value, or at the input of a binary one, and so has to name its feature."""
    place = places.get(error.feature, ("inputs",))
    return FieldError(
        point_at(*place, *([error.row] if place[-1] == "data" else [])), f"{error.feature} {error.detail}"
    )


def _choose_outputs(asked: InferRequest, manifest: Manifest) -> list[tuple[str, bool]]:
    """Return (name, is binary) of what is to be answered; raises NotFoundError."""
    outputs = list_outputs(manifest)
    unknown = [name for name, _ in asked.outputs if name not in {*outputs, ERROR_OUTPUT}]
    if unknown:
        raise NotFoundError(f"there is no output {unknown[0][:80]!r}; there are {', '.join([*outputs, ERROR_OUTPUT])}")
    return asked.outputs or [(name, asked.binary_default) for name, output in outputs.items() if output.is_default]


def _answer(
    model: str, asked: InferRequest, wanted: list[tuple[str, bool]], scores: TableScores, route: Route
) -> Response:
    columns: dict[str, Callable[[], Any]] = {
        name_prediction(scores.manifest): lambda: scores.predictions,
        "recommendation": lambda: list(scores.recommendations),
        "label": lambda: list(scores.labels),
        **{extra: partial(scores.values.__getitem__, extra) for extra in EXTRAS},
        "version": lambda: np.full(scores.n_rows, scores.version, dtype=np.int64),
        ERROR_OUTPUT: lambda: scores.list_messages(""),
    }
    if scores.errors and ERROR_OUTPUT not in dict(wanted):
        wanted = [*wanted, (ERROR_OUTPUT, asked.binary_default)]
    tensors = [dump_tensor(name, columns[name](), binary=binary) for name, binary in wanted]
    for tensor, _ in tensors:
        if tensor["name"] == "shap":
            names = [*scores.manifest.feature_names, BIAS]
            tensor["parameters"] = {**tensor.get("parameters", {}), "features": names}
    value: dict[str, Any] = {"model_name": model, "model_version": str(scores.version)}
    if asked.request_id is not None:
        value["id"] = asked.request_id
    value["outputs"] = [tensor for tensor, _ in tensors]
    head = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    headers = {"X-Model-Version": str(scores.version), "X-Route-Reason": route.reason}
    if not any(binary for _, binary in wanted):
        return Response(head, 200, headers, media_type="application/json")
    body = head + b"".join(data for _, data in tensors)
    return Response(body, 200, {**headers, HEADER_LENGTH: str(len(head))}, media_type="application/octet-stream")
