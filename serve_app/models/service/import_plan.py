"""Decide how a model that was made elsewhere is served: names, rules and vocabularies of its inputs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

from serve_app.errors import InvalidDataError
from serve_app.features.core.encoding import MAX_EXACT
from serve_app.features.core.specs import (
    DERIVED_FILLS,
    NAN_LABEL,
    PURCHASE_FEATURES,
    PURCHASE_NAMES,
    UNKNOWN_CLASS,
    FeatureSpec,
)
from serve_app.models.core.model_facts import ModelFacts, check_features
from serve_app.models.core.schema_file import FeatureEntry, Schema
from serve_app.models.service.import_names import choose_names, quote, write_codes

_PURCHASE: Final = {spec.name: spec for spec in PURCHASE_FEATURES}


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """How a model's inputs are read.

    Attributes
    ----------
    features : tuple of FeatureSpec
        In the model's own order.
    vocabularies : dict of str to list of str
    notes : tuple of str
        What was decided and why, for a person.
    label_kinds : dict of str to list of [str, int]
        For a LabelEncoder whose classes are not all text: the types of its classes (``int``, ``float``, ``bool``,
        ``str``), in their order, each with the number of classes in a row that have it. A vocabulary holds text only.
    """

    features: tuple[FeatureSpec, ...]
    vocabularies: dict[str, list[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    label_kinds: dict[str, list[list[Any]]] = field(default_factory=dict)


def plan_import(facts: ModelFacts, document: Mapping[str, Any], schema: Schema) -> ImportPlan:
    """Derive what can be derived from the model and what came with it; the schema overrides it.

    Raises
    ------
    InvalidDataError
        Names disagree, a vocabulary is not there, or the schema says what the model is not.
    """
    if schema.task and schema.task != facts.task:
        raise InvalidDataError(f"the schema says that the model is a {schema.task} one, it is a {facts.task} one")
    names, notes = choose_names(facts, document, schema)
    notes = [*document.get("notes", ()), *notes]
    encoders = document.get("label_encoders") or {}
    rules = _PURCHASE if set(names) == set(PURCHASE_NAMES) and facts.task == "binary" else {}
    features, vocabularies, kinds = [], {}, {}
    for j, name in enumerate(names):
        entry = schema.features.get(name, FeatureEntry({}))
        classes = entry.classes if entry.classes is not None else _read_classes(name, encoders.get(name))
        # Classes of a schema alone say nothing of codes: a native category then is the text itself.
        is_text = j in facts.categorical and name not in encoders
        spec = _derive(name, rules.get(name), None if is_text else classes, is_native=j in facts.categorical)
        spec = _override(spec, entry, classes)
        if spec.kind == "categorical":
            vocabularies[name] = _complete(spec, classes)
            if entry.classes is None and (found := _read_kinds(encoders.get(name))):
                kinds[name] = found
            if spec.on_unseen == "reject":
                notes.append(
                    f"{name}: the {len(vocabularies[name])} classes have no {UNKNOWN_CLASS} among them, so a row with "
                    f"another class is rejected, as the original would fail on it (a schema can name a class for them)"
                )
        features.append(spec)
    unused = sorted(set(encoders) - set(names))
    if unused:
        notes.append(f"label_encoders of {', '.join(unused)} are not used: the model has no such input")
    check_features(dataclasses.replace(facts, feature_names=names), features)
    return ImportPlan(tuple(features), vocabularies, tuple(notes), kinds)


def _read_classes(name: str, classes: Sequence[Any] | None) -> list[str] | None:
    """Return an encoder's classes as labels; whole numbers are written as such."""
    if classes is None:
        return None
    broken = [c for c in classes if isinstance(c, float) and not (c.is_integer() or math.isnan(c))]
    if broken:
        raise InvalidDataError(
            f"the LabelEncoder of {name} has {broken[0]} among its classes: only text and whole numbers"
        )
    labels = [str(int(c)) if isinstance(c, float) and not math.isnan(c) else str(c) for c in classes]
    if len(set(labels)) != len(labels) or not labels:
        raise InvalidDataError(f"the LabelEncoder of {name} has no classes, or two that are written the same way")
    return labels


def _read_kinds(classes: Sequence[Any] | None) -> list[list[Any]]:
    """Return the types of an encoder's classes, see `ImportPlan.label_kinds`; nothing when all are text."""
    runs = [[kind, len(list(run))] for kind, run in groupby(type(c).__name__ for c in classes or ())]
    return [] if all(kind == "str" for kind, _ in runs) else runs


def _derive(name: str, rules: FeatureSpec | None, classes: list[str] | None, *, is_native: bool) -> FeatureSpec:
    """Return a spec from what is known without a schema."""
    if classes is not None:
        base = rules if rules and rules.kind == "categorical" else FeatureSpec(name, "categorical", "")
        spec = dataclasses.replace(base, form="native_code" if is_native else "code")
        if UNKNOWN_CLASS not in classes:
            spec = dataclasses.replace(spec, on_unseen="reject")
        return _choose_null(spec, classes)
    if rules is not None and rules.kind == "numeric":
        if not is_native:
            return rules
        if rules.integer and (rules.maximum or MAX_EXACT) < MAX_EXACT:
            return dataclasses.replace(rules, form="native_code")
    if is_native:
        base = rules if rules and rules.kind == "categorical" else FeatureSpec(name, "categorical", "")
        return dataclasses.replace(base, form="native_string")
    if rules is not None:
        coded = [spec.name for spec in PURCHASE_FEATURES if spec.kind == "categorical"]
        raise InvalidDataError(
            f"{name} is a number to the model, and no LabelEncoder says which class has which number: list the classes "
            f"in the order of their numbers in a schema (--schema FILE), all of them:\n{write_codes(coded)}"
        )
    return FeatureSpec(name, "numeric", "", on_null="nan")


