"""What happened to scored rows: scores joined to the rows of an event log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serve_app.errors import InvalidDataError

POSITION: Final = "position"
IDENTITY: Final = ("user_id", "user_session", "product_id", "event_time")
"""What identifies a row in the scores of a table that carries no `POSITION`."""


@dataclass(frozen=True, slots=True)
class Joined:
    """Scores that a row of the log was found for.

    Attributes
    ----------
    scores : ndarray of int64, shape (n,)
        Index of the score.
    rows : ndarray of int64, shape (n,)
        Index of the row of the log.
    """

    scores: NDArray[np.int64]
    rows: NDArray[np.int64]


def join_scores(scores: pa.Table, rows: pa.Table) -> Joined:
    """Find the row of the log that each score is of.

    Parameters
    ----------
    scores : Table
        With the column `POSITION`, the line of the log from 0, as a backfill writes it, or with those of
        `IDENTITY`. Of equal identities the first score is of the first row, and so on.
    rows : Table
        Both, ``event_time`` as a timestamp; in the log's order.

    Raises
    ------
    InvalidDataError
        The scores carry neither, or they are of another log.
    """
    ids = [name for name in IDENTITY if name in scores.column_names and name != "event_time"]
    if POSITION in scores.column_names:
        joined = _join((scores, [POSITION]), (rows, [POSITION]))
        for name in ids:
            there, here = _as_text(rows, name).take(joined.rows), _as_text(scores, name).take(joined.scores)
            if not pc.all(pc.equal(there, here)).as_py():
                raise InvalidDataError(f"the scores are of another log: {name} differs at the same position")
        return joined
    missing = [name for name in IDENTITY if name not in scores.column_names]
    if missing:
        raise InvalidDataError(
            f"the scores have no column {missing[0]}: they must carry {POSITION}, or {', '.join(IDENTITY)}; name them "
            "to --keep when scoring"
        )
    return _join((scores, list(IDENTITY)), (rows, list(IDENTITY)))


def _join(scores: tuple[pa.Table, list[str]], rows: tuple[pa.Table, list[str]]) -> Joined:
    left, right = (_add_place(table, names) for table, names in (scores, rows))
    keys = [*scores[1], "_turn"]
    found = left.join(right, keys, join_type="inner", left_suffix="_score", right_suffix="_row")
    order = np.argsort(found.column("_at_score").to_numpy())
    return Joined(found.column("_at_score").to_numpy()[order], found.column("_at_row").to_numpy()[order])


def _add_place(table: pa.Table, names: list[str]) -> pa.Table:
    """Return the keys, each row's index, and its turn among the rows of equal keys."""
    keys = {name: _as_text(table, name) for name in names}
    codes = np.zeros(table.num_rows, dtype=np.int64)
    for column in keys.values():
        values = pc.fill_null(column.dictionary_encode().indices, -1).to_numpy().astype(np.int64) + 1
        codes = np.unique(codes * (int(values.max(initial=0)) + 1) + values, return_inverse=True)[1]
    order = np.argsort(codes, kind="stable")
    places = np.arange(len(order))
    is_first = np.append(True, np.diff(codes[order]) != 0)[: len(order)]
    turn = np.empty(len(order), dtype=np.int64)
    turn[order] = places - np.maximum.accumulate(np.where(is_first, places, 0))
    return pa.table({**keys, "_turn": pa.array(turn), "_at": pa.array(places)})


def _as_text(table: pa.Table, name: str) -> pa.Array:
    """Return ids as strings (they are compared as strings everywhere), times as whole seconds."""
    column = table.column(name).combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("s", column.type.tz), safe=False).cast(pa.int64())
    return column.cast(pa.int64() if name == POSITION else pa.string())
