"""Write a package's model in the forms that code without scorecat reads."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from catboost import to_classifier, to_regressor
from sklearn.preprocessing import LabelEncoder

from serve_app.adapters.catboost_files import save_catboost
from serve_app.adapters.catboost_model import CatBoostScorer, load_catboost
from serve_app.adapters.package_dir import MODEL, load_parts
from serve_app.core.errors import BadRequestError
from serve_app.service.ports import PackageParts


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

    The model is CatBoost's own classifier or regressor and knows its features by name; each
    `LabelEncoder` turns labels into the codes the model takes, with ``__unknown__`` where the
    vocabulary has it.
    """
    manifest = parts.manifest
    scorer.model.set_feature_names(list(manifest.feature_names))
    convert = to_regressor if manifest.task == "regression" else to_classifier
    return {
        "model": convert(scorer.model),
        "label_encoders": {
            spec.name: _make_encoder(parts.vocabularies[spec.name])
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


def _make_encoder(classes: list[str]) -> LabelEncoder:
    encoder = LabelEncoder()
    # As objects: scikit-learn then looks labels up, and need not find the classes sorted.
    encoder.classes_ = np.array(classes, dtype=object)
    return encoder
