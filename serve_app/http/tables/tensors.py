"""Tensors of the Open Inference Protocol, as JSON and as binary.

A table has one input a column, shape ``[n]`` or ``[n, 1]``; strings are ``BYTES``.

References
----------
Open Inference Protocol v2 (KServe), and its binary tensor data extension: the body is the JSON
object, ``Inference-Header-Content-Length`` bytes long, then the little-endian tensors in order;
a BYTES element is a uint32 length and that many bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from serve_app.errors import FieldError, InvalidDataError, MalformedBodyError, point_at
from serve_app.features.core.cells import convert_values
from serve_app.features.core.column_types import can_hold
from serve_app.features.core.specs import FeatureSpec, arrow_schema
from serve_app.features.core.typed_columns import ParsedTable, check_shape, finish_table
from serve_app.http.column_names import MAX_NAMED, check_columns
from serve_app.runtime.json_bodies import load_json
from serve_app.runtime.near_names import hint_similar

NUMBERS: Final[dict[str, str]] = {
    "BOOL": "|b1",
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
}
"""NumPy type by datatype; BYTES has none."""


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A parsed inference request.

    Attributes
    ----------
    table : ParsedTable
    request_id : str or None
        ``id``, to be echoed.
    outputs : list of (name, is binary)
        What is asked for; empty means everything.
    binary_default : bool
        Whether outputs without a choice of their own come as binary.
    places : dict of str to tuple
        Where the values of an input are in the JSON of the body, as parts of a pointer; of binary ones the input.
    """

    table: ParsedTable
    request_id: str | None
    outputs: list[tuple[str, bool]]
    binary_default: bool
    places: dict[str, tuple[str | int, ...]]


def parse_infer(
    body: bytes, header_length: int | None, features: Sequence[FeatureSpec], defaults: Collection[str] = ()
) -> InferRequest:
    """Parse the body of ``POST .../infer``; NaN in its JSON is null.

    Raises
    ------
    MalformedBodyError
        Not the protocol's form: JSON, sizes, shapes.
    InvalidDataError
        An input of no feature, or of a datatype that cannot mean it.
    InvalidRowError
        A feature without an input, that nothing was declared for and that is not among `defaults`.
    """
    if header_length is not None and not 0 <= header_length <= len(body):
        raise MalformedBodyError(f"Inference-Header-Content-Length is {header_length}, the body has {len(body)} bytes")
    value = load_json(body if header_length is None else body[:header_length], "the inference header")
    inputs = value.get("inputs") if isinstance(value, dict) else None
    if not isinstance(inputs, list) or not inputs or not all(isinstance(i, dict) for i in inputs):
        raise MalformedBodyError("the body must be an object with a list `inputs` of tensors, one a column")
    binary = b"" if header_length is None else body[header_length:]
    parameters = value.get("parameters")
    default = bool(parameters.get("binary_data_output")) if isinstance(parameters, dict) else False
    request_id = value.get("id")
    table = _parse_inputs(inputs, binary, features)
    check_columns(table, features, defaults)
    return InferRequest(
        table,
        request_id if isinstance(request_id, str) else None,
        _parse_outputs(value.get("outputs"), default),
        default,
        {i["name"]: ("inputs", k, "data") if "data" in i else ("inputs", k) for k, i in enumerate(inputs)},
    )


def _parse_outputs(outputs: Any, default: bool) -> list[tuple[str, bool]]:  # noqa: FBT001 - both are the protocol's
    if outputs is None:
        return []
    if not isinstance(outputs, list) or not all(
        isinstance(o, dict) and isinstance(o.get("name"), str) for o in outputs
    ):
        raise MalformedBodyError("outputs must be a list of objects with a name")
    asked = []
    for output in outputs:
        parameters = output.get("parameters")
        chosen = parameters.get("binary_data", default) if isinstance(parameters, dict) else default
        asked.append((output["name"], bool(chosen)))
    if len(dict(asked)) != len(asked):
        raise MalformedBodyError("an output is asked for twice")
    return asked


def _parse_inputs(inputs: list[dict[str, Any]], binary: bytes, features: Sequence[FeatureSpec]) -> ParsedTable:
    specs = {spec.name: spec for spec in features}
    check_shape(0, len(inputs))
    _refuse_unknown([tensor.get("name") for tensor in inputs], specs)
    kinds = {f.name: f.type for f in arrow_schema(tuple(features))}
    columns: dict[str, pa.Array] = {}
    errors: dict[int, Any] = {}
    n_rows, at = -1, 0
    for k, tensor in enumerate(inputs):
        name, datatype, n = _check_tensor(tensor, k, specs)
        if n_rows not in {-1, n}:
            raise MalformedBodyError(f"input {name} has {n} rows, the ones before have {n_rows}")
        n_rows = n
        check_shape(n_rows, len(inputs))
        if name in columns:
            raise MalformedBodyError(f"input {name} is there twice")
        parameters = tensor.get("parameters")
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is None:
            columns[name] = convert_values(specs[name], kinds[name], _data(tensor, name, n), errors)
        else:
            if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(binary) - at:
                raise MalformedBodyError(
                    f"input {name}: binary_data_size is {size!r}, {len(binary) - at} bytes are left"
                )
            columns[name] = _read_binary(specs[name], datatype, binary[at : at + size], n, errors)
            at += size
    if at != len(binary):
        raise MalformedBodyError(f"{len(binary) - at} bytes of binary data belong to no input")
    named = [(spec.name, columns[spec.name]) for spec in features if spec.name in columns]
    fields = [pa.field(name, array.type) for name, array in named]
    return finish_table([array for _, array in named], fields, features, n_rows, errors)


