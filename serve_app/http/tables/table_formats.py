"""Tables in and out: MLflow's JSON forms, CSV, Arrow IPC streams and Parquet.

Every `parse_*` takes a whole body and the model's features and returns a `ParsedTable`; they run in
a thread for large bodies. `dump_*` are their counterparts for answers.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from serve_app.errors import (
    BadRequestError,
    MalformedBodyError,
    PayloadTooLargeError,
    UnsupportedMediaError,
    point_at,
)
from serve_app.features.core.cells import read_cell
from serve_app.features.core.specs import FeatureSpec, arrow_schema
from serve_app.features.core.typed_columns import (
    MAX_ROWS,
    ParsedTable,
    check_arrow,
    check_shape,
    check_types,
    list_unknown,
    refuse_doubles,
    table_from_arrow,
    table_from_lists,
)
from serve_app.http.bodies import ARROW, CSV, JSON, PARQUET, read_media
from serve_app.http.tables.body_contents import check_content, check_text
from serve_app.http.tables.ipc_limits import read_stream
from serve_app.http.tables.json_forms import (
    TENSOR_KEYS,
    choose_form,
    input_names,
    is_flat,
    name_kind,
    read_columns,
    read_flat,
    read_names,
    require_kind,
    unwrap,
)
from serve_app.http.tables.parquet_limits import MAX_TABLE_BYTES, read_texts
from serve_app.models.core.outputs import name_prediction
from serve_app.models.core.recommendation import BANDS
from serve_app.runtime.json_bodies import load_json
from serve_app.scoring.service.table_scoring import TableScores

Features = Sequence[FeatureSpec]
Parser = Callable[[bytes, Features], ParsedTable]


def parse_json(body: bytes, features: Features) -> ParsedTable:
    """Parse ``{"dataframe_split" | "dataframe_records" | "inputs" | "instances": ...}``; NaN is null."""
    key, data = choose_form(load_json(body))
    if key == "dataframe_split":
        return _parse_split(data, features)
    if key in TENSOR_KEYS and isinstance(data, dict):
        columns, n_rows = read_columns(data, key)
        return table_from_lists(columns, features, n_rows)
    is_value = key in TENSOR_KEYS and isinstance(data, str | int | float) and len(input_names(features)) == 1
    return _parse_rows([data] if is_value else data, features, key)


def _parse_split(data: Any, features: Features) -> ParsedTable:
    columns = read_names(data.get("columns")) if isinstance(data, dict) else None
    rows = data.get("data") if isinstance(data, dict) else None
    if columns is None or not isinstance(rows, list):
        raise MalformedBodyError(
            "dataframe_split must be an object with a list of names `columns` and a list of rows `data`"
        )
    if len(set(columns)) != len(columns):
        raise MalformedBodyError("dataframe_split names a column twice")
    check_shape(len(rows), len(columns))
    return table_from_lists(_turn(rows, columns, "dataframe_split/data"), features, len(rows))


def _parse_rows(data: Any, features: Features, key: str) -> ParsedTable:
    if not isinstance(data, list):
        raise MalformedBodyError(f"{key} must be a list of rows, not {name_kind(data)}")
    check_shape(len(data), 0)
    names = input_names(features)
    if is_flat(data):
        return table_from_lists(read_flat(data, names, key), features, len(data))
    if data and isinstance(data[0], list):
        require_kind(data, list, key)
        return table_from_lists(_turn(data, names, key), features, len(data))
    require_kind(data, dict, key)
    present: set[str] = set().union(*data)
    columns: dict[str, Sequence[Any]] = {s.name: _pick(data, s.name) for s in features if s.name in present}
    check_shape(len(data), len(present))
    if key in TENSOR_KEYS:
        columns = {name: unwrap(values) for name, values in columns.items()}
    table = table_from_lists(columns, features, len(data))
    return dataclasses.replace(table, ignored=tuple(sorted(present - columns.keys())))


def _pick(records: list[dict[str, Any]], name: str) -> list[Any]:
    """Return one member of every record; the loop is C as long as no record lacks it."""
    try:
        return list(map(itemgetter(name), records))
    except KeyError:
        return [record.get(name) for record in records]


def _turn(rows: list[Any], columns: list[str], where: str) -> dict[str, Sequence[Any]]:
    """Return rows as columns, without a Python step a value."""
    width = len(columns)
    if rows and (set(map(type, rows)) != {list} or set(map(len, rows)) != {width}):
        row = next(i for i, values in enumerate(rows) if not isinstance(values, list) or len(values) != width)
        given = f"a list of {len(rows[row])}" if isinstance(rows[row], list) else name_kind(rows[row])
        raise MalformedBodyError(f"{where}/{row} is {given}; it must be a list of {width} values, one a column")
    return dict(zip(columns, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(columns, ())


def parse_csv(body: bytes, features: Features) -> ParsedTable:
    """Parse CSV with a header line; an empty field is null, and nothing else is: the text ``null`` is a text."""
    check_text(body, "CSV")
    types = {f.name: f.type for f in arrow_schema(tuple(features))}
    try:
        try:
            return table_from_arrow(_read_csv(body, types), features)
        except pa.ArrowInvalid:  # perhaps one bad value: read text, and find it
            table = _read_csv(body, dict.fromkeys(types, pa.string()))
    except pa.ArrowInvalid as exc:
        raise MalformedBodyError(f"the body is not CSV: {exc}") from exc
    refuse_doubles(table.column_names, features)
    columns = {name: table.column(name).to_pylist() for name in table.column_names if name in types}
    numeric = {s.name for s in features if s.kind == "numeric"}
    lists = {name: [read_cell(v) for v in values] if name in numeric else values for name, values in columns.items()}
    parsed = table_from_lists(lists, features, table.num_rows)
    return dataclasses.replace(parsed, ignored=list_unknown(table.column_names, features))


def _read_csv(body: bytes, types: Mapping[str, pa.DataType]) -> pa.Table:
    body = body.lstrip(b"\r\n")
    header = re.split(rb"[\r\n]", body, maxsplit=1)[0]
    check_shape(0, header.count(b",") + 1)  # before a million columns are made
    n_columns = len(next(csv.reader([header.decode(errors="replace")]), ()))
    table = pacsv.read_csv(
        io.BytesIO(body),
        read_options=pacsv.ReadOptions(use_threads=False, block_size=max(len(body), 1) + 1),
        parse_options=pacsv.ParseOptions(ignore_empty_lines=n_columns > 1),  # in one column such a line is a null
        convert_options=pacsv.ConvertOptions(
            column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""]
        ),
    )
    check_shape(table.num_rows, table.num_columns)
    return table


def parse_arrow(body: bytes, features: Features) -> ParsedTable:
    """Parse an Arrow IPC stream with uncompressed buffers."""
    check_content(body, b"\xff\xff\xff\xff", "an Arrow IPC stream")
    table = read_stream(body, MAX_ROWS, partial(check_arrow, features=features))
    return table_from_arrow(table, features)


def parse_parquet(body: bytes, features: Features) -> ParsedTable:
    """Parse a Parquet file; its own figures are checked before a page is read."""
    check_content(body, b"PAR1", "a Parquet file")
    wanted = {spec.name: spec.kind for spec in features}
    try:
        meta = pq.read_metadata(io.BytesIO(body))
        check_shape(meta.num_rows, meta.num_columns)
        n_bytes = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
        if n_bytes > MAX_TABLE_BYTES:
            raise PayloadTooLargeError(f"the table may have {MAX_TABLE_BYTES} bytes decoded, not {n_bytes}")
        schema = meta.schema.to_arrow_schema()
        check_types(schema, features)
        names = [name for name in schema.names if name in wanted]
        table = _read_parquet(body, names, [name for name in names if wanted[name] == "categorical"])
    except (pa.ArrowException, OSError, UnicodeDecodeError) as exc:
        raise MalformedBodyError(f"the body is not a whole Parquet file: {exc}") from exc
    return dataclasses.replace(table_from_arrow(table, features), ignored=list_unknown(schema.names, features))


def _read_parquet(body: bytes, names: list[str], labels: list[str]) -> pa.Table:
    # Strings stay dictionaries until their length is known: one long one may stand in every row.
    try:
        return _open_parquet(body, labels).read(names, use_threads=False)
    except (OSError, pa.ArrowNotImplementedError):  # of pages with other encodings Arrow makes no dictionaries
        file = _open_parquet(body, [])
        texts = read_texts(body, file, labels)
        table = file.read([name for name in names if name not in texts], use_threads=False)
        return pa.table({**dict(zip(table.column_names, table.columns, strict=True)), **texts})


def _open_parquet(body: bytes, coded: list[str]) -> pq.ParquetFile:
    return pq.ParquetFile(
        io.BytesIO(body),
        read_dictionary=coded,
        thrift_string_size_limit=16 * 1024 * 1024,
        thrift_container_size_limit=1_000_000,
    )


PARSERS: Final[dict[str, Parser]] = {
    JSON: parse_json,
    CSV: parse_csv,
    "application/csv": parse_csv,
    ARROW: parse_arrow,
    PARQUET: parse_parquet,
    "application/x-parquet": parse_parquet,
    "application/parquet": parse_parquet,
}
"""Parser by content type."""


def choose_parser(content_type: str) -> Parser:
    """Return the parser for a Content-Type header; raises UnsupportedMediaError."""
    media = read_media(content_type)
    parser = PARSERS.get(media)
    if parser is None:
        known = f"{JSON}, {CSV}, {ARROW}, {PARQUET}"
        raise UnsupportedMediaError(f"send {known}, not {media[:80] or 'a body without Content-Type'}")
    return parser


def dump_json(scores: TableScores, asked: str) -> bytes:
    """Return ``{"predictions": [...]}``, null for rejected rows, which ``errors`` names.

    Of a model of several classes a prediction is a list with one value a class.
    """
    predictions: Any = np.ascontiguousarray(pick_values(scores, asked))  # orjson takes no other
    if scores.errors and (predictions.ndim > 1 or predictions.dtype.kind == "U"):
        predictions = predictions.tolist()
        for error in scores.errors:
            predictions[error.row] = None
    elif predictions.dtype.kind == "U":
        predictions = predictions.tolist()
    value: dict[str, Any] = {"predictions": predictions}
    if scores.errors:
        value["errors"] = [
            {"index": e.row, "pointer": point_at(e.row, e.feature), "detail": e.detail} for e in scores.errors
        ]
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def pick_values(scores: TableScores, asked: str) -> Any:
    """Return ``prediction``, ``label`` or ``raw`` of every row, (n,) or (n, k).

    Raises
    ------
    BadRequestError
        A regression has no labels.
    """
    if asked != "label":
        return scores.values[asked]
    if scores.manifest.task == "regression":
        raise BadRequestError("the served model is a regression: it has no labels, only prediction and raw")
    return scores.labels


def answer_table(scores: TableScores, asked: str) -> pa.Table:
    """Return the answer's columns: prediction, recommendation or label, what was asked for, version, error.

    The prediction of a binary model is ``probability``, of several classes one ``probability_<class>``
    each, of a regression ``prediction``.
    """
    manifest, bad = scores.manifest, None
    if scores.errors:
        bad = np.zeros(scores.n_rows, dtype=bool)
        bad[scores.rejected] = True
    columns = _number_columns(scores, name_prediction(manifest), scores.predictions, bad)
    if manifest.task == "binary":
        codes = np.maximum(scores.bands, 0)
        columns["recommendation"] = pc.take(pa.array(BANDS.tolist()), pa.array(codes, mask=bad))
    if asked == "label" or manifest.task == "multiclass":
        columns["label"] = pa.array(pick_values(scores, "label"), pa.string(), mask=bad)
    if asked == "raw":
        columns |= _number_columns(scores, "raw", scores.values["raw"], bad)
    columns["version"] = pa.array(np.full(scores.n_rows, scores.version, dtype=np.int64))
    columns["error"] = pa.array(scores.list_messages(None), pa.string())
    return pa.table(columns)


def _number_columns(
    scores: TableScores, name: str, values: Any, bad: np.ndarray[Any, np.dtype[np.bool_]] | None
) -> dict[str, pa.Array]:
    if values.ndim == 1:
        return {name: pa.array(values, mask=bad)}
    labels = scores.manifest.class_labels
    return {f"{name}_{label}": pa.array(values[:, k], mask=bad) for k, label in enumerate(labels)}


def dump_arrow(scores: TableScores, asked: str) -> bytes:
    """Return the answer as an Arrow IPC stream."""
    table = answer_table(scores, asked)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def dump_csv(scores: TableScores, asked: str) -> bytes:
    """Return the answer as CSV with a header line."""
    sink = pa.BufferOutputStream()
    pacsv.write_csv(answer_table(scores, asked), sink)
    return bytes(sink.getvalue())


DUMPERS: Final[dict[str, Callable[[TableScores, str], bytes]]] = {JSON: dump_json, ARROW: dump_arrow, CSV: dump_csv}
"""Writer by media type of the answer."""
