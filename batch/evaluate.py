"""How good scores were: ``scorecat evaluate SCORES EVENTS``.

Joins the output of a batch job to what the event log says happened next, and reports the metrics of training:
overall, and by day, version, brand and category. What happened is the training target: the row's user purchases
its product later in the session; rows of sessions that may go on after the log's end are left out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batch.backfill import SCORES
from batch.transforms.outcomes import IDENTITY, POSITION, join_scores
from batch.view import make_absolute
from serve_app.errors import InvalidDataError, NotFoundError
from serve_app.events.adapters.log_files import EventLog
from serve_app.events.adapters.spill import EventSpill
from serve_app.events.service.partitions import LogSummary
from serve_app.jobs.adapters.output_folder import PLAN, SUMMARY, OutputFolder
from serve_app.models.core.recommendation import Thresholds
from serve_app.storage.locations import open_location
from serve_app.training.service.assessment import Slice, measure, round_metrics, take_rows
from serve_app.training.service.features_table import build_features
from serve_app.wiring import open_settings_registry

PROBABILITY: Final = "probability"
OTHERS: Final = "(others)"
_LOG_COLUMNS: Final = (
    POSITION, "user_id", "user_session", "product_id", "event_type", "time_s", "brand", "category_code",
    "may_be_open", "target",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Scored rows with what happened.

    Attributes
    ----------
    rows : Slice
        Those of closed sessions; `matrix` and `cart_key` are empty.
    groups : dict of str to Array
        The value each row has of what is reported apart, null for none.
    counts : dict of str to int
        Scores read, of no row of the log, and of sessions that may be open.
    """

    rows: Slice
    groups: dict[str, pa.Array]
    counts: dict[str, int]


def evaluate(scores: str, log: EventLog, *, top: int, n_rounds: int, seed: int) -> dict[str, Any]:
    """Return how good the scores in a folder were, by what a log says happened next.

    Parameters
    ----------
    scores : str
        Output folder of a job, or of a backtest.
    log : EventLog
    top : int
        Brands and categories with the most rows that are reported apart.
    n_rounds, seed : int
        Of the bootstrap over users.

    Raises
    ------
    NotFoundError, InvalidDataError
        See `read_scores` and `find_outcomes`.
    """
    folder = find_scores(make_absolute(scores))
    thresholds = find_thresholds(folder)
    outcomes = find_outcomes(read_scores(folder), read_log(log))
    return assess(outcomes, thresholds, np.random.default_rng(seed), top=top, n_rounds=n_rounds)


def find_scores(location: str) -> OutputFolder:
    """Return the output of a job, or that of a backtest's job below its folder."""
    below = OutputFolder(f"{location}/{SCORES}")
    found = OutputFolder(location)
    return below if found.read_json(PLAN) is None and below.read_json(PLAN) is not None else found


def find_thresholds(folder: OutputFolder) -> tuple[float, ...]:
    """Return the bands of the version that scored, or the usual ones when its package is not at hand."""
    plan = folder.read_json(PLAN)
    chosen = Thresholds()
    if plan is not None:
        with contextlib.suppress(NotFoundError):
            chosen = open_settings_registry().manifest(plan["model"], plan["version"]).thresholds
    return chosen.medium, chosen.high


def read_scores(folder: OutputFolder) -> pa.Table:
    """Return the columns of a job's output that are joined and reported.

    Raises
    ------
    NotFoundError
        There are no scores.
    InvalidDataError
        They are not of a model that gives a probability, or not of all rows.
    """
    summary = folder.read_json(SUMMARY)
    parts = sorted(part.path for commit in folder.commits() for part in commit.files)
    if not parts:
        raise NotFoundError(f"{folder.location} holds no scores of a batch job")
    if summary is None or not summary["is_complete"]:
        raise InvalidDataError(f"{folder.location} is not complete: finish the job with --resume first")
    system, root = open_location(folder.location)
    tables = [pq.read_table(f"{root}/{part}", partitioning="hive", filesystem=system) for part in parts]
    found = tables[0].column_names
    if PROBABILITY not in found:
        raise InvalidDataError(f"{folder.location} holds no probabilities: the model is not a binary one")
    names = [name for name in (POSITION, *IDENTITY, PROBABILITY, "version") if name in found]
    return pa.concat_tables([t.select(names) for t in tables], promote_options="permissive")


