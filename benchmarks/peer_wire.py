"""How each framework wants a row and gives its answer, as rows that `benchmarks.load` sends and checks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rows import encode_bodies


@dataclass(frozen=True, slots=True)
class Wire:
    """A route, and whether its rows are encoded by the client."""

    path: str
    is_tensor: bool = False
    has_key: bool = False


WIRES = {
    "litserve": Wire("/predict_purchase"),
    "bentoml": Wire("/predict_purchase", has_key=True),
    "mlserver": Wire("/v2/models/purchase/infer", is_tensor=True),
}


def rewrite_rows(rows: Path, wire: Wire, package_dir: Path, *, is_batched: bool) -> Path:
    """Write the rows in a framework's own form beside `rows`, and return where."""
    if not wire.is_tensor and not wire.has_key:
        return rows
    items = json.loads(rows.read_bytes())
    if wire.is_tensor:
        matrix = encode_bodies(package_dir, [item["body"] for item in items])
        items = [_as_tensor(str(k), values, item) for k, (values, item) in enumerate(zip(matrix, items, strict=True))]
    else:
        items = [_with_key(item, is_batched=is_batched) for item in items]
    path = rows.with_name(f"{rows.stem}{wire.path.replace('/', '-')}-{int(is_batched)}.json")
    path.write_text(json.dumps(items))
    return path


def _with_key(item: dict, *, is_batched: bool) -> dict:
    if is_batched:
        return {"body": {"rows": [item["body"]]}, "answer": [item["answer"]]}
    return {"body": {"row": item["body"]}, "answer": item["answer"]}


def _as_tensor(key: str, values: list[float], item: dict) -> dict:
    tensor = {"name": "rows", "shape": [1, len(values)], "datatype": "FP32", "data": values}
    probability = item["answer"]["purchase_probability"]
    output = {
        "name": "probability",
        "shape": [1, 1],
        "datatype": "FP64",
        "parameters": {"content_type": "np"},
        "data": [probability],
    }
    answer = {"model_name": "purchase", "id": key, "parameters": {}, "outputs": [output]}
    return {"body": {"id": key, "inputs": [tensor]}, "answer": answer}
