"""From an event log to a package: features, model, honest measurement, guards."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_app.events.service.partitions import EventSource, Spill
from serve_app.features.core.specs import PURCHASE_FEATURES, PURCHASE_NAMES, UNKNOWN_CLASS
from serve_app.models.core.manifest import Manifest
from serve_app.models.core.recommendation import Thresholds
from serve_app.models.service.packaging import build_package
from serve_app.models.service.ports import Model, Package
from serve_app.stats.profile import profile_table
from serve_app.training.core.bands import BandRule, check_rule, choose_thresholds, measure_bands
from serve_app.training.core.comparison import ComparisonVerdict
from serve_app.training.core.guards import Finding, refuse_findings
from serve_app.training.core.target import STOP, TEST, TRAIN
from serve_app.training.service.assessment import Assessment, Slice, assess_model, round_metrics
from serve_app.training.service.manifest import describe_training, pick_golden_rows
from serve_app.training.service.options import TrainingOptions, TrainModel
from serve_app.training.service.retraining import (
    Parent,
    check_parent,
    compare_with_parent,
    inherit_rule,
    report_drift,
    score_by_parent,
)
from serve_app.training.service.rows import TrainingRows, choose_vocabularies, collect_rows, encode_rows

Report = Callable[[str], None]
_BANDS_STREAM: Final = 1
_COMPARISON_STREAM: Final = 2
"""Each measurement draws from a stream of its own, so that adding one changes no other figure."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """A finished package and what was found on the way; `verdict` is None without a parent."""

    package: Package
    findings: tuple[Finding, ...]
    verdict: ComparisonVerdict | None = None

    @property
    def manifest(self) -> Manifest:
        """Manifest of the package."""
        return self.package.manifest


def train(
    source: EventSource,
    spill: Spill,
    fit: TrainModel,
    options: TrainingOptions,
    *,
    parent: Parent | None = None,
    follows: int | None = None,
    report: Report = lambda _: None,
) -> TrainingResult:
    """Train the purchase model on an event log.

    Parameters
    ----------
    source, spill
        The log, and a temporary place for a large one.
    fit : TrainModel
    options : TrainingOptions
    parent : Parent, optional
        Version the candidate is compared with, and continues when it says so.
    follows : int, optional
        Version to name as the parent without a comparison.
    report : callable
        Told in a few words what is done next.

    Raises
    ------
    InvalidDataError
        The log cannot be read or is too small to learn or to measure anything.
    BadRequestError
        The parent cannot be compared with or continued.
    GuardError
        A feature leaks the outcome, or the probabilities are badly calibrated, and nobody allowed it.
    """
    if parent is not None:
        check_parent(parent)
    report("reading events and computing features")
    rows = collect_rows(source, spill, max_rows=options.max_rows)
    return train_rows(rows, fit, options, parent=parent, follows=follows, report=report)


def train_rows(
    rows: TrainingRows,
    fit: TrainModel,
    options: TrainingOptions,
    *,
    parent: Parent | None = None,
    follows: int | None = None,
    report: Report = lambda _: None,
) -> TrainingResult:
    """Train on rows whose features are computed already; see `train`."""
    rule = options.bands or (inherit_rule(parent) if parent else BandRule())
    at_stop = rows.split.slices == STOP
    check_rule(rule, int(at_stop.sum()), int(rows.target[at_stop].sum()))
    fitted = _fit(rows, fit, options, parent, report)
    report("measuring on later rows")
    thresholds = choose_thresholds(rule, fitted.stop.target, fitted.stop.probability)
    assessment = _assess(fitted, thresholds, options)
    metrics = {**assessment.metrics, **_measure_bands(rule, thresholds, fitted.test, options.seed)}
    verdict = None
    if parent is not None:
        report(f"comparing with version {parent.version}")
        verdict, beside = _compare(rows, fitted.test, parent, options.seed)
        metrics |= beside
    report("writing the package")
    manifest = Manifest(
        name=options.name,
        created_at="",
        task="binary",
        features=PURCHASE_FEATURES,
        thresholds=thresholds,
        metrics=metrics,
        training=describe_training(rows, rule, assessment.findings, options, is_continued=fitted.is_continued),
        parent_version=parent.version if parent else follows,
    )
    return TrainingResult(_build(rows, fitted, manifest), assessment.findings, verdict)


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A trained model, how rows reach it, and the slices it is measured on."""

    model: Model
    vocabularies: Mapping[str, list[str]]
    train: tuple[NDArray[np.float32], NDArray[np.bool_]]
    stop: Slice
    test: Slice
    is_continued: bool


