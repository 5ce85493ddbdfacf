"""CatBoost: load, predict, explain, train, digest."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from catboost import CatBoost, CatBoostClassifier, CatBoostError, Pool, to_classifier
from numpy.typing import NDArray

from serve_app.errors import BadRequestError, InvalidDataError, InvariantError, PackageError
from serve_app.features.core.specs import FeatureSpec
from serve_app.models.catboost.facts import count_outputs, read_facts
from serve_app.models.catboost.files import load_catboost, save_catboost
from serve_app.models.catboost.trees import build_shap_tables, read_json
from serve_app.models.core.manifest import Manifest
from serve_app.models.core.model_facts import ModelFacts, check_features
from serve_app.models.core.shap_tables import ShapTables

OBJECT_ROWS: Final = 1024
"""Up to here rows with native categories go to CatBoost as an object array, beyond as a data frame.
1,000 trees, 20 numeric and 2 native features, one thread, object array against frame: 1 row 93 us
against 740, 64 rows 0.39 ms against 1.0, 1,024 rows 3.4 ms against 3.3, 20,000 rows 71 ms against 49."""
ADDITIVITY_TOLERANCE: Final = 1e-6
"""Largest difference of a row's SHAP values from its raw score (CatBoost's own is below 1e-12)."""
EAGER_ROWS: Final = 16
"""From this many explained rows on, a model's SHAP tables are built: 0.25 s for 1,000 trees, once, and then
0.3 ms for a row and 2.5 ms for 64. Until then CatBoost explains row by row, 17 ms each; its own
pre-calculation takes 1.0 s in every call. Measured by `python -m benchmarks.models`."""
MAX_EXPLAINED_LEAVES: Final = 1 << 22
"""Leaves (times outputs) of a model without tables that is explained: CatBoost takes up to 0.35 us for each of
them in every row, so up to 1.4 s for a row; 0.25 s for 1,000 trees of depth 10."""
MAX_CALL_LEAVES: Final = 1 << 24
"""Leaves times rows of one such call, up to 6 s: longer ones would keep a replica's threads from other rows."""


