"""Read and write CatBoost's own files, with its errors told as ours."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Literal

from catboost import CatBoost, CatBoostError

from serve_app.errors import BadRequestError, PackageError

_SYSTEM: Final = re.compile(r"\(Error \d+: ([^)]+)\)")
"""How CatBoost writes what the operating system said."""


def save_catboost(model: CatBoost, path: Path, form: Literal["cbm", "json"]) -> None:
    """Write a model.

    Raises
    ------
    BadRequestError
        The file cannot be written: the disk is full, for example.
    """
    try:
        model.save_model(str(path), format=form)
    except (CatBoostError, OSError) as exc:
        found = _SYSTEM.search(str(exc))
        raise BadRequestError(f"cannot write the model to {path}: {found[1] if found else exc}") from exc


def load_catboost(path: Path) -> CatBoost:
    """Load a model file of CatBoost, ``.json`` by suffix or ``.cbm``; raises PackageError when it is none."""
    model = CatBoost()
    try:
        model.load_model(str(path), format="json" if path.suffix == ".json" else "cbm")
    except (CatBoostError, OSError) as exc:
        raise PackageError(f"{path} is not a readable CatBoost model: {exc}") from exc
    return model