def _fit(
    rows: TrainingRows, fit: TrainModel, options: TrainingOptions, parent: Parent | None, report: Report
) -> _Fitted:
    report("encoding rows")
    continued = parent if parent is not None and parent.is_continued else None
    if continued is None:
        vocabularies = choose_vocabularies(rows)
    else:  # the trees know categories by the parent's codes
        vocabularies = {name: list(classes) for name, classes in continued.package.vocabularies.items()}
    matrix, target, slices = encode_rows(rows, vocabularies), rows.target, rows.split.slices
    report(f"training on {int((slices == TRAIN).sum())} rows")
    parts = {code: (matrix[slices == code], target[slices == code].astype(np.int8)) for code in (TRAIN, STOP)}
    model = fit(
        parts[TRAIN],
        parts[STOP],
        PURCHASE_NAMES,
        init_model=continued.model_file if continued else None,
        random_seed=options.seed,
        **options.params,
    )
    stop, test = (slice_rows(rows, matrix, model, code) for code in (STOP, TEST))
    return _Fitted(model, vocabularies, (parts[TRAIN][0], target[slices == TRAIN]), stop, test, continued is not None)


def _assess(fitted: _Fitted, thresholds: Thresholds, options: TrainingOptions) -> Assessment:
    """Measure the model; raises GuardError."""
    assessment = assess_model(
        fitted.train,
        fitted.stop,
        fitted.test,
        PURCHASE_NAMES,
        tuple(fitted.vocabularies),
        (thresholds.medium, thresholds.high),
        np.random.default_rng(options.seed),
    )
    overall = {k: v["value"] or math.nan for k, v in assessment.metrics["overall"].items() if isinstance(v, dict)}
    refuse_findings(assessment.findings, options.allow, overall)
    return assessment


def _measure_bands(rule: BandRule, thresholds: Thresholds, test: Slice, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng([seed, _BANDS_STREAM])
    rows = measure_bands(thresholds, test.target, test.probability, test.user, rng, rule.worth)
    return {"bands": round_metrics({"rule": rule.to_json(), "rows": rows})}


def _compare(rows: TrainingRows, test: Slice, parent: Parent, seed: int) -> tuple[ComparisonVerdict, dict[str, Any]]:
    scores = score_by_parent(rows, parent)
    rng = np.random.default_rng([seed, _COMPARISON_STREAM])
    verdict, comparison = compare_with_parent(rows, test, parent, scores, rng)
    return verdict, round_metrics({"comparison": comparison, "drift": report_drift(test, parent, scores)})


def _build(rows: TrainingRows, fitted: _Fitted, manifest: Manifest) -> Package:
    test = fitted.test
    return build_package(
        manifest=manifest,
        model=fitted.model,
        vocabularies=fitted.vocabularies,
        golden_rows=pick_golden_rows(rows, test.probability),
        reference=profile_table(test.matrix, test.probability, PURCHASE_NAMES, fitted.vocabularies, UNKNOWN_CLASS),
    )


def slice_rows(rows: TrainingRows, matrix: NDArray[np.float32], model: Model, code: int) -> Slice:
    """Return one slice of the rows with the model's probabilities."""
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
