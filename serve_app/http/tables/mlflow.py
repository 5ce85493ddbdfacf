"""MLflow's scoring protocol: ``POST /invocations``, ``/ping``, ``/health``, ``/version``."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from serve_app import __version__
from serve_app.errors import FieldError, InvalidRowError, NotAcceptableError, point_at
from serve_app.features.core.row_errors import RowError
from serve_app.features.core.specs import PURCHASE_FEATURES
from serve_app.features.core.typed_columns import ParsedTable
from serve_app.http.bodies import ARROW, CSV, JSON, PARQUET
from serve_app.http.column_names import describe_ignored, parse_named
from serve_app.http.parameters import BINARY, IGNORED_COLUMNS, IGNORED_HEADER, MANY_ROWS, ROUTING_HEADERS, TABLES
from serve_app.http.parsing_process import MIN_BYTES
from serve_app.http.problems import document_problems
from serve_app.http.query import parse_query, read_defaults
from serve_app.http.schemas import EXAMPLE_REQUEST, Health, Predictions
from serve_app.http.services import Services, exchange_of, services_of
from serve_app.http.tables import json_records
from serve_app.http.tables.json_forms import JSON_KEYS
from serve_app.http.tables.table_formats import (
    DUMPERS,
    Features,
    Parser,
    choose_parser,
    parse_arrow,
    parse_json,
)
from serve_app.scoring.service.table_scoring import TableScores

Asked = Literal["prediction", "label", "raw"]
"""Values of the query parameter ``output``."""
_COLUMNS: Final = [f.name for f in PURCHASE_FEATURES if f.group == "row"]
_EXAMPLE: Final[dict[str, Any]] = {"dataframe_records": [{name: EXAMPLE_REQUEST[name] for name in _COLUMNS}]}
_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        JSON: {
            "schema": {
                "type": "object",
                "description": f"Exactly one of {', '.join(JSON_KEYS)}.",
                "properties": {
                    "dataframe_split": {
                        "type": "object",
                        "properties": {
                            "columns": {"type": "array", "items": {"type": "string"}},
                            "data": {"type": "array", "items": {"type": "array", "items": {}}},
                        },
                        "required": ["columns", "data"],
                    },
                    "dataframe_records": {"type": "array", "items": {"type": "object"}},
                    "inputs": {},
                    "instances": {"type": "array", "items": {}},
                },
            },
            "example": _EXAMPLE,
        },
        CSV: {"schema": {"type": "string"}},
        ARROW: BINARY,
        PARQUET: BINARY,
    },
}


ROUTER: Final = APIRouter(tags=[TABLES])


@ROUTER.post(
    "/invocations",
    summary="Score many rows",
    response_model=Predictions,
    responses={
        200: {
            "headers": {**ROUTING_HEADERS, **IGNORED_HEADER},
            "content": {ARROW: BINARY, CSV: {"schema": {"type": "string"}}},
        },
        **document_problems(400, 404, 406, 413, 415, 422, 500, 503, 504),
    },
    openapi_extra={"requestBody": _BODY, "parameters": MANY_ROWS},
)
async def invocations(request: Request, output: Asked = "prediction") -> Response:
    """Score the rows of a table, in order.

    A row that breaks a rule gets null and an entry in `errors`; the others are scored. Columns
    that are no feature are ignored, and named by the header `X-Ignored-Columns`. A feature without
    a column refuses the table unless its default was declared or `defaults` names it. `output`
    chooses probabilities (values of a regression), the most probable class, or raw scores.
    """
    services, exchange = services_of(request), exchange_of(request)
    given = parse_query(request.scope["query_string"], "output", "defaults")
    deadline_at = exchange.find_deadline()
    media = choose_answer(request.headers.get("accept", "*/*"))
    parser = choose_parser(request.headers.get("content-type", ""))
    route = services.traffic.choose(*exchange.read_routing())
    body = await exchange.read_body(request.receive, deadline_at)
    inputs = route.scorer.manifest.inputs
    defaults = read_defaults(given, [spec.name for spec in inputs])
    parsed = await _parse(services, parser, body, inputs, defaults, deadline_at)
    if parsed.ignored:
        services.meter.count_ignored_columns("/invocations", len(parsed.ignored))
    scores = await route.score_table(services.tables, parsed.batch, deadline_at, ("raw",) if output == "raw" else ())
    refuse_if_all_rejected(scores)
    dump = partial(DUMPERS[media], scores, output)
    answer = await services.run(dump, scores.predictions.nbytes, deadline_at, is_arrow=media == ARROW)
    headers = {"X-Model-Version": str(scores.version), "X-Route-Reason": route.reason}
    if parsed.ignored:
        headers[IGNORED_COLUMNS] = describe_ignored(parsed.ignored)
    return Response(answer, 200, headers, media_type=media)


async def health(request: Request) -> Health:
    """Answer 200 when a model version answers."""
    await services_of(request).traffic.check_ready()
    return Health(status="ok")


for _path in ("/ping", "/health"):
    ROUTER.get(_path, operation_id=_path[1:], summary="Can it score? (MLflow)", responses=document_problems(503))(
        health
    )


@ROUTER.get("/version", summary="Version of scorecat (MLflow)", response_class=PlainTextResponse)
async def get_version() -> Response:
    """Answer the version as plain text."""
    return PlainTextResponse(__version__)


async def _parse(
    services: Services, parser: Parser, body: bytes, features: Features, defaults: Collection[str], deadline_at: float
) -> ParsedTable:
    if parser is parse_json and len(body) > json_records.MIN_BYTES:
        parse = partial(parse_named, json_records.parse_records, body, features, defaults)
        plain = await services.run(parse, len(body), deadline_at)
        if plain is not None:
            return plain
    return await services.run(
        partial(parse_named, parser, body, features, defaults),
        len(body),
        deadline_at,
        is_arrow=parser is parse_arrow,
        apart=parser is parse_json and len(body) > MIN_BYTES,
    )


def refuse_if_all_rejected(scores: TableScores, describe: Callable[[RowError], FieldError] | None = None) -> None:
    """Raise InvalidRowError when there are rows and none could be scored; by default it points at ``/row/name``."""
    if scores.errors and len(scores.errors) == scores.n_rows:
        fields = tuple(map(describe or row_field, scores.errors[:100]))
        raise InvalidRowError(f"none of the {len(scores.errors)} rows can be scored", fields)


def row_field(error: RowError) -> FieldError:
    """Return a row error as a field error that points into the rows."""
    return FieldError(point_at(error.row, error.feature), error.detail)


def choose_answer(accept: str) -> str:
    """Return the media type of the answer for an Accept header, JSON when anything will do.

    Raises
    ------
    NotAcceptableError
        Nothing that can be written is accepted.
    """
    wanted = []
    for part in accept.lower().split(","):
        media, _, parameters = part.strip().partition(";")
        quality = parameters.partition("q=")[2].partition(";")[0].strip()
        try:
            share = float(quality) if quality else 1.0
        except ValueError:
            share = 0.0
        if share > 0:
            wanted.append((share, media.strip()))
    for _, media in sorted(wanted, key=lambda w: -w[0]):
        if media in DUMPERS:
            return media
        if media in {"*/*", "", "application/*"}:
            return JSON
        if media == "text/*":
            return CSV
    raise NotAcceptableError(f"answers can be {', '.join(DUMPERS)}, not {accept[:80]}")
