"""The proof of a package: what is on the disk reproduces the golden rows."""

from __future__ import annotations

from pathlib import Path

from serve_app.features.core.encoding import FeatureEncoder
from serve_app.models.adapters.package_dir import load_package
from serve_app.models.catboost.scorer import CatBoostScorer
from serve_app.models.service.packaging import prove_encoder, prove_model


def prove_package(directory: Path) -> int:
    """Read a package from disk, reproduce its golden rows, and return their number.

    Raises
    ------
    PackageError
        A file is not what the manifest says.
    GoldenMismatchError
        A golden row has another score.
    """
    package = load_package(directory, CatBoostScorer.load)
    prove_encoder(package, FeatureEncoder(package.manifest.features, package.vocabularies))
    prove_model(package)
    return int(package.golden.num_rows)
