"""Small real CatBoost models of every kind, made the way a notebook makes them: from a data frame."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from catboost import CatBoost, CatBoostClassifier, CatBoostRegressor

from serve_app.features.core.specs import UNKNOWN_CLASS, CategoryForm, FeatureSpec
from serve_app.models.adapters.package_dir import save_package
from serve_app.models.catboost.scorer import CatBoostScorer
from serve_app.models.core.manifest import Manifest
from serve_app.models.service.packaging import build_package
from serve_app.stats.profile import profile_table

TASKS = ("binary", "multiclass", "regression")
FORMS: tuple[CategoryForm, ...] = ("code", "native_code", "native_string")
ORDERS = {"numbers first": ("weight", "height", "city", "colour"), "mixed": ("city", "weight", "colour", "height")}
CITIES = ["bonn", "köln", "mainz", "trier", UNKNOWN_CLASS]
COLOURS = ["black", "red", "white", UNKNOWN_CLASS]


@dataclass(frozen=True)
class Original:
    """A model as its author has it, and what scorecat is told of it."""

    model: CatBoost
    features: tuple[FeatureSpec, ...]
    vocabularies: dict[str, list[str]]

    @property
    def is_classifier(self) -> bool:
        return isinstance(self.model, CatBoostClassifier)

    def frame(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows as the author's own code hands them to the model."""
        return _frame(rows, self.features, self.vocabularies)

    def scores(self, rows: pd.DataFrame) -> np.ndarray:
        if not self.is_classifier:
            return self.model.predict(self.frame(rows))
        found = self.model.predict_proba(self.frame(rows))
        return found[:, 1] if found.shape[1] == 2 else found


def raw_rows(n: int, seed: int = 0) -> pd.DataFrame:
    """Rows as they arrive: missing weights, cities and colours that no vocabulary lists."""
    rng = np.random.default_rng(seed)
    weight = np.where(rng.random(n) < 0.1, np.nan, rng.normal(60, 20, n))
    return pd.DataFrame({
        "weight": weight,
        "height": rng.integers(100, 220, n),
        "city": rng.choice([*CITIES[:-1], "ulm", "é"], n),
        "colour": rng.choice([*COLOURS[:-1], "teal"], n),
    })  # fmt: skip


def to_batch(rows: pd.DataFrame) -> pa.RecordBatch:
    arrays = [
        pa.array(rows[name].tolist(), pa.string()) if name in {"city", "colour"} else pa.array(rows[name].to_numpy())
        for name in rows
    ]
    return pa.RecordBatch.from_arrays(arrays, list(rows))


def train_original(
    task: str, form: CategoryForm, order: str = "numbers first", *, n_trees: int = 30, loss: str | None = None
) -> Original:
    names = ORDERS[order]
    kinds = {
        "weight": FeatureSpec("weight", "numeric", "kg", on_null="nan"),
        "height": FeatureSpec("height", "numeric", "cm", integer=True),
        "city": FeatureSpec("city", "categorical", "name", form=form, on_null="fill", fill="bonn"),
        "colour": FeatureSpec("colour", "categorical", "name", form=form),
    }
    features = tuple(kinds[name] for name in names)
    vocabularies = {"city": CITIES, "colour": COLOURS}
    rows = raw_rows(3_000, seed=1)
    signal = (rows.weight.fillna(90) - 60) / 20 + (rows.city.isin(["bonn", "ulm"])) + (rows.height % 7) / 7
    target = {"binary": signal > 1, "multiclass": np.digitize(signal, [0.0, 1.5]), "regression": signal}[task]
    labels = {"binary": np.array(["no", "yes"]), "multiclass": np.array(["low", "mid", "top"])}
    if task != "regression":
        target = labels[task][np.asarray(target).astype(int)]
    maker = CatBoostRegressor if task == "regression" else CatBoostClassifier
    settings = {"loss_function": loss} if loss else {}
    model = maker(iterations=n_trees, depth=4, verbose=0, allow_writing_files=False, thread_count=2, **settings)
    native = [spec.name for spec in features if spec.is_native]
    if loss in {"Poisson", "Tweedie:variance_power=1.5"}:
        target = np.round(np.abs(target) * 3)
    model.fit(_frame(rows, features, vocabularies), target, cat_features=native or None)
    return Original(model, features, vocabularies)


def make_kind_package(directory: Path, original: Original, name: str = "kind") -> Manifest:
    scorer = CatBoostScorer(original.model, original.features)
    rows = raw_rows(200, seed=2)
    matrix = np.zeros((1, len(original.features)), np.float32)
    reference = profile_table(
        matrix, np.zeros(1), [f.name for f in original.features], original.vocabularies, UNKNOWN_CLASS
    )
    manifest = Manifest(
        name, "2026-01-01T00:00:00Z", scorer.facts.task, original.features, classes=scorer.facts.classes
    )
    package = build_package(
        manifest=manifest,
        model=scorer,
        vocabularies=original.vocabularies,
        golden_rows=to_batch(rows),
        reference=reference,
    )
    return save_package(directory, package)


def reordered(original: Original) -> Original:
    """The same model, told of in the opposite order: a mistake to catch."""
    return dataclasses.replace(original, features=original.features[::-1])


def _frame(rows: pd.DataFrame, features: tuple[FeatureSpec, ...], vocabularies: dict[str, list[str]]) -> pd.DataFrame:
    out = {}
    for spec in features:
        column = rows[spec.name]
        if spec.kind == "categorical" and spec.form != "native_string":
            classes = vocabularies[spec.name]
            codes = {label: code for code, label in enumerate(classes)}
            column = column.map(lambda label, codes=codes: codes.get(label, codes[UNKNOWN_CLASS])).astype(int)
        out[spec.name] = column
    return pd.DataFrame(out)