class CatBoostScorer:
    """A CatBoost model of numeric and categorical features: binary, multiclass or regression.

    Parameters
    ----------
    model : CatBoost
        Trained or loaded.
    features : sequence of FeatureSpec
        The inputs in the model's order; may be left out when all of them are numbers to CatBoost.
    thread_count : int
        Threads of one call; CatBoost's default of all cores oversubscribes in a replica.

    Raises
    ------
    InvalidDataError
        The model is of a kind that cannot be served, or its inputs are not `features`.
    """

    def __init__(self, model: CatBoost, features: Sequence[FeatureSpec] = (), *, thread_count: int = 1) -> None:
        self.model = model
        self.facts: ModelFacts = read_facts(model)
        self.features = tuple(features)
        self.thread_count = thread_count
        check_features(self.facts, self.features)
        self._native = list(self.facts.categorical)
        self._tables: ShapTables | None = None
        self._can_have_tables = True
        self._tables_lock = threading.Lock()
        self._n_explained = 0
        self._string_at = {spec.name: j for j, spec in enumerate(self.features) if spec.is_string}

    @classmethod
    def load(cls, path: Path, manifest: Manifest | None = None, *, thread_count: int = 1) -> CatBoostScorer:
        """Load a native CatBoost file.

        Parameters
        ----------
        path : Path
        manifest : Manifest, optional
            What the package says of the model; may be left out for a model of numbers only.
        thread_count : int

        Raises
        ------
        PackageError
            The file is torn or of another kind, or not the model that the manifest describes.
        """
        model = load_catboost(path)
        try:
            scorer = cls(model, manifest.features if manifest else (), thread_count=thread_count)
        except InvalidDataError as exc:
            raise PackageError(f"{path} cannot be served: {exc}") from exc
        facts = scorer.facts
        if manifest and (manifest.task, manifest.class_labels) != (facts.task, facts.classes):
            raise PackageError(
                f"{path} is a {facts.task} model of the classes {list(facts.classes)}, its manifest says "
                f"{manifest.task} and {list(manifest.class_labels)}"
            )
        return scorer

    @property
    def n_features(self) -> int:
        """Number of columns the model expects."""
        return len(self.facts.feature_names)

    @property
    def classifier(self) -> CatBoostClassifier:
        """The model as people call it without scorecat, sharing its trees."""
        return to_classifier(self.model)

    @property
    def digest(self) -> str:
        """SHA-256 over trees and leaf values, without CatBoost's timestamps and `model_guid`."""
        content = read_json(self.model)
        content.pop("model_info", None)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def predict(self, matrix: NDArray[np.float32], strings: pa.RecordBatch | None = None) -> NDArray[np.float64]:
        """Return what the task promises for each row.

        Parameters
        ----------
        matrix : ndarray of float32, shape (n, n_features)
            Encoded rows.
        strings : RecordBatch, optional
            `EncodedBatch.strings` of the same rows, for a model that takes strings as they are.

        Returns
        -------
        ndarray of float64
            P(class 1), (n,), for a binary model; (n, k) for k classes; the value, (n,), for a
            regression. Bit-identical for any batch size, order and thread count.
        """
        found = self._predict(matrix, strings, self.facts.prediction)
        return np.ascontiguousarray(found[:, 1]) if self.facts.task == "binary" else found

    def predict_raw(self, matrix: NDArray[np.float32], strings: pa.RecordBatch | None = None) -> NDArray[np.float64]:
        """Return raw scores: log-odds (n,) of a binary model, (n, k) for k classes, (n,) for a regression."""
        raw = self._predict(matrix, strings, "RawFormulaVal")
        return np.ascontiguousarray(raw[:, 1] - raw[:, 0]) if self.facts.is_pair else raw

    def explain(self, matrix: NDArray[np.float32], strings: pa.RecordBatch | None = None) -> NDArray[np.float64]:
        """Return SHAP values on the raw scale, which add up to `predict_raw`.

        Returns
        -------
        ndarray of float64, shape (n, n_features + 1) or (n, k, n_features + 1)
            One column for each feature; the last is the bias, what the model says of no row in
            particular.

        Raises
        ------
        InvalidDataError
            The model cannot be explained: its SHAP values do not add up to the score (trees that are
            not symmetric), CatBoost has none for it, or its trees have too many leaves.
        """
        width = self.n_features + 1
        if matrix.shape[0] == 0:
            return np.empty((0, len(self.facts.classes), width) if self.facts.task == "multiclass" else (0, width))
        self._n_explained += matrix.shape[0]
        if self._n_explained >= EAGER_ROWS or self.facts.scale != 1:  # CatBoost does not explain what is scaled
            self.prepare_explanations()
        pool = Pool(self._rows(matrix, strings), cat_features=self._native or None)
        tables = self._tables
        if tables is not None:
            values = tables.explain(self.model.calc_leaf_indexes(pool, thread_count=self.thread_count))
        else:
            # Few rows, or trees that the tables are not for. Pre-calculation takes minutes when trees are deep.
            self._refuse_large(matrix.shape[0])
            values = self._ask_catboost(type="ShapValues", data=pool, shap_mode="NoPreCalc")
            values = values.reshape(matrix.shape[0], -1, width)
        raw = np.asarray(self.model.predict(pool, "RawFormulaVal", thread_count=self.thread_count))
        if not np.allclose(values.sum(axis=2), raw.reshape(len(values), -1), rtol=0, atol=ADDITIVITY_TOLERANCE):
            raise InvalidDataError(
                "this model cannot be explained: CatBoost's SHAP values of its trees do not add up to the score "
                "(trees that are not symmetric: grow_policy Depthwise or Lossguide)"
            )
        if self.facts.is_pair:
            values = values[:, 1:] - values[:, :1]
        return np.ascontiguousarray(values if self.facts.task == "multiclass" else values[:, 0])

    def prepare_explanations(self) -> None:
        """Build what makes `explain` fast, once: see `EAGER_ROWS`. A replica does so before it is ready."""
        with self._tables_lock:
            if self._tables is None and self._can_have_tables:
                self._tables = build_shap_tables(self.model)
                self._can_have_tables = self._tables is not None

    @property
    def max_explained_rows(self) -> int | None:
        """Rows that one call of `explain` takes when the model has no tables; None for any number."""
        return None if self._can_have_tables else max(1, MAX_CALL_LEAVES // self._count_leaves())

    def _count_leaves(self) -> int:
        return int(np.sum(self.model.get_tree_leaf_counts())) * count_outputs(self.model)

    def _refuse_large(self, n_rows: int) -> None:
        n_leaves, n_most = self._count_leaves(), self.max_explained_rows
        if n_leaves > MAX_EXPLAINED_LEAVES:
            raise InvalidDataError(
                f"this model cannot be explained in time: its {self.facts.n_trees:,} trees have {n_leaves:,} leaf "
                f"values, explained are up to {MAX_EXPLAINED_LEAVES:,}. Train with a smaller depth, or fewer trees"
            )
        if n_most is not None and n_rows > n_most:
            raise InvalidDataError(
                f"explained are at most {n_most:,} rows at once, got {n_rows:,}: the {self.facts.n_trees:,} trees are "
                "deep, and each row takes long. Send fewer rows at a time, or run a batch job"
            )

    def _ask_catboost(self, **question: Any) -> Any:
        try:
            return self.model.get_feature_importance(thread_count=self.thread_count, **question)
        except CatBoostError as exc:
            raise InvalidDataError(f"CatBoost cannot explain this model: {exc}") from exc

    def save(self, path: Path) -> None:
        """Write the model as a native ``.cbm`` file."""
        save_catboost(self.model, path, "cbm")

    def _predict(
        self, matrix: NDArray[np.float32], strings: pa.RecordBatch | None, prediction: str
    ) -> NDArray[np.float64]:
        if matrix.shape[0] == 0:
            is_wide = self.facts.task == "multiclass" or self.facts.is_pair or prediction == "Probability"
            return np.empty((0, len(self.facts.classes)) if is_wide else 0, dtype=np.float64)
        found = self.model.predict(
            self._rows(matrix, strings), prediction_type=prediction, thread_count=self.thread_count
        )
        return np.asarray(found, dtype=np.float64)

    def _rows(self, matrix: NDArray[np.float32], strings: pa.RecordBatch | None) -> Any:
        """Return rows in the fastest form CatBoost takes them in."""
        if not self._native:
            return matrix
        columns = {j: matrix[:, j].astype(np.int64) for j in self._native}
        for name, j in self._string_at.items():
            if strings is None:
                raise InvariantError(f"the model takes {name} as strings and got none")
            columns[j] = strings.column(name).to_numpy(zero_copy_only=False)
        if matrix.shape[0] > OBJECT_ROWS:
            names = enumerate(self.facts.feature_names)
            return pd.DataFrame({name: columns.get(j, matrix[:, j]) for j, name in names}, copy=False)
        rows = matrix.astype(object)
        for j, column in columns.items():
            rows[:, j] = column
        return rows


def train_classifier(
    train: tuple[NDArray[np.float32], NDArray[np.int8]],
    stop: tuple[NDArray[np.float32], NDArray[np.int8]],
    feature_names: Sequence[str],
    *,
    init_model: Path | None = None,
    **params: Any,
) -> CatBoostScorer:
    """Train on log loss, stopping early on a slice of its own; no class weights, no resampling.

    Parameters
    ----------
    train, stop : (matrix (n, k), target (n,))
        Training rows and early-stopping rows.
    feature_names : sequence of str
        Names of the k columns.
    init_model : Path, optional
        A model file whose trees stay and are added to.
    **params
        CatBoost parameters, over the defaults here (seeded, quiet, all cores).

    Raises
    ------
    BadRequestError
        CatBoost cannot add to the trees of `init_model`.
    """
    settings: dict[str, Any] = {
        "loss_function": "Logloss",
        "random_seed": 0,
        "allow_writing_files": False,
        "verbose": False,
        **params,
    }
    rounds = settings.pop("early_stopping_rounds", 50)
    names = list(feature_names)
    classifier = CatBoostClassifier(**settings)
    try:
        classifier.fit(
            Pool(train[0], train[1], feature_names=names),
            eval_set=Pool(stop[0], stop[1], feature_names=names),
            early_stopping_rounds=rounds,
            init_model=None if init_model is None else str(init_model),
        )
    except CatBoostError as exc:
        if init_model is None:
            raise
        raise BadRequestError(
            f"the parent's trees cannot be added to: {exc}. Train from scratch: leave --continue out"
        ) from exc
    return CatBoostScorer(classifier)
