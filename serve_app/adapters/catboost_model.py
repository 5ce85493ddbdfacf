"""CatBoost: load, predict, train, digest."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from catboost import CatBoostClassifier, CatBoostError, Pool
from numpy.typing import NDArray

from serve_app.core.errors import BadRequestError, PackageError


class CatBoostBinaryModel:
    """A binary CatBoost classifier over an all-numeric float32 matrix.

    Parameters
    ----------
    classifier : CatBoostClassifier
        Trained, two classes, no native categorical, text or embedding features.
    thread_count : int
        Threads of one predict call; CatBoost's default of all cores oversubscribes in a replica.
    """

    def __init__(self, classifier: CatBoostClassifier, *, thread_count: int = 1) -> None:
        self.classifier = classifier
        self.thread_count = thread_count

    @classmethod
    def load(cls, path: Path, *, thread_count: int = 1) -> CatBoostBinaryModel:
        """Load a native CatBoost file; raises PackageError when it is torn or of another kind."""
        classifier = CatBoostClassifier()
        try:
            classifier.load_model(str(path))
        except (CatBoostError, OSError) as exc:
            raise PackageError(f"{path} is not a readable CatBoost model: {exc}") from exc
        return cls(classifier, thread_count=thread_count)

    @property
    def n_features(self) -> int:
        """Number of columns the model expects."""
        return len(self.classifier.feature_names_ or ())

    @property
    def digest(self) -> str:
        """SHA-256 over trees and leaf values, without CatBoost's timestamps and `model_guid`."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.json"
            self.classifier.save_model(str(path), format="json")
            content = json.loads(path.read_bytes())
        content.pop("model_info", None)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def predict(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return P(class 1), shape (n,); bit-identical for any batch size, order and thread count."""
        if matrix.shape[0] == 0:
            return np.empty(0, dtype=np.float64)
        probabilities = self.classifier.predict_proba(matrix, thread_count=self.thread_count)
        return np.ascontiguousarray(probabilities[:, 1])

    def save(self, path: Path) -> None:
        """Write the model as a native ``.cbm`` file."""
        self.classifier.save_model(str(path), format="cbm")


def train_classifier(
    train: tuple[NDArray[np.float32], NDArray[np.int8]],
    stop: tuple[NDArray[np.float32], NDArray[np.int8]],
    feature_names: Sequence[str],
    *,
    init_model: Path | None = None,
    **params: Any,
) -> CatBoostBinaryModel:
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
    return CatBoostBinaryModel(classifier)
