"""How a model's inputs are read is derived, or asked for, never guessed."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from serve_app.errors import InvalidDataError
from serve_app.features.core.encoding import FeatureEncoder
from serve_app.features.core.specs import PURCHASE_FEATURES, PURCHASE_NAMES, UNKNOWN_CLASS, FeatureSpec
from serve_app.models.core.golden_rows import UNSEEN_LABEL, design_rows
from serve_app.models.core.manifest import Manifest
from serve_app.models.core.model_facts import ModelFacts
from serve_app.models.core.schema_file import Schema, parse_schema
from serve_app.models.service.import_plan import check_vocabularies, plan_import

pytestmark = pytest.mark.unit

ENCODERS = {"brand": ["apple", "unknown", UNKNOWN_CLASS], "category_code": ["other", "tools", UNKNOWN_CLASS]}


def facts(names=PURCHASE_NAMES, categorical=(20, 21), **other) -> ModelFacts:
    base = ModelFacts(
        "binary", "Logloss", ("0", "1"), tuple(names), True, tuple(categorical), "Probability", False, 9, 1.0
    )
    return dataclasses.replace(base, **other)


def is_purchase(plan) -> bool:
    return Manifest("m", "", "binary", plan.features).is_purchase


def test_the_22_features_get_the_purchase_rules_and_the_encoders_classes():
    plan = plan_import(facts(), {"label_encoders": ENCODERS, "feature_names": list(PURCHASE_NAMES)}, Schema())
    assert plan.features[:20] == PURCHASE_FEATURES[:20]
    assert [f.form for f in plan.features[20:]] == ["native_code", "native_code"]
    assert plan.vocabularies == ENCODERS
    assert is_purchase(plan)
    numbers = plan_import(facts(categorical=()), {"label_encoders": ENCODERS}, Schema())
    assert numbers.features == PURCHASE_FEATURES


def test_native_categories_without_encoders_reach_the_model_as_text():
    plan = plan_import(facts(), {}, Schema())
    assert [f.form for f in plan.features[20:]] == ["native_string", "native_string"]
    assert plan.features[20].fill == "unknown"
    assert plan.vocabularies == {"brand": [UNKNOWN_CLASS], "category_code": [UNKNOWN_CLASS]}
    assert is_purchase(plan)


def test_small_whole_numbers_that_are_categories_to_the_model_stay_numbers_to_people():
    plan = plan_import(facts(categorical=(1, 2, 20, 21)), {"label_encoders": ENCODERS}, Schema())
    assert plan.features[1] == dataclasses.replace(PURCHASE_FEATURES[1], form="native_code")
    assert is_purchase(plan)
    FeatureEncoder(plan.features, plan.vocabularies)
    # a count without a bound may not be exact as float32: it is text then, and no purchase package
    plan = plan_import(facts(categorical=(4, 20, 21)), {"label_encoders": ENCODERS}, Schema())
    assert (plan.features[4].kind, plan.features[4].form) == ("categorical", "native_string")
    assert not is_purchase(plan)


def test_classes_without_an_unknown_one_reject_the_row_and_say_so():
    encoders = {"brand": ["apple", "unknown"], "category_code": ["tools", UNKNOWN_CLASS]}
    plan = plan_import(facts(), {"label_encoders": encoders}, Schema())
    brand, category = plan.features[20:]
    assert (brand.on_unseen, brand.on_null, brand.fill) == ("reject", "fill", "unknown")
    assert (category.on_unseen, category.on_null, category.fill) == ("class", "fill", UNKNOWN_CLASS)
    assert any("brand: the 2 classes have no __unknown__" in note for note in plan.notes)
    without = plan_import(facts(), {"label_encoders": {**encoders, "brand": ["apple"]}}, Schema())
    assert (without.features[20].on_unseen, without.features[20].on_null) == ("reject", "reject")
    encoder = FeatureEncoder(without.features, without.vocabularies)
    row = {"price": [1.0], "hour": [1.0], "day_of_week": [1.0], "is_weekend": [0.0], "brand": ["sony"]}
    (error,) = encoder.encode(pa.RecordBatch.from_pydict(row)).errors
    assert error.detail == "must be one of the 1 classes the model knows, got 'sony'"


def test_a_schema_names_a_class_for_the_unseen():
    schema = parse_schema({"features": [{"name": "brand", "unseen_class": "unknown"}]})
    plan = plan_import(facts(), {"label_encoders": {**ENCODERS, "brand": ["apple", "unknown"]}}, schema)
    assert (plan.features[20].on_unseen, plan.features[20].unseen_class) == ("class", "unknown")
    FeatureEncoder(plan.features, plan.vocabularies)


@pytest.mark.parametrize(
    ("classes", "labels"),
    [
        ([3, 1, 2], ["3", "1", "2"]),
        ([1.0, 2.0], ["1", "2"]),
        ([True, False], ["True", "False"]),
        (["a", "nan"], ["a", "nan"]),
    ],
)
def test_classes_of_every_kind_are_labels(classes, labels):
    names = ("c", "x")
    plan = plan_import(facts(names, (0,)), {"label_encoders": {"c": classes}}, Schema())
    assert plan.vocabularies["c"] == labels
    assert plan.features[1] == FeatureSpec("x", "numeric", "", on_null="nan")
    assert plan.features[0].on_null == ("fill" if "nan" in labels else "reject")


@pytest.mark.parametrize("classes", [[1.5], [], ["a", "a"], ["1", 1]])
def test_classes_that_cannot_be_labels_are_refused(classes):
    with pytest.raises(InvalidDataError, match="LabelEncoder of c has"):
        plan_import(facts(("c", "x"), (0,)), {"label_encoders": {"c": classes}}, Schema())


def test_names_in_another_order_are_found_by_name_and_it_is_said():
    listed = list(reversed(PURCHASE_NAMES))
    plan = plan_import(facts(), {"feature_names": listed, "label_encoders": ENCODERS}, Schema())
    assert tuple(f.name for f in plan.features) == PURCHASE_NAMES
    assert any("another order" in note for note in plan.notes)


def test_a_model_whose_own_order_is_another_keeps_it_and_is_no_purchase_package():
    names = tuple(reversed(PURCHASE_NAMES))
    plan = plan_import(
        facts(names, (0, 1)), {"feature_names": list(PURCHASE_NAMES), "label_encoders": ENCODERS}, Schema()
    )
    assert tuple(f.name for f in plan.features) == names
    assert plan.features[-1].above == 0.0
    assert not is_purchase(plan)


def test_names_that_disagree_with_the_models_are_refused_and_named():
    with pytest.raises(InvalidDataError, match="only feature_names has cost; only the model has price"):
        plan_import(facts(), {"feature_names": ["cost", *PURCHASE_NAMES[1:]]}, Schema())
    with pytest.raises(InvalidDataError, match="disagree: a name is there twice"):
        plan_import(facts(("a", "b")), {"feature_names": ["a", "b", "b"]}, Schema())


def test_a_model_without_names_takes_those_that_came_with_it_or_asks():
    bare = facts(("0", "1"), (), is_named=False)
    plan = plan_import(bare, {"feature_names": ["height", "weight"]}, Schema())
    assert [f.name for f in plan.features] == ["height", "weight"]
    schema = parse_schema({"features": [{"name": "weight", "unit": "kg"}, {"name": "height"}]})
    assert [f.name for f in plan_import(bare, {}, schema).features] == ["weight", "height"]
    with pytest.raises(InvalidDataError, match=r"trained without names for its 2 inputs.*--schema FILE"):
        plan_import(bare, {}, Schema())
    with pytest.raises(InvalidDataError, match="2 inputs without names, 1 different names"):
        plan_import(bare, {"feature_names": ["height"]}, Schema())


def test_a_category_that_is_a_number_to_the_model_needs_its_classes():
    with pytest.raises(InvalidDataError, match="brand is a number to the model, and no LabelEncoder"):
        plan_import(facts(categorical=()), {}, Schema())
    schema = parse_schema({"features": [{"name": "c", "kind": "categorical"}]})
    with pytest.raises(InvalidDataError, match="list its classes in the order of their numbers"):
        plan_import(facts(("c", "x"), ()), {}, schema)
    schema = parse_schema(
        {"features": [{"name": "c", "kind": "categorical", "classes": ["a", "b"], "on_null": "reject"}]}
    )
    plan = plan_import(facts(("c", "x"), ()), {}, schema)
    assert (plan.features[0].form, plan.vocabularies["c"]) == ("code", ["a", "b"])


def test_a_schema_overrides_rules_and_is_held_against_the_model():
    schema = parse_schema({
        "name": "pets", "task": "binary",
        "features": [
            {"name": "x", "unit": "kg", "minimum": 0, "on_null": "reject", "description": "Weight."},
            {"name": "c", "fill": "cat", "classes": ["cat", "dog"], "form": "native_string"},
        ],
    })  # fmt: skip
    plan = plan_import(facts(("c", "x"), (0,)), {}, schema)
    assert plan.features[1] == FeatureSpec("x", "numeric", "kg", on_null="reject", minimum=0, description="Weight.")
    assert (plan.features[0].on_null, plan.features[0].fill) == ("fill", "cat")
    assert plan.vocabularies["c"] == ["cat", "dog", UNKNOWN_CLASS]
    for value, said in (
        ({"task": "regression"}, "says that the model is a regression one, it is a binary one"),
        ({"features": [{"name": "y"}]}, "describes y: the model has no such input"),
        ({"features": [{"name": "c", "form": "code", "classes": ["a"]}]}, "c is a native category to the model"),
        ({"features": [{"name": "x", "form": "native_code"}]}, "x is a number to the model"),
    ):
        with pytest.raises(InvalidDataError, match=said):
            plan_import(facts(("c", "x"), (0,)), {}, parse_schema(value))


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ({"colour": 1}, "/colour"),
        ({"name": 7}, "/name"),
        ({"features": {}}, "/features"),
        ({"features": [1]}, "/features/0"),
        ({"features": [{"kind": "numeric"}]}, "/features/0"),
        ({"features": [{"name": "a", "kind": "text"}]}, "/features/0/kind"),
        ({"features": [{"name": "a", "group": "key"}]}, "/features/0/group"),
        ({"features": [{"name": "a", "size": 1}]}, "/features/0/size"),
        ({"features": [{"name": "a", "minimum": "low"}]}, "/features/0/minimum"),
        ({"features": [{"name": "a", "integer": 1}]}, "/features/0/integer"),
        ({"features": [{"name": "a", "unit": 1}]}, "/features/0/unit"),
        ({"features": [{"name": "a", "fill": []}]}, "/features/0/fill"),
        ({"features": [{"name": "a", "classes": ["x", "x"]}]}, "/features/0/classes"),
        ({"features": [{"name": "a", "classes": []}]}, "/features/0/classes"),
        ({"features": [{"name": "a"}, {"name": "a"}]}, "/features/1/name"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_schema_is_pointed_at(value, pointer):
    with pytest.raises(InvalidDataError) as caught:
        parse_schema(value)
    assert [e.pointer for e in caught.value.errors] == [pointer]


def test_a_schema_that_is_no_object_is_refused():
    for value in (None, [], "x"):
        with pytest.raises(InvalidDataError, match="a schema is an object"):
            parse_schema(value)


def test_an_encoder_of_no_input_is_not_used_and_it_is_said():
    plan = plan_import(facts(("a",), ()), {"label_encoders": {"zone": ["x"]}}, Schema())
    assert plan.notes == ("label_encoders of zone are not used: the model has no such input",)


def test_a_vocabulary_that_is_too_short_for_the_models_splits_is_found():
    plan = plan_import(facts(("c", "x"), ()), {"label_encoders": {"c": ["a", "b", UNKNOWN_CLASS]}}, Schema())
    assert check_vocabularies(plan, {0: (0.5, 1.5), 1: (99.0,)}, {}, frozenset) == []
    (found,) = check_vocabularies(plan, {0: (0.5, 6.5)}, {}, frozenset)
    assert "c: the model tells codes up to 7 apart, the vocabulary has 3 classes" in found


def test_a_vocabulary_that_lacks_a_category_the_model_learned_is_found():
    plan = plan_import(facts(("c", "x"), (0,)), {"label_encoders": {"c": ["a", UNKNOWN_CLASS]}}, Schema())

    def hash_labels(labels):
        return frozenset(hash(label) for label in labels)

    assert check_vocabularies(plan, {}, {0: hash_labels(["0", "1"])}, hash_labels) == []
    (found,) = check_vocabularies(plan, {}, {0: hash_labels(["0", "1", "2"])}, hash_labels)
    assert "c: the model knows 3 categories, 1 of them are no code of the 2 classes" in found


def hash_by_python(labels):
    return frozenset(hash(label) for label in labels)


def test_a_native_category_of_codes_is_not_taken_for_text_when_a_schema_lists_other_classes():
    schema = parse_schema({"features": [{"name": "c", "classes": ["a", "b"]}]})
    plan = plan_import(facts(("c", "x"), (0,)), {}, schema)
    assert plan.features[0].form == "native_string"
    (found,) = check_vocabularies(plan, {}, {0: hash_by_python(["0", "1"])}, hash_by_python)
    assert "c: the model knows 2 categories, and none of them is among the 2 classes of the schema" in found
    assert "form: native_code" in found
    assert check_vocabularies(plan, {}, {0: hash_by_python(["a", "z"])}, hash_by_python) == []


def test_a_brand_that_is_a_number_to_the_model_is_not_taken_for_text():
    plan = plan_import(facts(), {}, Schema())
    codes = {20: hash_by_python(["0", "1", "2"])}
    (found,) = check_vocabularies(plan, {}, codes, hash_by_python)
    assert "brand: the model knows 3 categories, and they are small whole numbers and no text" in found
    assert check_vocabularies(plan, {}, {20: hash_by_python(["apple", "0"])}, hash_by_python) == []
    other = plan_import(facts(("store", "x"), (0,)), {}, Schema())  # a store may well be a number
    assert check_vocabularies(other, {}, {0: codes[20]}, hash_by_python) == []


def test_designed_rows_lie_on_both_sides_of_every_split_and_break_no_rule():
    plan = plan_import(facts(), {"label_encoders": ENCODERS}, Schema())
    borders = {
        "price": [0.0, 9.99, 1e30],
        "hour": [-3.0, 6.5, 40.0],
        "conversion_rate": [0.25, 2.0],
        "avg_price": [50.0],
    }
    rows = design_rows(plan.features, plan.vocabularies, borders, 64)
    encoded = FeatureEncoder(plan.features, plan.vocabularies).encode(rows)
    assert encoded.errors == ()
    assert rows.num_rows >= 64
    for name, splits in borders.items():
        values = rows.column(name).drop_null().to_numpy()
        for split in splits:
            spec = PURCHASE_FEATURES[PURCHASE_NAMES.index(name)]
            if (spec.minimum or 0) < split < (spec.maximum or math.inf):
                assert (values <= np.float32(split)).any(), (name, split)
                assert (values > np.float32(split)).any(), (name, split)
    for name, classes in ENCODERS.items():
        labels = set(rows.column(name).to_pylist())
        assert {*classes, UNSEEN_LABEL, None} <= labels
    assert sum(rows.column(f.name).null_count > 0 for f in plan.features) == sum(
        f.on_null != "reject" for f in plan.features
    )
    assert rows.equals(design_rows(plan.features, plan.vocabularies, borders, 64))


@pytest.mark.parametrize(
    "rules",
    [{"minimum": 5.5, "maximum": 5.75}, {"above": 3.0}, {"maximum": -4.0}, {"minimum": 7, "integer": True},
     {"above": 2.0, "maximum": 3.0, "integer": True}, {"minimum": -9.5, "maximum": -9.25}],
)  # fmt: skip
def test_a_feature_with_narrow_bounds_gets_a_value_within_them(rules):
    features = (FeatureSpec("x", "numeric", "", **rules),)
    rows = design_rows(features, {}, {"x": [0.5]}, 64)
    assert FeatureEncoder(features, {}).encode(rows).errors == ()
    assert rows.num_rows == 64


def test_many_splits_are_thinned_evenly():
    features = (FeatureSpec("x", "numeric", ""),)
    rows = design_rows(features, {}, {"x": np.arange(5_000.0)}, 64)
    values = np.sort(rows.column("x").to_numpy())
    assert len(values) == 1_024
    assert np.diff(values).max() < 10


def test_the_schema_of_the_documentation_is_one():
    page = (Path(__file__).parents[3] / "docs" / "models.md").read_text("utf-8")
    text = page.partition("```yaml\n")[2].partition("```")[0]
    schema = parse_schema(yaml.safe_load(text))
    names = ("weight", "legs", "city", "colour")
    plan = plan_import(facts(names, (2,)), {}, schema)
    FeatureEncoder(plan.features, plan.vocabularies)
    assert [(f.kind, f.form) for f in plan.features] == [
        ("numeric", "code"), ("numeric", "code"), ("categorical", "native_string"), ("categorical", "code"),
    ]  # fmt: skip
    assert plan.features[1].fill == 4
    assert plan.features[3].unseen_class == "white"
    for key in ("kind", "form", "unit", "minimum", "on_null", "on_unseen"):
        assert f"`{key}`" in page