def read_log(log: EventLog) -> pa.Table:
    """Return a log's views and carts with their target, in the order of the log."""
    with EventSpill() as spill:
        tables = [table.select(list(_LOG_COLUMNS)) for table in build_features(log, spill, LogSummary())]
    rows = pa.concat_tables(tables).unify_dictionaries().sort_by(POSITION).combine_chunks()
    times = rows.column("time_s").combine_chunks().cast(pa.timestamp("s", "UTC"))
    return rows.append_column("event_time", times)


def find_outcomes(scores: pa.Table, log: pa.Table) -> Outcomes:
    """Join scores to the log; raises InvalidDataError when hardly any belongs to it."""
    joined = join_scores(scores, log)
    log, scored = log.take(pa.array(joined.rows)), scores.take(pa.array(joined.scores))
    is_open = log.column("may_be_open").to_numpy()
    counts = {
        "scores": scores.num_rows,
        "not_in_log": scores.num_rows - len(joined.rows),
        "in_open_sessions": int(is_open.sum()),
    }
    closed = pa.array(~is_open)
    log, scored = log.filter(closed).combine_chunks(), scored.filter(closed).combine_chunks()
    if not log.num_rows:
        raise InvalidDataError(f"no score can be judged by this log: {counts}")
    users = log.column("user_id").combine_chunks()
    rows = Slice(
        matrix=np.empty((log.num_rows, 0), dtype=np.float32),
        target=log.column("target").to_numpy(),
        probability=scored.column(PROBABILITY).to_numpy(),
        user=np.asarray(users.indices.to_numpy(), dtype=np.int64),
        time_s=log.column("time_s").to_numpy(),
        event_type=log.column("event_type").to_numpy().astype(np.int64),
        cart_key=np.zeros(log.num_rows, dtype=np.int64),
    )
    groups = {"day": pc.strftime(log.column("event_time"), format="%Y-%m-%d").combine_chunks()}
    if "version" in scored.column_names:
        groups["version"] = scored.column("version").combine_chunks().cast(pa.string())
    for name in ("brand", "category_code"):
        column = log.column(name).combine_chunks()
        groups[name] = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    return Outcomes(rows, groups, counts)


def assess(
    outcomes: Outcomes, thresholds: tuple[float, ...], rng: np.random.Generator, *, top: int, n_rounds: int
) -> dict[str, Any]:
    """Return the report: counts, overall metrics, and those of every group, as JSON."""
    rows = outcomes.rows
    report: dict[str, Any] = {"counts": outcomes.counts, "thresholds": list(thresholds)}
    report["overall"] = measure(rows, rows.probability, thresholds, rng, n_rounds)
    for name, values in outcomes.groups.items():
        n_most = top if name in {"brand", "category_code"} else len(values)
        report[f"by_{name}"] = {
            label: measure(part, part.probability, thresholds, rng, n_rounds)
            for label, part in _split(rows, values, n_most)
        }
    found: dict[str, Any] = round_metrics(report)
    return found


def _split(rows: Slice, values: pa.Array, n_most: int) -> Iterator[tuple[str, Slice]]:
    """Yield the rows of each value, the most frequent values only; the rest comes last, together."""
    encoded = values.dictionary_encode()
    codes = pc.fill_null(encoded.indices, len(encoded.dictionary)).to_numpy()
    labels = [*map(str, encoded.dictionary.to_pylist()), "(none)"]
    counts = np.bincount(codes, minlength=len(labels))
    frequent = np.argsort(-counts, kind="stable")[:n_most]
    chosen = sorted(int(code) for code in frequent if counts[code])
    for code in sorted(chosen, key=lambda code: labels[code]):
        yield labels[code], take_rows(rows, codes == code)
    rest = ~np.isin(codes, chosen)
    if rest.any():
        yield OTHERS, take_rows(rows, rest)