def _refuse_unknown(given: list[Any], known: Collection[str]) -> None:
    unknown = [(at, name) for at, name in enumerate(given) if not isinstance(name, str) or name not in known]
    if not unknown:
        return
    there = {name for name in given if isinstance(name, str)}
    absent = [name for name in known if name not in there]
    errors = []
    for at, name in unknown[:MAX_NAMED]:
        hint = hint_similar(str(name), absent)
        errors.append(FieldError(point_at("inputs", at, "name"), f"there is no input {str(name)[:80]!r}{hint}"))
    raise InvalidDataError(f"{errors[0].detail}; the model's metadata lists them", tuple(errors))


def _check_tensor(tensor: dict[str, Any], k: int, specs: dict[str, FeatureSpec]) -> tuple[str, str, int]:
    name, datatype, shape = str(tensor["name"]), tensor.get("datatype"), tensor.get("shape")
    if not isinstance(datatype, str) or (datatype not in NUMBERS and datatype != "BYTES"):
        raise InvalidDataError(f"input {name} has the unknown datatype {str(datatype)[:40]!r}")
    kind = pa.string() if datatype == "BYTES" else pa.from_numpy_dtype(np.dtype(NUMBERS[datatype]))
    if not can_hold(specs[name], kind):
        wanted = "BYTES" if specs[name].kind == "categorical" else "a number, FP64 for example"
        fields = (FieldError(point_at("inputs", k, "datatype"), f"of {name} must be {wanted}"),)
        raise InvalidDataError(f"input {name} cannot have the datatype {datatype}", fields)
    sizes = shape if isinstance(shape, list) else []
    whole = all(isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in sizes)
    if not (whole and (len(sizes) == 1 or (len(sizes) == 2 and sizes[1] == 1))):  # noqa: PLR2004 - [n] or [n, 1]
        raise MalformedBodyError(f"input {name} must have the shape [n] or [n, 1], not {str(shape)[:80]}")
    return name, datatype, sizes[0]


def _data(tensor: dict[str, Any], name: str, n_rows: int) -> list[Any]:
    data = tensor.get("data")
    if not isinstance(data, list):
        raise MalformedBodyError(f"input {name} needs a list `data` or a binary_data_size")
    if data and isinstance(data[0], list):  # [n, 1] may come nested
        data = [row[0] if isinstance(row, list) and len(row) == 1 else row for row in data]
    if len(data) != n_rows:
        raise MalformedBodyError(f"input {name} has {len(data)} values, its shape says {n_rows}")
    return data


def _read_binary(spec: FeatureSpec, datatype: str, data: bytes, n_rows: int, errors: dict[int, Any]) -> pa.Array:
    if datatype == "BYTES":
        return convert_values(spec, pa.string(), _read_strings(spec.name, data, n_rows), errors)
    dtype = np.dtype(NUMBERS[datatype])
    if len(data) != n_rows * dtype.itemsize:
        raise MalformedBodyError(
            f"input {spec.name} has {len(data)} bytes, {n_rows} values of {datatype} have {n_rows * dtype.itemsize}"
        )
    values = np.frombuffer(data, dtype=np.uint8 if datatype == "BOOL" else dtype)
    return pa.array(values.copy() if spec.kind == "categorical" else values.astype(np.float64))


def _read_strings(name: str, data: bytes, n_rows: int) -> list[str]:
    strings, at = [], 0
    try:
        for _ in range(n_rows):
            (size,) = struct.unpack_from("<I", data, at)
            end = at + 4 + size
            if end > len(data):
                raise MalformedBodyError(f"input {name}: a string goes beyond the tensor's bytes")
            strings.append(data[at + 4 : end].decode())
            at = end
    except (struct.error, UnicodeDecodeError) as exc:
        raise MalformedBodyError(f"input {name}: the BYTES tensor is cut short or not utf-8") from exc
    if at != len(data):
        raise MalformedBodyError(f"input {name} has {len(data) - at} bytes after its last string")
    return strings


def dump_tensor(name: str, values: np.ndarray[Any, Any] | list[str], *, binary: bool) -> tuple[dict[str, Any], bytes]:
    """Return an output tensor: its JSON object and its binary part, empty for JSON data."""
    if isinstance(values, list):
        return _dump_strings(name, [str(v) for v in values], binary=binary)
    datatype = {"f": "FP64", "i": "INT64"}[values.dtype.kind]
    tensor: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(values.shape)}
    if not binary:
        return {**tensor, "data": np.ravel(values)}, b""
    data = np.ascontiguousarray(values, dtype=NUMBERS[datatype]).tobytes()
    return {**tensor, "parameters": {"binary_data_size": len(data)}}, data


def _dump_strings(name: str, values: list[str], *, binary: bool) -> tuple[dict[str, Any], bytes]:
    tensor: dict[str, Any] = {"name": name, "datatype": "BYTES", "shape": [len(values)]}
    if not binary:
        return {**tensor, "data": values}, b""
    encoded = [value.encode() for value in values]
    data = b"".join(struct.pack("<I", len(value)) + value for value in encoded)
    return {**tensor, "parameters": {"binary_data_size": len(data)}}, data
