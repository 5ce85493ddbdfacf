"""From an event log to a package: features, model, honest measurement, guards."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.core.features import PURCHASE_FEATURES, PURCHASE_NAMES, UNKNOWN_CLASS, arrow_schema
from serve_app.core.guards import Finding, refuse_findings
from serve_app.core.manifest import Manifest
from serve_app.core.profile import profile_table
from serve_app.core.recommendation import Thresholds
from serve_app.core.target import SLICE_NAMES, STOP, TEST, TRAIN
from serve_app.service.assessment import Assessment, Slice, assess_model
from serve_app.service.event_partitions import EventSource, Spill
from serve_app.service.packaging import PackageWriter, build_package
from serve_app.service.ports import Model
from serve_app.service.training_rows import TrainingRows, choose_vocabularies, collect_rows, encode_rows

DEFAULT_PARAMS: Final[Mapping[str, Any]] = {
    "iterations": 1000,
    "learning_rate": 0.05,
    "depth": 6,
    "l2_leaf_reg": 6.0,
    "border_count": 128,
    "early_stopping_rounds": 50,
}

DEMO_EVENTS: Final = 400_000
DEMO_PARAMS: Final[Mapping[str, Any]] = {**DEFAULT_PARAMS, "iterations": 400, "learning_rate": 0.08}
"""For a first model in about a minute on two cores."""

N_GOLDEN: Final = 128


class TrainModel(Protocol):
    """Trains a model, see `serve_app.adapters.catboost_model.train_classifier`."""

    def __call__(
        self,
        train: tuple[NDArray[np.float32], NDArray[np.int8]],
        stop: tuple[NDArray[np.float32], NDArray[np.int8]],
        feature_names: Sequence[str],
        **params: Any,
    ) -> Model:
        """Train on the first pair, stop early on the second."""
        ...


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """What one training is made with.

    Attributes
    ----------
    name : str
        Model name.
    seed : int
        Of CatBoost and of the bootstrap.
    params : mapping
        CatBoost parameters.
    max_rows : int
        Above this many events only a share of the users (by hash) is trained on.
    stop_share, test_share : float
        Shares of the rows, by time, for early stopping and for the test.
    min_count, max_classes : int
        Bounds of the vocabularies.
    by_rate : bool
        Order category codes by the rate of positives in the training slice.
    allow : tuple of str
        Guards overridden by name.
    thresholds : Thresholds
        Bounds of the recommendation.
    """

    name: str = "purchase"
    seed: int = 0
    params: Mapping[str, Any] = field(default_factory=lambda: dict(DEFAULT_PARAMS))
    max_rows: int = 2_000_000
    stop_share: float = 0.1
    test_share: float = 0.2
    min_count: int = 20
    max_classes: int = 1000
    by_rate: bool = False
    allow: tuple[str, ...] = ()
    thresholds: Thresholds = field(default_factory=Thresholds)


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """A finished package and what was found on the way."""

    manifest: Manifest
    findings: tuple[Finding, ...]


def _say_nothing(_: str) -> None:
    return None


def train(
    source: EventSource,
    spill: Spill,
    directory: Path,
    *,
    fit: TrainModel,
    save: PackageWriter,
    created_at: str,
    libraries: Mapping[str, str],
    options: TrainingOptions | None = None,
    parent_version: int | None = None,
    report: Callable[[str], None] = _say_nothing,
) -> TrainingResult:
    """Train the purchase model on an event log and write its package into `directory`.

    Parameters
    ----------
    source, spill
        The log, and a temporary place for a large one.
    directory : Path
        Empty directory for the package.
    fit, save
        What trains and what writes files.
    created_at : str
        ISO 8601 time in UTC.
    libraries : mapping of str to str
        Versions for the manifest.
    options : TrainingOptions, optional
    parent_version : int, optional
        Version this one follows.
    report : callable
        Told in a few words what is done next.

    Raises
    ------
    InvalidDataError
        The log cannot be read or is too small to learn or to measure anything.
    GuardError
        A feature leaks the outcome, or the probabilities are badly calibrated, and nobody allowed it.
    """
    options = options or TrainingOptions()
    report("reading events and computing features")
    rows = collect_rows(
        source, spill, max_rows=options.max_rows, stop_share=options.stop_share, test_share=options.test_share
    )
    return train_rows(
        rows, directory, fit=fit, save=save, created_at=created_at, libraries=libraries, options=options,
        parent_version=parent_version, report=report,
    )  # fmt: skip


def train_rows(
    rows: TrainingRows,
    directory: Path,
    *,
    fit: TrainModel,
    save: PackageWriter,
    created_at: str,
    libraries: Mapping[str, str],
    options: TrainingOptions,
    parent_version: int | None = None,
    report: Callable[[str], None] = _say_nothing,
) -> TrainingResult:
    """Train on rows whose features are computed already; see `train`."""
    report("encoding rows")
    vocabularies = choose_vocabularies(
        rows, min_count=options.min_count, max_classes=options.max_classes, by_rate=options.by_rate
    )
    matrix, target = encode_rows(rows, vocabularies), rows.target
    slices = rows.split.slices
    report(f"training on {int((slices == TRAIN).sum())} rows")
    parts = {code: (matrix[slices == code], target[slices == code].astype(np.int8)) for code in (TRAIN, STOP)}
    model = fit(parts[TRAIN], parts[STOP], PURCHASE_NAMES, random_seed=options.seed, **options.params)
    report("measuring on later rows")
    stop, test = (_slice(rows, matrix, model, code) for code in (STOP, TEST))
    assessment = assess_model(
        (parts[TRAIN][0], target[slices == TRAIN]),
        stop,
        test,
        PURCHASE_NAMES,
        tuple(vocabularies),
        (options.thresholds.medium, options.thresholds.high),
        np.random.default_rng(options.seed),
    )
    overall = {k: v["value"] or math.nan for k, v in assessment.metrics["overall"].items() if isinstance(v, dict)}
    refuse_findings(assessment.findings, options.allow, overall)
    report("writing the package")
    manifest = _manifest(rows, assessment, options, created_at, libraries, parent_version)
    written = build_package(
        directory,
        manifest=manifest,
        model=model,
        vocabularies=vocabularies,
        golden_rows=_golden_rows(rows, test.probability),
        reference=profile_table(test.matrix, test.probability, PURCHASE_NAMES, vocabularies, UNKNOWN_CLASS),
        save=save,
    )
    return TrainingResult(written, assessment.findings)


def _slice(rows: TrainingRows, matrix: NDArray[np.float32], model: Model, code: int) -> Slice:
    at = np.flatnonzero(rows.split.slices == code)
    part = np.asfortranarray(matrix[at])
    table = rows.table.select(["time_s", "event_type", "user_session", "product_id"]).take(pa.array(at))
    session, product = (
        table.column(name).combine_chunks().indices.to_numpy().astype(np.int64)
        for name in ("user_session", "product_id")
    )
    user = rows.users[at]
    visit = np.unique(session * (int(user.max()) + 1) + user, return_inverse=True)[1]
    return Slice(
        matrix=part,
        target=rows.target[at],
        probability=model.predict(part),
        user=user,
        time_s=table.column("time_s").to_numpy(),
        event_type=table.column("event_type").to_numpy().astype(np.int64),
        cart_key=visit * (int(product.max()) + 1) + product,
    )


def _golden_rows(rows: TrainingRows, probability: NDArray[np.float64]) -> pa.RecordBatch:
    """Pick rows over the whole range of scores, and add nulls, unseen classes and missing history."""
    test = np.flatnonzero(rows.split.slices == TEST)
    order = np.argsort(probability, kind="stable")
    at = test[order[np.linspace(0, len(order) - 1, N_GOLDEN - 4).astype(np.int64)]]
    schema = arrow_schema(PURCHASE_FEATURES)
    picked = rows.table.select(PURCHASE_NAMES).take(pa.array(at)).cast(schema)
    plain = {name: picked.column(name)[0].as_py() for name in PURCHASE_NAMES}
    odd = [
        {**plain, "brand": None, "category_code": None},
        {**plain, "brand": "a brand nobody sells", "category_code": "no.such.category"},
        {name: plain[name] for name in ("price", "hour", "day_of_week", "is_weekend")},
        {**plain, "price": 0.01, "brand": ""},
    ]
    extra = pa.Table.from_pylist(odd, schema=schema)
    batch: pa.RecordBatch = pa.concat_tables([picked, extra]).combine_chunks().to_batches()[0]
    return batch


def _manifest(
    rows: TrainingRows,
    assessment: Assessment,
    options: TrainingOptions,
    created_at: str,
    libraries: Mapping[str, str],
    parent_version: int | None,
) -> Manifest:
    slices, target, summary = rows.split.slices, rows.target, rows.summary
    counts = {
        name: {"n_rows": int((slices == code).sum()), "n_positive": int(target[slices == code].sum())}
        for code, name in enumerate(SLICE_NAMES)
    }
    training = {
        "fingerprint": rows.fingerprint(),
        "target": "this user purchases this product later in this session (views and carts)",
        "n_lines": summary.n_lines,
        "n_events": summary.n_events,
        "dropped": dict(sorted(summary.dropped.items())),
        "first_s": summary.first_s,
        "last_s": summary.last_s,
        "slices": counts,
        "n_left_out_open_session": rows.n_open,
        "stop_from_s": rows.split.stop_from_s,
        "test_from_s": rows.split.test_from_s,
        "user_share": round(rows.user_share, 6),
        "seed": options.seed,
        "params": dict(options.params),
        "category_codes": "by rate of positives" if options.by_rate else "by name",
        "overridden_guards": [dataclasses.asdict(finding) for finding in assessment.findings],
    }
    return Manifest(
        name=options.name,
        created_at=created_at,
        task="binary",
        features=PURCHASE_FEATURES,
        thresholds=options.thresholds,
        metrics=assessment.metrics,
        training=training,
        libraries=dict(libraries),
        parent_version=parent_version,
    )
