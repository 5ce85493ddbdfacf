"""The process that loads a model first: a damaged file can end it, and it ends alone.

Run by `model_file` as ``python -I -m serve_app.models.untrusted.model_trial LIMITS MODEL``. It can read
files but write none, and reaches no network.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from serve_app.errors import ScorecatError
from serve_app.features.core.specs import FeatureSpec
from serve_app.models.catboost.facts import read_facts
from serve_app.models.catboost.files import load_catboost
from serve_app.models.catboost.scorer import CatBoostScorer
from serve_app.models.catboost.structure import check_structure
from serve_app.models.core.model_facts import check_size
from serve_app.models.untrusted.sandbox import Limits, enter

N_ROWS = 64


def try_model(path: Path) -> None:
    """Load a model, check its structure, and score rows of random numbers and labels; raises ScorecatError."""
    model = load_catboost(path)
    check_structure(model)
    facts = read_facts(model)
    check_size(facts.feature_names, facts.classes)
    features = tuple(
        FeatureSpec(name, "categorical", "", form="native_string")
        if j in facts.categorical
        else FeatureSpec(name, "numeric", "")
        for j, name in enumerate(facts.feature_names)
    )
    scorer = CatBoostScorer(model, features)
    rng = np.random.default_rng(0)
    matrix = rng.normal(0, 1_000, (N_ROWS, len(features))).astype(np.float32)
    labels = pa.array([str(code) for code in range(N_ROWS)])
    names = [spec.name for spec in features if spec.is_string]
    scorer.predict(matrix, pa.RecordBatch.from_arrays([labels] * len(names), names))


def main() -> None:
    """Try a model under limits; print one JSON object."""
    limits = Limits(**json.loads(sys.argv[1]))
    protections = enter(limits, strict=False)
    try:
        try_model(Path(sys.argv[2]))
    except ScorecatError as exc:
        print(json.dumps({"error": exc.detail}))  # noqa: T201
    else:
        print(json.dumps({"protections": protections}))  # noqa: T201


if __name__ == "__main__":
    main()
