"""Write a package's model in the forms that code without scorecat reads."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import joblib
import numpy as np
from catboost import CatBoost, CatBoostClassifier, CatBoostError, to_classifier, to_ranker, to_regressor
from sklearn.preprocessing import LabelEncoder

from serve_app.errors import BadRequestError, PackageError
from serve_app.models.adapters.package_dir import MODEL, load_parts
from serve_app.models.catboost.files import load_catboost, save_catboost
from serve_app.models.catboost.scorer import CatBoostScorer
from serve_app.models.core.manifest import Task
from serve_app.models.service.importing import LABEL_KINDS
from serve_app.models.service.ports import PackageParts


def export_model(package: Path, target: Path, version: int) -> list[str]:
    """Write ``.cbm``, ``.json`` (CatBoost's own) or ``.pkl``/``.joblib`` (a dict, see `to_document`).

    Returns
    -------
    list of str
        Keys of the dict; empty for CatBoost's own forms.

    Raises
    ------
    BadRequestError
        Another suffix, or the file cannot be written.
    PackageError
        The package is torn or altered.
    """
    parts = load_parts(package)
    keys: list[str] = []
    staged = target.with_name(f".{target.name}.part")
    try:
        if target.suffix == ".cbm":
            shutil.copyfile(package / MODEL, staged)
        elif target.suffix == ".json":
            save_catboost(load_catboost(package / MODEL), staged, "json")
        elif target.suffix in {".pkl", ".joblib", ".pickle"}:
            document = to_document(parts, CatBoostScorer.load(package / MODEL, parts.manifest), version)
            joblib.dump(document, staged)
            keys = list(document)
        else:
            raise BadRequestError(f"{target} must end in .pkl, .joblib, .cbm or .json")
        staged.replace(target)
    except OSError as exc:
        raise BadRequestError(f"{target} cannot be written: {exc.strerror or exc}") from exc
    finally:
        with contextlib.suppress(OSError):  # on a disk that cannot be written there is nothing to remove
            staged.unlink(missing_ok=True)
    return keys


def to_document(parts: PackageParts, scorer: CatBoostScorer, version: int) -> dict[str, Any]:
    """Return the dict of a ``deployed_model.pkl``.

    The model is CatBoost's own classifier, regressor or ranker and knows its features by name; each
    `LabelEncoder` turns labels of the type it was fitted with into the codes the model takes, with
    ``__unknown__`` where the vocabulary has it.

    Raises
    ------
    PackageError
        The manifest says the types of another number of classes than a vocabulary has.
    """
    manifest = parts.manifest
    scorer.model.set_feature_names(list(manifest.feature_names))
    kinds = manifest.training.get(LABEL_KINDS, {})
    return {
        "model": _convert(scorer.model, manifest.task),
        "label_encoders": {
            spec.name: _make_encoder(parts.vocabularies[spec.name], kinds.get(spec.name))
            for spec in manifest.features
            if spec.kind == "categorical" and not spec.is_string
        },
        "feature_names": list(manifest.feature_names),
        "categorical_features": list(manifest.categorical_names),
        "metrics": manifest.metrics.get("reported_by_author", manifest.metrics),
        "model_metadata": {
            "name": manifest.name,
            "version": version,
            "created_at": manifest.created_at,
            "task": manifest.task,
            "digest": manifest.digest,
            "native_categorical_features": [spec.name for spec in manifest.features if spec.is_native],
        },
    }


def _convert(model: CatBoost, task: Task) -> CatBoost:
    """Return the model as the class it was trained with."""
    for convert in (to_regressor, to_ranker) if task == "regression" else (to_classifier,):
        with contextlib.suppress(CatBoostError):  # it takes some losses only, none written in Python
            return convert(model)
    with tempfile.TemporaryDirectory(prefix="scorecat-model-") as folder:
        path = Path(folder) / MODEL
        save_catboost(model, path, "cbm")
        other = CatBoost() if task == "regression" else CatBoostClassifier()
        return other.load_model(str(path))


_READERS: Final[dict[str, Callable[[str], Any]]] = {
    "str": str, "int": int, "float": float, "bool": lambda label: label == "True",
}  # fmt: skip


def _make_encoder(labels: list[str], kinds: list[list[Any]] | None) -> LabelEncoder:
    runs = kinds or [["str", len(labels)]]
    readers = [_READERS[kind] for kind, n in runs for _ in range(n)]
    if len(readers) != len(labels):
        raise PackageError(f"the manifest says the types of {len(readers)} classes, the vocabulary has {len(labels)}")
    encoder = LabelEncoder()
    # As objects: scikit-learn then looks labels up, and need not find the classes sorted.
    encoder.classes_ = np.array([read(label) for read, label in zip(readers, labels, strict=True)], dtype=object)
    return encoder
