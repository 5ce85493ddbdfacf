"""Rows that a person gives with a model: Parquet or CSV."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from serve_app.errors import InvalidDataError, NotFoundError
from serve_app.features.core.specs import FeatureSpec, arrow_schema

MAX_SAMPLE_ROWS: Final = 200_000
"""Rows of a sample that are used; a profile of them is exact to about 0.2 % of a share."""


def load_sample(path: Path, features: Sequence[FeatureSpec]) -> pa.RecordBatch:
    """Read the first rows of a Parquet or CSV file, only the columns that are features.

    Raises
    ------
    NotFoundError
        There is no such file.
    InvalidDataError
        It cannot be read, has no rows, or no column of a feature's name.
    """
    names = [spec.name for spec in features]
    try:
        if path.suffix.lower() == ".parquet":
            file = pq.ParquetFile(path)
            present = [name for name in names if name in file.schema_arrow.names]
            batches = file.iter_batches(batch_size=MAX_SAMPLE_ROWS, columns=present)
            batch = next(batches, None)
        else:
            types = {field.name: field.type for field in arrow_schema(tuple(features))}
            options = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=True)
            table = pyarrow.csv.read_csv(path, convert_options=options).slice(0, MAX_SAMPLE_ROWS)
            present = [name for name in names if name in table.column_names]
            batch = next(iter(table.select(present).combine_chunks().to_batches()), None)
    except FileNotFoundError as exc:
        raise NotFoundError(f"{path} is not there") from exc
    except UnicodeError as exc:
        raise InvalidDataError(f"{path} is no text in UTF-8: save it as UTF-8, or as Parquet") from exc
    except OSError as exc:
        reason = os.strerror(exc.errno) if exc.errno else "its bytes make no sense"
        raise InvalidDataError(f"{path} is no readable Parquet or CSV file: {reason}") from exc
    except pa.ArrowException as exc:
        raise InvalidDataError(f"{path} is no readable Parquet or CSV file: {exc}") from exc
    if not present:
        raise InvalidDataError(f"{path} has no column named like an input of the model: {', '.join(names[:10])}")
    if batch is None or not batch.num_rows:
        raise InvalidDataError(f"{path} has no rows")
    return batch
