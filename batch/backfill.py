"""Score a raw event log as of every view and cart: ``scorecat backtest EVENTS OUTPUT``.

First the features are computed as of each row, counting the row itself and nothing after it, with the same
functions as in training; then the rows are scored by a batch job like any others. OUTPUT gets ``scores/``
(see docs/batch.md) and, until they are scored, ``features/``.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from batch.score import run_job
from serve_app.errors import BadRequestError, ConflictError
from serve_app.events.adapters.log_files import EventLog
from serve_app.events.adapters.spill import EventSpill
from serve_app.events.core.event_rows import EVENT_TYPES
from serve_app.events.service.partitions import LogSummary
from serve_app.features.core.specs import PURCHASE_NAMES
from serve_app.jobs.adapters.output_folder import PLAN, OutputFolder
from serve_app.jobs.core.spec import JobSpec
from serve_app.terminal.console import err
from serve_app.training.service.features_table import build_features

FEATURES: Final = "features"
SCORES: Final = "scores"
DONE: Final = "_features.json"
GROUP_ROWS: Final = 1 << 18
KEPT: Final = ("position", "event_time", "event_type", "user_id", "user_session", "product_id")
"""Columns that travel with a score: which line of the log it is (from 0), and what identifies it."""


def backfill(
    log: EventLog, asked: JobSpec, go_on: str, go_on_elsewhere: str, *, keep_features: bool, as_json: bool
) -> None:
    """Score every view and cart of a log as of its moment, with the running service's deployments.

    Parameters
    ----------
    log : EventLog
    asked : JobSpec
        Its output is a local folder; new, or the same as before when it resumes. Of its input and what is kept only
        this module knows.
    go_on, go_on_elsewhere : str
        Command that resumes it, as it is typed here, and as others would.
    keep_features : bool
        Leave the features in the output.
    as_json : bool

    Raises
    ------
    BadRequestError, ConflictError
        The output is no local folder, or holds something.
    """
    if "://" in asked.output:
        raise BadRequestError("a backtest writes to a local folder: score its features to an object store from there")
    root = OutputFolder(asked.output)
    if not asked.resume and not root.is_empty():
        raise ConflictError(f"{root.location} holds files already: continue with --resume, or choose another folder")
    features, scores = f"{root.location}/{FEATURES}", f"{root.location}/{SCORES}"
    write_features(log, Path(features))
    resume = asked.resume and OutputFolder(scores).read_json(PLAN) is not None
    spec = dataclasses.replace(asked, input=features, output=scores, keep=KEPT, resume=resume)
    run_job(spec, go_on, as_json=as_json, go_on_elsewhere=go_on_elsewhere)
    if not keep_features:  # only when every row is scored: what is missing leaves by an exception
        for part in Path(features).glob("part-*.parquet"):
            part.unlink()


def write_features(log: EventLog, folder: Path) -> None:
    """Write the features of a log's views and carts, unless they are there already.

    Raises
    ------
    InvalidDataError
        The log cannot be read, or holds no event.
    ConflictError
        The features that are there are of another log.
    """
    records = OutputFolder(str(folder))
    files = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in log.files]
    found = records.read_json(DONE)
    if found is not None:
        if found["files"] != files:
            raise ConflictError(f"{folder} holds the features of another log, or it has changed: choose another OUTPUT")
        return
    shutil.rmtree(folder, ignore_errors=True)
    records.prepare()
    summary, n_rows = LogSummary(), 0
    with EventSpill(folder) as spill:
        for number, table in enumerate(build_features(log, spill, summary)):
            rows = prepare_rows(table)
            n_rows += rows.num_rows
            with records.create(f"part-{number:06d}.parquet") as sink:
                pq.write_table(rows, sink, row_group_size=GROUP_ROWS)
            err.print(f"features: {n_rows:,} rows of {summary.n_events:,} events")
    dropped = {"dropped": dict(summary.dropped), "lines": summary.n_lines, "events": summary.n_events}
    records.write_json(DONE, {"files": files, "rows": n_rows, **dropped})


def prepare_rows(table: pa.Table) -> pa.Table:
    """Return rows as a batch job reads them: `KEPT` and the features, codes as what they stand for."""
    times = table.column("time_s").combine_chunks().cast(pa.timestamp("s", "UTC"))
    kinds = pa.array(EVENT_TYPES).take(table.column("event_type").combine_chunks())
    columns: dict[str, Any] = {"event_time": times, "event_type": kinds}
    for name in (*KEPT, *PURCHASE_NAMES):
        if name not in columns:
            column = table.column(name).combine_chunks()
            columns[name] = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    return pa.table({name: columns[name] for name in (*KEPT, *PURCHASE_NAMES)})
