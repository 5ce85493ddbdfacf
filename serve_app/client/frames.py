"""Frames (pandas, pyarrow) to Arrow IPC streams and back. pandas is not imported: a caller who has a frame has it."""

from __future__ import annotations

import sys
from typing import Any, Final, TypeVar

import httpx
import pyarrow as pa

from serve_app.errors import BadRequestError, InvalidDataError, InvariantError

MEDIA_TYPE: Final = "application/vnd.apache.arrow.stream"
ANSWER_SCHEMA: Final = pa.schema(
    {"probability": pa.float64(), "recommendation": pa.string(), "version": pa.int64(), "error": pa.string()}
)
"""Columns of an answer; probability is null and error says why where a row was rejected."""

FrameT = TypeVar("FrameT")
"""``pandas.DataFrame``, ``pyarrow.Table`` or ``pyarrow.RecordBatch``."""


def as_table(frame: Any) -> pa.Table:
    """Return a frame as a Table, without its index.

    Raises
    ------
    BadRequestError
        It is no frame.
    InvalidDataError
        A column of a DataFrame holds values of several types, or two columns have one name.
    """
    if isinstance(frame, pa.Table):
        return frame
    if isinstance(frame, pa.RecordBatch):
        return pa.Table.from_batches([frame])
    if not _is_pandas(frame):
        raise BadRequestError(
            f"a frame is a pandas.DataFrame, pyarrow.Table or RecordBatch, not {type(frame).__name__}"
        )
    try:
        return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    except (pa.ArrowException, TypeError, ValueError) as exc:
        raise InvalidDataError(f"the DataFrame cannot be sent as Arrow: {exc}") from exc


def like_frame(table: pa.Table, frame: FrameT) -> FrameT:
    """Return an answer as the kind of frame that was asked with; a DataFrame has the same index."""
    answer: Any = table
    if isinstance(frame, pa.RecordBatch):
        chunks = [column.combine_chunks() for column in table.columns]
        answer = pa.RecordBatch.from_arrays(chunks, schema=table.schema)
    elif _is_pandas(frame):
        # Whole numbers stay so when a rejected row has no version.
        whole = sys.modules["pandas"].Int64Dtype()
        answer = table.to_pandas(types_mapper={pa.int64(): whole}.get).set_axis(frame.index)  # type: ignore[attr-defined]
    return answer  # type: ignore[no-any-return]


def encode_stream(table: pa.Table) -> bytes:
    """Return a table as one Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    stream: bytes = sink.getvalue().to_pybytes()
    return stream


def parse_stream(response: httpx.Response, n_rows: int) -> pa.Table:
    """Parse the answer to a stream of `n_rows` rows; columns are those of `ANSWER_SCHEMA`.

    Raises
    ------
    InvariantError
        It is no Arrow stream, lacks a column, or has another number of rows.
    """
    url = response.request.url
    try:
        with pa.ipc.open_stream(response.content) as reader:
            table = reader.read_all().select(ANSWER_SCHEMA.names).cast(ANSWER_SCHEMA)
    except (pa.ArrowException, KeyError, ValueError, OSError) as exc:
        raise InvariantError(f"{url} did not answer with an Arrow stream of scores ({exc}): is it scorecat?") from exc
    if table.num_rows != n_rows:
        raise InvariantError(f"{url} answered {table.num_rows} rows for {n_rows}")
    return table


def _is_pandas(frame: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(frame, pandas.DataFrame)