def _choose_null(spec: FeatureSpec, classes: Sequence[str]) -> FeatureSpec:
    """Keep the null rule when its class is known; else the class for missing values, or for unseen ones."""
    fill = str(spec.fill) if spec.on_null == "fill" else None
    if fill not in classes:
        fill = next((label for label in DERIVED_FILLS if label in classes), None)
    if fill is None:
        return dataclasses.replace(spec, on_null="reject", fill=None)
    return dataclasses.replace(spec, on_null="fill", fill=fill)


def _override(spec: FeatureSpec, entry: FeatureEntry, classes: list[str] | None) -> FeatureSpec:
    rules = dict(entry.rules)
    if rules.get("kind", spec.kind) != spec.kind and rules["kind"] == "categorical":
        if classes is None:
            raise InvalidDataError(
                f"the schema calls {spec.name} categorical, and it is a number to the model: list its classes in the "
                "order of their numbers"
            )
        spec = FeatureSpec(spec.name, "categorical", spec.unit, form=spec.form)
    if "fill" in rules:
        rules.setdefault("on_null", "fill")
    if "fill_from" in rules:
        rules.setdefault("on_null", "fill_from")
    if "unseen_class" in rules:
        rules.setdefault("on_unseen", "class")
    is_declared = rules.get("on_null") in {"fill", "fill_from"}
    if rules.get("on_null", "fill") not in {"fill", "fill_from"}:
        rules.setdefault("fill", None)
    return dataclasses.replace(spec, **rules, is_declared=is_declared)


def _complete(spec: FeatureSpec, classes: list[str] | None) -> list[str]:
    """Return the vocabulary; that of strings needs a class for the unseen, which the model never sees."""
    vocabulary = list(classes or ())
    if spec.is_string and spec.on_unseen == "class" and spec.unseen_class not in vocabulary:
        vocabulary.append(spec.unseen_class)
    return vocabulary


def check_vocabularies(
    plan: ImportPlan,
    borders: Mapping[int, Sequence[float]],
    known: Mapping[int, frozenset[int]],
    hash_labels: Callable[[Sequence[str]], frozenset[int]],
) -> list[str]:
    """Return what the model knows and a vocabulary lacks, a sentence for each feature.

    Parameters
    ----------
    plan : ImportPlan
    borders : mapping of int to sequence of float
        Split points of numbers by position.
    known : mapping of int to frozenset of int
        Hashes of the native categories the model knows, by position.
    hash_labels : callable
        Hashes of labels as the model makes them.
    """
    found = []
    for j, spec in enumerate(plan.features):
        classes = plan.vocabularies.get(spec.name, [])
        if spec.kind == "categorical" and spec.form == "code":
            highest = max(borders.get(j, ()), default=-1.0)
            if highest > len(classes) - 1:
                found.append(
                    f"{spec.name}: the model tells codes up to {int(highest) + 1} apart, the vocabulary has "
                    f"{len(classes)} classes (codes 0 to {len(classes) - 1})"
                )
        elif spec.kind == "categorical" and spec.form == "native_code" and known.get(j):
            unlisted = known[j] - hash_labels([str(code) for code in range(len(classes))])
            if unlisted:
                found.append(
                    f"{spec.name}: the model knows {len(known[j])} categories, {len(unlisted)} of them are no code of "
                    f"the {len(classes)} classes of the vocabulary"
                )
        elif spec.is_string and known.get(j) and (reason := _find_codes(spec, classes, known[j], hash_labels)):
            found.append(reason)
    return found


def propose_fills(
    plan: ImportPlan,
    known: Mapping[int, frozenset[int]],
    hash_labels: Callable[[Sequence[str]], frozenset[int]],
) -> list[str]:
    """Return a sentence for each category whose training had a class for missing values that null does not become.

    Parameters are those of `check_vocabularies`.
    """
    proposals = []
    for j, spec in enumerate(plan.features):
        if spec.kind != "categorical" or (spec.on_null == "fill" and spec.fill == NAN_LABEL):
            continue
        if spec.is_string:
            had = bool(known.get(j)) and hash_labels([NAN_LABEL]) - hash_labels([]) <= known[j]
        else:
            had = NAN_LABEL in plan.vocabularies.get(spec.name, ())
        if had:
            null = f"becomes {spec.fill}" if spec.on_null == "fill" else "is rejected"
            proposals.append(
                f"{spec.name}: training had {NAN_LABEL} among the classes, as text made of missing values; null {null} "
                f"here. To score it as the model learned it, say so in a schema (--schema FILE): {{features: [{{name: "
                f"{quote(spec.name)}, fill: {NAN_LABEL}}}]}}"
            )
    return proposals


def _find_codes(
    spec: FeatureSpec,
    classes: Sequence[str],
    known: frozenset[int],
    hash_labels: Callable[[Sequence[str]], frozenset[int]],
) -> str:
    """Return why a category cannot be the text it is taken for, or nothing; the model would know none of it."""
    listed = [label for label in classes if label != spec.unseen_class]
    is_known_to_be_text = spec.name in _PURCHASE and _PURCHASE[spec.name].unit == spec.unit
    what = ""
    if listed and not known & hash_labels(listed):
        what = f"none of them is among the {len(listed)} classes of the schema"
    elif is_known_to_be_text and known <= hash_labels([str(code) for code in range(max(len(known), 2) * 2)]):
        what = "they are small whole numbers and no text"
    if not what:
        return ""
    return (
        f"{spec.name}: the model knows {len(known)} categories, and {what}: it probably learned from the codes of a "
        f"LabelEncoder. Then a schema has to list the classes in the order of their codes, and say form: native_code"
    )
