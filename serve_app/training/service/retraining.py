"""A candidate beside its parent: what can be continued, how both score the same rows, what has drifted."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serve_app.errors import BadRequestError, InvalidDataError
from serve_app.features.core.encoding import EncodedBatch, FeatureEncoder
from serve_app.features.core.specs import PURCHASE_FEATURES, PURCHASE_NAMES, UNKNOWN_CLASS, FeatureSpec
from serve_app.models.core.manifest import Manifest
from serve_app.models.service.importing import NO_REFERENCE, REFERENCE_SOURCE
from serve_app.models.service.ports import Package
from serve_app.stats.classification import rank_rows
from serve_app.stats.design_effect import effective_rows
from serve_app.stats.drift import measure_drift
from serve_app.training.core.bands import BandRule
from serve_app.training.core.comparison import (
    ComparisonVerdict,
    decide_verdict,
    differences_to_json,
    measure_differences,
)
from serve_app.training.core.target import TEST
from serve_app.training.service.assessment import Slice
from serve_app.training.service.rows import TrainingRows


@dataclass(frozen=True, slots=True)
class Parent:
    """The version a candidate follows.

    Attributes
    ----------
    version : int
    package : Package
    model_file : Path
        Its CatBoost file.
    is_continued : bool
        Whether the candidate keeps its trees and adds to them.
    """

    version: int
    package: Package
    model_file: Path
    is_continued: bool = False

    @property
    def manifest(self) -> Manifest:
        """Manifest of the package."""
        return self.package.manifest


@dataclass(frozen=True, slots=True)
class ParentScores:
    """The rows as a parent sees them.

    Attributes
    ----------
    encoded : EncodedBatch
        By the parent's own encoder; `rows` are those it accepts.
    probability : ndarray of float64, shape (n_ok,)
    """

    encoded: EncodedBatch
    probability: NDArray[np.float64]


def check_parent(parent: Parent) -> None:
    """Raise BadRequestError when a candidate cannot be compared with a parent, or cannot continue it."""
    manifest = parent.manifest
    strange = sorted(set(manifest.feature_names) - set(PURCHASE_NAMES))
    if manifest.task != "binary" or strange:
        what = f"reads {', '.join(strange)}" if strange else f"is made for {manifest.task}"
        raise BadRequestError(
            f"version {parent.version} cannot be the parent of a purchase model: it {what}. Name a version that "
            f"scores the purchase features, or leave --parent out"
        )
    if parent.is_continued and (reasons := _obstacles(manifest)):
        raise BadRequestError(
            f"version {parent.version} cannot be continued: {'; '.join(reasons)}. Train from scratch: leave "
            f"--continue out"
        )


def _obstacles(manifest: Manifest) -> list[str]:
    if manifest.feature_names != PURCHASE_NAMES:
        return ["its features, or their order, are not those of the purchase model"]
    return [
        f"its feature {spec.name} has another rule ({', '.join(differing)})"
        for spec, ours in zip(manifest.features, PURCHASE_FEATURES, strict=True)
        if (differing := _differing_rules(spec, ours))
    ]


def _differing_rules(spec: FeatureSpec, ours: FeatureSpec) -> list[str]:
    """Return the members that decide what the model sees and differ; words for people do not count."""
    words = {"description", "unit", "group", "is_declared"}
    members = {field.name for field in dataclasses.fields(FeatureSpec)} - words
    return sorted(name for name in members if getattr(spec, name) != getattr(ours, name))


def inherit_rule(parent: Parent) -> BandRule:
    """Return the rule by which the parent's thresholds were set, to be used on the new rows again."""
    thresholds, rule = parent.manifest.thresholds, parent.manifest.training.get("bands")
    return BandRule(thresholds) if rule is None else BandRule.from_json(rule, thresholds)


