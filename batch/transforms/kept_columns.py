"""Columns of the input that travel to the output: each has one type, whichever file a row is from."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from batch.transforms.columns import Columns
from batch.transforms.json_members import carry_any
from serve_app.errors import InvalidDataError


def unify_kept(files: Sequence[tuple[str, pa.Schema]], chosen: Sequence[Columns], *, is_json: bool) -> pa.Schema:
    """Return the type that each kept column has in all files; null is of any.

    Parameters
    ----------
    files : sequence of (str, Schema)
        Name and columns of each file.
    chosen : sequence of Columns
        What is read of each.
    is_json : bool
        Whether some are of JSON lines; what is null in all files may then be of any type further down.

    Raises
    ------
    InvalidDataError
        A column is of two types, or is read of some files only.
    """
    fields: dict[str, tuple[pa.Field, str]] = {}
    for (path, schema), columns in zip(files, chosen, strict=True):
        _check_same(path, columns, files[0][0], chosen[0])
        for name in columns.kept:
            field = schema.field(name).remove_metadata()
            known, where = fields.setdefault(name, (field, path))
            if pa.types.is_null(known.type):
                fields[name] = field, path
            elif field.type != known.type and not pa.types.is_null(field.type):
                raise InvalidDataError(
                    f"{path}: column {name} is {field.type}, in {where} it is {known.type}. A column that is carried "
                    "along has one type in all files, and is text in those of CSV and in names of folders: convert "
                    f"{name} in one of the files, score them in separate jobs, or leave {name} out of --keep (over "
                    "HTTP `keep`)"
                )
    kinds = {name: field.type for name, (field, _) in fields.items()}
    return pa.schema(
        [
            carry_any(name) if is_json and pa.types.is_null(kind) else pa.field(name, kind)
            for name, kind in kinds.items()
        ]
    )


def _check_same(path: str, columns: Columns, first: str, expected: Columns) -> None:
    differs = sorted(set(columns.read) ^ set(expected.read))
    if differs:
        without, having = (first, path) if differs[0] in columns.read else (path, first)
        raise InvalidDataError(
            f"{path} and {first} differ in the column {differs[0]}: {having} has it, {without} does not. Name to "
            "--keep (over HTTP `keep`) those that all files have, or make them alike"
        )
