"""``scorecat predict``: one row through the running service."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import httpx
import pyarrow as pa
import typer

from serve_app.cli.options import UrlOption
from serve_app.client.clients import Client
from serve_app.client.frames import MEDIA_TYPE
from serve_app.client.problems import explain_failure, parse_problem
from serve_app.client.rows import Prediction
from serve_app.cluster.running import read_url
from serve_app.errors import (
    BadRequestError,
    DeadlineExceededError,
    NotFoundError,
    NotReadyError,
    PayloadTooLargeError,
)
from serve_app.features.core.specs import PURCHASE_NAMES
from serve_app.runtime.shown_values import show_line
from serve_app.runtime.trust import choose_trust
from serve_app.settings import load_settings
from serve_app.storage.document_file import load_bytes
from serve_app.terminal.console import JsonOption, out, print_json

TIMEOUT_S = 30.0
_EACH: Final = "probability_"
"""Begins the column of each class."""


def predict(
    row: Annotated[str, typer.Argument(help="The row as JSON, @FILE, or - for standard input.")],
    detail: Annotated[bool, typer.Option(help="Show every feature and where it came from.")] = False,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score one row, by the route of the model that is served."""
    body = _read_row(row)
    url = url or read_url(load_settings())
    try:
        with Client(url, TIMEOUT_S) as client:
            prediction = client.predict(body, detail=detail)
    except DeadlineExceededError:
        raise
    except NotReadyError as exc:
        raise NotReadyError(f"{exc.detail}: is it running? start it with `scorecat up`", exc.retry_after_s) from exc
    except (NotFoundError, PayloadTooLargeError) as exc:
        answer = _score_table_row(url, body, detail=detail, is_purchase_refused=isinstance(exc, NotFoundError))
        if answer is None:  # it is no scorecat that serves another model
            raise
        if as_json:
            print_json(answer)
        else:
            out.print(describe_answer(answer), markup=False)
        return
    _show_purchase(prediction, as_json=as_json)


def _show_purchase(prediction: Prediction, *, as_json: bool) -> None:
    answer: dict[str, Any] = {
        "user_id": prediction.user_id,
        "purchase_probability": prediction.probability,
        "recommendation": prediction.recommendation,
        **(prediction.detail or {}),
    }
    if as_json:
        print_json(answer)
        return
    out.print(f"{answer['purchase_probability']:.6f}  {answer['recommendation']}")
    for name, feature in answer.get("features", {}).items():
        out.print(f"  {name:26} {feature['value']!s:24} {feature['source']}", markup=False)


def _score_table_row(url: str, body: bytes, *, detail: bool, is_purchase_refused: bool) -> dict[str, Any] | None:
    """Return the answer of ``/invocations`` for one row; None where no model is served, or the purchase model is.

    Raises
    ------
    BadRequestError
        The row is no JSON object, or `detail` is asked for.
    ScorecatError
        As the service says.
    """
    try:
        with httpx.Client(base_url=url, timeout=TIMEOUT_S, verify=choose_trust(url)) as http:
            served = http.get("/readyz")
            model = served.json().get("model") if served.is_success else None
            if model is None or not (is_purchase_refused or _takes_other_rows(http, model)):
                return None
            if detail:
                raise BadRequestError(
                    f"--detail is told of the purchase model only, and {model} is served: leave it out. The outputs "
                    f"raw and shap of POST {url}/v2/models/{model}/infer say more of a row"
                )
            content = b'{"dataframe_records":[%s]}' % _check_object(body)
            headers = {"content-type": "application/json", "accept": MEDIA_TYPE}
            response = http.post("/invocations", content=content, headers=headers)
    except ValueError:
        return None
    except httpx.RequestError as failure:
        raise explain_failure(failure, url) from failure
    if not response.is_success:
        raise parse_problem(response, None)
    (answer,) = pa.ipc.open_stream(response.content).read_all().to_pylist()
    return {"model": model, **{name: value for name, value in answer.items() if name != "error"}}


def _takes_other_rows(http: httpx.Client, model: str) -> bool:
    inputs = http.get(f"/v2/models/{quote(model, safe='')}").json().get("inputs", ())
    return [tensor["name"] for tensor in inputs] != list(PURCHASE_NAMES)


def describe_answer(answer: dict[str, Any]) -> str:
    """Return a row's answer as lines: the value or the most probable class first, each class's probability below."""
    if "probability" in answer:
        return f"{answer['probability']:.6f}  {answer['recommendation']}"
    if "prediction" in answer:
        return f"{answer['prediction']:.6g}"
    classes = {name.removeprefix(_EACH): p for name, p in answer.items() if name.startswith(_EACH)}
    width = max(map(len, classes))
    lines = [f"  {label:{width}}  {probability:.6f}" for label, probability in classes.items()]
    return "\n".join([str(answer["label"]), *map(show_line, lines)])


def _check_object(body: bytes) -> bytes:
    try:
        is_object = isinstance(json.loads(body), dict)
    except (ValueError, RecursionError) as exc:
        raise BadRequestError(f"the row is not valid JSON: {exc}") from exc
    if not is_object:
        raise BadRequestError("the row must be a JSON object with a member for each input")
    return body


def _read_row(given: str) -> bytes:
    if given == "-":
        return sys.stdin.buffer.read()
    if given.startswith("@"):
        return load_bytes(Path(given[1:]), "the row")
    return os.fsencode(given)