def score_by_parent(rows: TrainingRows, parent: Parent) -> ParentScores:
    """Score the test slice by the parent's own encoder and model."""
    at = np.flatnonzero(rows.split.slices == TEST)
    batch = rows.table.select(parent.manifest.feature_names).take(pa.array(at)).combine_chunks().to_batches()[0]
    encoded = FeatureEncoder(parent.manifest.features, parent.package.vocabularies).encode(batch)
    if len(encoded.rows) == 0:
        first = encoded.errors[0]
        raise InvalidDataError(
            f"version {parent.version} accepts none of the {len(at)} rows of the test slice: {first.feature} "
            f"{first.detail}. Leave --parent out to train without a comparison"
        )
    return ParentScores(encoded, parent.package.model.predict(*encoded.for_model))


def compare_with_parent(
    rows: TrainingRows, test: Slice, parent: Parent, scores: ParentScores, rng: np.random.Generator
) -> tuple[ComparisonVerdict, dict[str, Any]]:
    """Compare a candidate with its parent on the test rows that both score.

    Parameters
    ----------
    rows : TrainingRows
    test : Slice
        The test slice with the candidate's probabilities.
    parent, scores
        The parent and what it makes of the same slice.
    rng : Generator
        For the bootstrap over users.

    Returns
    -------
    Verdict, dict
        What the rule says, and the comparison for the manifest.
    """
    at = scores.encoded.rows
    target, user = test.target[at], test.user[at]
    candidate = rank_rows(target, test.probability[at], user)
    other = rank_rows(target, scores.probability, user)
    differences = measure_differences(candidate, other, rng)
    verdict = decide_verdict(differences)
    comparison = {
        "outcome": verdict.outcome,
        "reasons": list(verdict.reasons),
        "parent_digest": parent.manifest.digest,
        "way": "continued from the parent's trees" if parent.is_continued else "from scratch",
        "n_rows": len(at),
        "n_users": candidate.n_clusters,
        "n_rejected_by_parent": len(scores.encoded.errors),
        "differences": differences_to_json(differences),
        "notes": overlap_notes(rows, parent.manifest),
    }
    return verdict, comparison


def overlap_notes(rows: TrainingRows, parent: Manifest) -> list[str]:
    """Say when the parent may have learned from rows it is compared on, which favours it."""
    learned_to_s = parent.training.get("test_from_s")
    if learned_to_s is None:
        return ["what the parent learned from is not known; if it saw these rows, the comparison favours it"]
    start_s = rows.table.column("session_start_s").to_numpy()[rows.split.slices == TEST]
    share = float(np.mean(start_s < learned_to_s))
    if share == 0:
        return []
    note = f"{share:.0%} of these rows belong to sessions of the time the parent learned from; if they are the same"
    return [f"{note} sessions, the comparison favours the parent"]


def report_drift(test: Slice, parent: Parent, scores: ParentScores) -> dict[str, Any]:
    """Compare the test slice with the parent's reference profile; says why when there is none.

    Notes
    -----
    Rows of one user are not independent, so chance is judged on the number of rows they are worth at
    least. A parent that does not know that number of its reference counts rows.
    """
    reference, manifest = parent.package.reference, parent.manifest
    if manifest.training.get(REFERENCE_SOURCE) == NO_REFERENCE:
        return {"skipped": "the parent was imported without training statistics; import it again with --sample FILE"}
    if reference.num_rows == 0 or (pc.sum(reference.column("count")).as_py() or 0) == 0:
        return {"skipped": "the parent has no reference profile"}
    n_reference = manifest.metrics.get("reference", {}).get("n_effective_rows") or _n_profiled(reference)
    n_new = effective_rows(test.user[scores.encoded.rows])
    drifts = measure_drift(
        reference,
        scores.encoded.matrix,
        scores.probability,
        manifest.feature_names,
        parent.package.vocabularies,
        UNKNOWN_CLASS,
        n_reference=n_reference,
        n_new=n_new,
    )
    return {
        "n_reference_rows": _n_profiled(reference),
        "n_new_rows": len(scores.encoded.rows),
        "n_effective_reference_rows": n_reference,
        "n_effective_new_rows": n_new,
        "features": [dataclasses.asdict(drift) for drift in drifts],
    }


def _n_profiled(reference: pa.Table) -> int:
    first = reference.column("feature")[0].as_py()
    of_first = reference.filter(pc.equal(reference.column("feature"), first))
    return int(pc.sum(of_first.column("count")).as_py())
