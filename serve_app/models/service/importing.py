"""Build a package of a model that was made elsewhere, and say what is known of it and what is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serve_app.errors import InvalidDataError
from serve_app.features.core.arrow_types import as_plain, as_text
from serve_app.features.core.encoding import FeatureEncoder
from serve_app.features.core.specs import UNKNOWN_CLASS, FeatureSpec, arrow_schema
from serve_app.models.core.golden_rows import design_rows
from serve_app.models.core.manifest import Manifest
from serve_app.models.core.model_facts import ModelFacts
from serve_app.models.core.recommendation import Thresholds
from serve_app.models.service.import_plan import ImportPlan
from serve_app.models.service.packaging import MIN_GOLDEN_ROWS, build_package
from serve_app.models.service.ports import Model, Package
from serve_app.stats.profile import PROFILE_SCHEMA, profile_table

N_SAMPLE_GOLDEN: Final = 96
MAX_SAMPLE_CLASSES: Final = 1000
REFERENCE_SOURCE: Final = "reference"
"""Member of a manifest's `training` in which an import says what the reference profile was made from."""
LABEL_KINDS: Final = "label_kinds"
"""Member of a manifest's `training` that holds `ImportPlan.label_kinds`."""
NO_REFERENCE: Final = "absent"
"""Its value when there was no sample, and so there is no profile."""


class Sample(NamedTuple):
    """Rows that somebody gave with a model, as they were, columns by name; and the name of their file."""

    rows: pa.RecordBatch
    name: str


def add_sample_classes(plan: ImportPlan, sample: Sample | None) -> ImportPlan:
    """List the sample's labels in the vocabularies of strings that nobody listed, for profiles and pages."""
    if sample is None:
        return plan
    vocabularies = dict(plan.vocabularies)
    for spec in plan.features:
        if spec.is_string and vocabularies[spec.name] == [spec.unseen_class] and spec.name in sample.rows.schema.names:
            labels = pc.drop_null(as_plain(as_text(sample.rows.column(spec.name))[0]))
            counts = sorted(labels.value_counts().to_pylist(), key=lambda c: (-c["counts"], c["values"]))
            common = [c["values"] for c in counts[:MAX_SAMPLE_CLASSES] if c["values"] != spec.unseen_class]
            vocabularies[spec.name] = [*sorted(common), spec.unseen_class]
    return dataclasses.replace(plan, vocabularies=vocabularies)


def build_import(
    *,
    name: str,
    facts: ModelFacts,
    plan: ImportPlan,
    model: Model,
    borders: Mapping[int, Sequence[float]],
    sample: Sample | None,
    document: Mapping[str, Any],
    imported_from: Mapping[str, Any],
    thresholds: Thresholds,
    parent_version: int | None,
) -> tuple[Package, dict[str, Any]]:
    """Return the package, and what was done with the sample.

    Raises
    ------
    InvalidDataError
        The sample has no row that the model can score.
    """
    encoder = FeatureEncoder(plan.features, plan.vocabularies)
    named_borders = {plan.features[j].name: split for j, split in borders.items()}
    designed = design_rows(plan.features, plan.vocabularies, named_borders, MIN_GOLDEN_ROWS)
    if sample is None:
        golden, reference = designed, PROFILE_SCHEMA.empty_table()
        used: dict[str, Any] = {
            "golden_rows": "the model's own split points and classes",
            REFERENCE_SOURCE: NO_REFERENCE,
        }
    else:
        golden, reference, used = _use_sample(encoder, model, sample, designed, plan, facts)
    metadata = {key: document.get(key) for key in ("metadata", "metrics", "extra_keys", "sklearn_version")}
    manifest = Manifest(
        name=name,
        created_at="",
        task=facts.task,
        features=plan.features,
        classes=facts.classes if facts.classes != ("0", "1") or facts.task != "binary" else (),
        thresholds=thresholds,
        metrics={"reported_by_author": metadata["metrics"]} if metadata["metrics"] else {},
        training={
            "imported_from": {**imported_from, "loss": facts.loss, "n_trees": facts.n_trees},
            "author_says": {k: v for k, v in metadata.items() if v and k != "metrics"},
            "notes": list(plan.notes),
            **({LABEL_KINDS: plan.label_kinds} if plan.label_kinds else {}),
            **used,
        },
        parent_version=parent_version,
    )
    package = build_package(
        manifest=manifest, model=model, vocabularies=plan.vocabularies, golden_rows=golden, reference=reference
    )
    return package, used


def _use_sample(
    encoder: FeatureEncoder, model: Model, sample: Sample, designed: pa.RecordBatch, plan: ImportPlan, facts: ModelFacts
) -> tuple[pa.RecordBatch, pa.Table, dict[str, Any]]:
    encoded = encoder.encode(sample.rows)
    if not len(encoded.rows):
        first = encoded.errors[0] if encoded.errors else None
        reason = f": {first.feature} {first.detail}" if first else ""
        raise InvalidDataError(f"{sample.name} has no row that the model can score{reason}")
    scores = model.predict(encoded.matrix, encoded.strings)
    names = [spec.name for spec in plan.features]
    reference = profile_table(encoded.matrix, scores, names, plan.vocabularies, UNKNOWN_CLASS, labels=facts.classes)
    picked = encoded.rows[_spread(scores)]
    golden = pa.concat_batches([_take(sample.rows, plan.features, picked), designed])
    used = {
        "golden_rows": f"{len(picked)} of {sample.name}, the rest from the model's own split points and classes",
        REFERENCE_SOURCE: f"{len(encoded.rows)} rows of {sample.name}",
        "sample": {
            "n_rows": sample.rows.num_rows,
            "n_rejected": len(encoded.errors),
            "first_rejected": [f"row {e.row}: {e.feature} {e.detail}" for e in encoded.errors[:3]],
            "columns_not_there": [name for name in names if name not in sample.rows.schema.names],
        },
    }
    return golden, reference, used


def _spread(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return positions over the whole range of scores."""
    order = np.argsort(scores if scores.ndim == 1 else scores.max(axis=1), kind="stable")
    return np.unique(order[np.linspace(0, len(order) - 1, N_SAMPLE_GOLDEN).astype(np.int64)])


def _take(rows: pa.RecordBatch, features: Sequence[FeatureSpec], at: NDArray[np.int64]) -> pa.RecordBatch:
    schema = arrow_schema(tuple(features))
    arrays = [
        rows.column(field.name).take(pa.array(at)).cast(field.type, safe=False)
        if field.name in rows.schema.names
        else pa.nulls(len(at), field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
