"""What every encoder keeps, whatever its features: one suite, run on each."""

from __future__ import annotations

import dataclasses
import pickle
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from serve_app.errors import InvalidDataError, InvariantError
from serve_app.features.core.encoding import EncodedBatch, FeatureEncoder
from serve_app.features.core.numeric_columns import describe_rule
from serve_app.features.core.sources import FROM_DEFAULT, FROM_REQUEST, UNSEEN
from serve_app.features.core.specs import PURCHASE_FEATURES, UNKNOWN_CLASS, FeatureSpec, arrow_schema
from tests.testing_kit import VOCABULARIES, random_rows

pytestmark = pytest.mark.contract

GENERIC_FEATURES = (
    FeatureSpec("weight", "numeric", "kg", on_null="nan", minimum=0.0),
    FeatureSpec("delta", "numeric", "kg", on_null="nan"),
    FeatureSpec("size", "numeric", "cm", on_null="reject", above=0.0, maximum=300.0),
    FeatureSpec("n_legs", "numeric", "legs", on_null="fill", fill=4.0, minimum=0, maximum=100, integer=True),
    FeatureSpec("species", "categorical", "name", on_null="fill", fill="dog"),
    FeatureSpec("colour", "categorical", "name", on_null="reject"),
)
NATIVE_FEATURES = (
    *GENERIC_FEATURES[:4],
    dataclasses.replace(GENERIC_FEATURES[4], form="native_string"),
    dataclasses.replace(GENERIC_FEATURES[5], form="native_code"),
)
GENERIC_VOCABULARIES = {
    "species": ["cat", "dog", "7", UNKNOWN_CLASS],
    "colour": [UNKNOWN_CLASS, "black", "white"],
}


def generic_rows(n: int, seed: int = 0, *, null_share: float = 0.2) -> pa.RecordBatch:
    rng = np.random.default_rng(seed)

    def some(values: list) -> list:
        return [None if gone else v for v, gone in zip(values, rng.random(n) < null_share, strict=True)]

    return pa.RecordBatch.from_arrays(
        [
            pa.array(some(rng.uniform(0, 90, n).tolist()), pa.float64()),
            pa.array(some(rng.normal(0, 1, n).tolist()), pa.float64()),
            pa.array(rng.uniform(1, 300, n).tolist(), pa.float64()),
            pa.array(some(rng.integers(0, 9, n).astype(float).tolist()), pa.float64()),
            pa.array(some([["cat", "dog", "7", "newt"][i] for i in rng.integers(0, 4, n)]), pa.string()),
            pa.array([["black", "white", "red"][i] for i in rng.integers(0, 3, n)], pa.string()),
        ],
        schema=arrow_schema(GENERIC_FEATURES),
    )


@dataclass(frozen=True)
class Case:
    encoder: FeatureEncoder
    rows: Callable[..., pa.RecordBatch]
    required: str  # a numeric feature that is rejected when null
    positive: str  # a numeric feature that must be above 0

    def mixed(self, n: int, seed: int = 0) -> pa.RecordBatch:
        """Rows of which some break a rule: null, NaN, infinite, zero, too large for float32."""
        good = self.rows(n, seed)
        bad = [None, float("nan"), float("inf"), 0.0, 1e300]
        column = good.column(self.positive).to_pylist()
        for i in range(3, n, 7):
            column[i] = bad[i % len(bad)]
        at = good.schema.get_field_index(self.positive)
        return good.set_column(at, self.positive, pa.array(column, pa.float64()))


@pytest.fixture(params=["purchase", "generic", "native"])
def case(request: pytest.FixtureRequest) -> Case:
    if request.param == "purchase":
        return Case(FeatureEncoder(PURCHASE_FEATURES, VOCABULARIES), random_rows, "hour", "price")
    features = {"generic": GENERIC_FEATURES, "native": NATIVE_FEATURES}[request.param]
    return Case(FeatureEncoder(features, GENERIC_VOCABULARIES), generic_rows, "size", "size")


def bits(matrix: np.ndarray) -> np.ndarray:
    """Equal only when every bit is, NaN and -0.0 included."""
    return np.ascontiguousarray(matrix).view(np.uint32)


def assert_same(one: EncodedBatch, other: EncodedBatch) -> None:
    np.testing.assert_array_equal(bits(one.matrix), bits(other.matrix))
    np.testing.assert_array_equal(one.rows, other.rows)
    np.testing.assert_array_equal(one.sources, other.sources)
    assert one.errors == other.errors
    assert one.strings == other.strings


def join(parts: list[EncodedBatch], offsets: list[int]) -> EncodedBatch:
    return EncodedBatch(
        np.concatenate([p.matrix for p in parts]),
        np.concatenate([p.rows + at for p, at in zip(parts, offsets, strict=True)]),
        np.concatenate([p.sources for p in parts]),
        tuple(dataclasses.replace(e, row=e.row + at) for p, at in zip(parts, offsets, strict=True) for e in p.errors),
        pa.concat_batches([p.strings for p in parts]) if parts[0].strings is not None else None,
    )


def column_of(case: Case, kind: str, *, name: str | None = None) -> str:
    return next(s.name for s in case.encoder.features if s.kind == kind and (name is None or s.name == name))


def replace(batch: pa.RecordBatch, name: str, column: pa.Array) -> pa.RecordBatch:
    return batch.set_column(batch.schema.get_field_index(name), name, column)


def test_encoding_many_rows_is_encoding_each_row_alone(case):
    batch = case.mixed(80)
    alone = [case.encoder.encode(batch.slice(i, 1)) for i in range(80)]
    whole = case.encoder.encode(batch)
    assert whole.errors
    assert len(whole.rows) > 40
    assert_same(whole, join(alone, list(range(80))))


def test_encoding_is_pure(case):
    batch = case.mixed(50)
    before = batch.serialize().to_pybytes()
    assert_same(case.encoder.encode(batch), case.encoder.encode(batch))
    assert batch.serialize().to_pybytes() == before


def test_an_encoder_keeps_nothing_of_earlier_batches(case):
    fresh = pickle.loads(pickle.dumps(case.encoder))
    for seed in range(5):
        case.encoder.encode(case.mixed(30, seed))
    assert_same(case.encoder.encode(case.rows(30, 9)), fresh.encode(case.rows(30, 9)))


def test_outputs_share_no_memory_with_the_input(case):
    n = 32
    name = column_of(case, "numeric")
    buffer = np.full(n, 7.0)
    batch = replace(case.rows(n), name, pa.Array.from_buffers(pa.float64(), n, [None, pa.py_buffer(buffer)]))
    encoded = case.encoder.encode(batch)
    assert encoded.matrix.shape[0] == n
    encoded.matrix[:] = -1.0
    encoded.rows[:] = -1
    assert buffer.tolist() == [7.0] * n
    encoded = case.encoder.encode(batch)
    buffer[:] = 9.0
    assert encoded.matrix[:, [s.name for s in case.encoder.features].index(name)].tolist() == [7.0] * n


def test_outputs_of_two_calls_share_no_memory(case):
    batch = case.rows(16)
    one, other = case.encoder.encode(batch), case.encoder.encode(batch)
    for field in ("matrix", "rows", "sources"):
        assert not np.shares_memory(getattr(one, field), getattr(other, field))


def test_the_matrix_is_column_major_float32(case):
    for batch in (case.rows(10), case.mixed(10)):
        encoded = case.encoder.encode(batch)
        assert encoded.matrix.dtype == np.float32
        assert encoded.matrix.flags.f_contiguous
        assert encoded.sources.dtype == np.uint8
        assert encoded.rows.dtype == np.int64


def test_an_unseen_category_is_the_unknown_class(case):
    for spec in case.encoder.features:
        if spec.kind == "categorical":
            classes = {**VOCABULARIES, **GENERIC_VOCABULARIES}[spec.name]
            labels = ["never seen", "", " ", UNKNOWN_CLASS, classes[1], classes[1].upper()]
            batch = replace(case.rows(6), spec.name, pa.array(labels))
            codes = case.encoder.encode(batch).matrix[:, case.encoder.features.index(spec)].tolist()
            unknown = classes.index(UNKNOWN_CLASS)
            assert codes == [unknown, unknown, unknown, unknown, 1, unknown]


LABELS = ["cat", "never seen", "", " ", "é", None, UNKNOWN_CLASS, "dog"]


def test_strings_reach_the_model_unchanged_whatever_the_vocabulary_lists():
    batch = replace(generic_rows(8), "species", pa.array(LABELS))
    for vocabularies in (GENERIC_VOCABULARIES, {"colour": GENERIC_VOCABULARIES["colour"]}):
        encoded = FeatureEncoder(NATIVE_FEATURES, vocabularies).encode(batch)
        assert encoded.strings.to_pydict() == {"species": ["dog" if label is None else label for label in LABELS]}
    assert set(encoded.matrix[:, 4].tolist()) == {0.0}
    assert FeatureEncoder(GENERIC_FEATURES, GENERIC_VOCABULARIES).encode(batch).strings is None


def test_strings_are_those_of_the_accepted_rows_in_memory_of_their_own():
    encoder = FeatureEncoder(NATIVE_FEATURES, GENERIC_VOCABULARIES)
    whole = replace(generic_rows(100_000), "species", pa.array([f"animal number {i}" for i in range(100_000)]))
    part = replace(whole.slice(50_000, 4), "size", pa.array([1.0, -1.0, 2.0, 3.0]))
    encoded = encoder.encode(part)
    assert encoded.rows.tolist() == [0, 2, 3]
    assert encoded.strings.column("species").to_pylist() == [f"animal number {i}" for i in (50_000, 50_002, 50_003)]
    assert len(pickle.dumps(encoded)) < 5_000


@pytest.mark.parametrize("form", ["code", "native_code", "native_string"])
def test_a_class_nobody_declared_is_rejected_when_the_feature_says_so(form):
    spec = FeatureSpec("c", "categorical", "", form=form, on_unseen="reject", on_null="fill", fill="b")
    encoder = FeatureEncoder((spec,), {"c": ["a", "b"]})
    encoded = encoder.encode(pa.record_batch([pa.array(["a", "x" * 200, None, "b", UNKNOWN_CLASS])], ["c"]))
    assert encoded.matrix.ravel().tolist() == [0.0, 1.0, 1.0]
    assert encoded.rows.tolist() == [0, 2, 3]
    assert [(e.row, e.feature) for e in encoded.errors] == [(1, "c"), (4, "c")]
    assert encoded.errors[0].detail == f"must be one of the 2 classes the model knows, got {'x' * 80!r}"


def test_a_class_nobody_declared_counts_as_the_class_that_was_chosen_for_it():
    spec = FeatureSpec("c", "categorical", "", form="native_code", unseen_class="other")
    encoded = FeatureEncoder((spec,), {"c": ["a", "other", "b"]}).encode(pa.record_batch([pa.array(["b", "x"])], ["c"]))
    assert encoded.matrix.ravel().tolist() == [2.0, 1.0]


def test_each_null_follows_its_rule(case):
    complete = case.rows(4, null_share=0.0)
    for j, spec in enumerate(case.encoder.features):
        field = complete.schema.field(spec.name)
        absent = complete.drop_columns([spec.name])
        for batch in (replace(complete, spec.name, pa.nulls(4, field.type)), absent):
            encoded = case.encoder.encode(batch)
            if spec.on_null == "reject":
                assert [(e.row, e.feature) for e in encoded.errors] == [(i, spec.name) for i in range(4)]
                assert all("is required" in e.detail and describe_rule(spec) in e.detail for e in encoded.errors)
                continue
            assert encoded.errors == ()
            assert set(encoded.sources[:, j]) == {FROM_DEFAULT}
            assert set(np.delete(encoded.sources, j, axis=1).ravel()) <= {FROM_REQUEST, UNSEEN}
            found = encoded.matrix[:, j]
            if spec.on_null == "nan":
                assert np.isnan(found).all()
            elif spec.on_null == "fill_from":
                source = [s.name for s in case.encoder.features].index(spec.fill_from)
                assert found.tolist() == encoded.matrix[:, source].tolist()
            elif spec.kind == "numeric":
                assert set(found.tolist()) == {spec.fill}
            else:
                classes = {**VOCABULARIES, **GENERIC_VOCABULARIES}[spec.name]
                assert set(found.tolist()) == {classes.index(spec.fill)}


WHOLE = [0, 1, 0, 1, 1, 0]
NUMBER_ARRAYS = {
    **{str(t): pa.array(WHOLE, t) for t in (
        pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
        pa.float16(), pa.float32(),
    )},
    "bool": pa.array([bool(v) for v in WHOLE]),
    **{str(t): pa.array([Decimal(v) for v in WHOLE], t) for t in (
        pa.decimal32(5, 2), pa.decimal64(9, 2), pa.decimal128(20, 2), pa.decimal256(50, 2),
    )},
}  # fmt: skip


@pytest.mark.parametrize("kind", NUMBER_ARRAYS)
def test_every_number_type_gives_the_same_matrix(case, kind):
    name = {"price": "is_weekend", "size": "delta" if kind == "bool" else "n_legs"}[case.positive]
    batch = case.rows(6, null_share=0.0)
    expected = case.encoder.encode(replace(batch, name, pa.array([float(v) for v in WHOLE])))
    assert_same(case.encoder.encode(replace(batch, name, NUMBER_ARRAYS[kind])), expected)


@pytest.mark.parametrize("kind", ["int32", "float32", "bool", "decimal128(9, 2)"])
def test_nulls_of_every_number_type_follow_the_null_rule(case, kind):
    flags, numbers = {"price": "is_weekend", "size": "delta"}, {"price": "conversion_rate", "size": "weight"}
    name = (flags if kind == "bool" else numbers)[case.positive]
    types = {"int32": pa.int32(), "float32": pa.float32(), "bool": pa.bool_(), "decimal128(9, 2)": pa.decimal128(9, 2)}
    values = {"bool": [True, None, False]}.get(kind, [1, None, 0])
    if kind.startswith("decimal"):
        values = [Decimal(1), None, Decimal(0)]
    batch = case.rows(3, null_share=0.0)
    expected = case.encoder.encode(replace(batch, name, pa.array([1.0, None, 0.0])))
    assert_same(case.encoder.encode(replace(batch, name, pa.array(values, types[kind]))), expected)


STRING_TYPES = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.int32(), pa.large_string()),
    pa.dictionary(pa.uint16(), pa.string_view()),
]


def as_type(labels: list[str | None], kind: pa.DataType) -> pa.Array:
    if not pa.types.is_dictionary(kind):
        return pa.array(labels, kind)
    values = sorted({v for v in labels if v is not None})
    codes = [None if v is None else values.index(v) for v in labels]
    return pa.DictionaryArray.from_arrays(pa.array(codes, kind.index_type), pa.array(values, kind.value_type))


@pytest.mark.parametrize("kind", STRING_TYPES, ids=str)
def test_every_string_type_gives_the_same_matrix(case, kind):
    name = {"price": "brand", "size": "species"}[case.positive]
    classes = case.encoder.features[[s.name for s in case.encoder.features].index(name)]
    vocabulary = {**VOCABULARIES, **GENERIC_VOCABULARIES}[name]
    labels = [vocabulary[0], None, "never seen", vocabulary[1], vocabulary[0], classes.fill]
    batch = case.rows(6)
    expected = case.encoder.encode(replace(batch, name, pa.array(labels)))
    assert_same(case.encoder.encode(replace(batch, name, as_type(labels, kind))), expected)


def test_a_null_inside_a_dictionary_is_a_null():
    encoder = FeatureEncoder(GENERIC_FEATURES[4:5], GENERIC_VOCABULARIES)
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, None]), pa.array(["cat", None]))
    encoded = encoder.encode(pa.record_batch([column], ["species"]))
    assert encoded.matrix.ravel().tolist() == [0.0, 1.0, 1.0]
    assert encoded.sources.ravel().tolist() == [FROM_REQUEST, FROM_DEFAULT, FROM_DEFAULT]


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint8(), pa.dictionary(pa.int32(), pa.int64())], ids=str)
def test_integer_labels_are_compared_as_strings(kind):
    encoder = FeatureEncoder(GENERIC_FEATURES[4:5], GENERIC_VOCABULARIES)
    column = pa.array([7, 8, None], pa.int64())
    column = column.dictionary_encode() if pa.types.is_dictionary(kind) else column.cast(kind)
    assert encoder.encode(pa.record_batch([column], ["species"])).matrix.ravel().tolist() == [2.0, 3.0, 1.0]


WRONG_NUMBERS = [
    pa.array([True, False]),
    pa.array(["1", "2"]),
    pa.array([b"1", b"2"]),
    pa.array([[1.0], [2.0]]),
    pa.array([{"a": 1}, {"a": 2}]),
    pa.array([1, 2], pa.timestamp("s")),
    pa.array([1, 2], pa.date32()),
    pa.array([1, 2], pa.duration("s")),
    pa.array(["1", "2"]).dictionary_encode(),
]
WRONG_LABELS = [
    pa.array([True, False]),
    pa.array([b"1", b"2"]),
    pa.array([["a"], ["b"]]),
    pa.array([1, 2], pa.timestamp("s")),
    pa.array([True, False]).dictionary_encode(),
]


@pytest.mark.parametrize("column", WRONG_NUMBERS, ids=lambda c: str(c.type))
def test_a_column_that_cannot_be_numbers_is_named(case, column):
    with pytest.raises(InvalidDataError, match=rf"column {case.positive} must hold numbers, not "):
        case.encoder.encode(replace(case.rows(2), case.positive, column))


@pytest.mark.parametrize("column", WRONG_LABELS, ids=lambda c: str(c.type))
def test_a_column_that_cannot_be_labels_is_named(case, column):
    name = {"price": "brand", "size": "colour"}[case.positive]
    with pytest.raises(InvalidDataError, match=rf"column {name} must hold text or whole numbers, not "):
        case.encoder.encode(replace(case.rows(2), name, column))


def test_memory_is_bounded_by_the_matrix_and_a_few_columns(case):
    n, n_features = 200_000, len(case.encoder.features)
    sample = case.rows(1_000)
    batch = pa.Table.from_batches([sample] * (n // 1_000)).combine_chunks().to_batches()[0]
    case.encoder.encode(sample)
    output = n * n_features * 5 + n * 8
    arrow_before = pa.total_allocated_bytes()
    tracemalloc.start()
    encoded = case.encoder.encode(batch)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert encoded.matrix.nbytes == n * n_features * 4
    assert peak < output + 6 * 8 * n, f"{(peak - output) / n:.0f} bytes a row beside the output"
    strings = 0 if encoded.strings is None else encoded.strings.nbytes
    assert pa.total_allocated_bytes() - arrow_before < 4096 + 2 * strings


def test_encoders_and_encoded_batches_survive_pickling(case):
    batch = case.mixed(40)
    encoded = case.encoder.encode(batch)
    assert_same(pickle.loads(pickle.dumps(case.encoder)).encode(batch), encoded)
    for protocol in (4, 5):
        back = pickle.loads(pickle.dumps(encoded, protocol))
        assert_same(back, encoded)
        assert back.matrix.flags.f_contiguous


def test_an_empty_batch_gives_an_empty_matrix(case):
    n_features = len(case.encoder.features)
    for batch in (case.rows(5).slice(0, 0), case.rows(5).slice(5, 0)):
        encoded = case.encoder.encode(batch)
        assert encoded.matrix.shape == encoded.sources.shape == (0, n_features)
        assert encoded.rows.tolist() == []
        assert encoded.errors == ()


def test_a_batch_of_only_bad_rows_gives_an_empty_matrix(case):
    batch = replace(case.rows(5), case.positive, pa.array([0.0] * 5))
    encoded = case.encoder.encode(batch)
    assert encoded.matrix.shape == (0, len(case.encoder.features))
    assert [e.row for e in encoded.errors] == [0, 1, 2, 3, 4]


def test_a_slice_encodes_like_a_copy_of_it(case):
    batch = case.mixed(60)
    for offset, length in ((1, 7), (13, 40), (59, 1), (8, 8)):
        part = batch.slice(offset, length)
        copy = pa.RecordBatch.from_pylist(part.to_pylist(), schema=part.schema)
        assert_same(case.encoder.encode(part), case.encoder.encode(copy))


def test_sliced_booleans_and_dictionaries_encode_like_copies(case):
    number, label = {"price": ("is_weekend", "brand"), "size": ("delta", "species")}[case.positive]
    batch = case.rows(20, null_share=0.0)
    batch = replace(batch, number, pa.array([i % 3 == 0 for i in range(20)]))
    batch = replace(batch, label, batch.column(label).dictionary_encode())
    part = batch.slice(3, 11)
    copy = pa.RecordBatch.from_pylist(part.to_pylist(), schema=part.schema)
    assert_same(case.encoder.encode(part), case.encoder.encode(copy))


def test_where_a_table_is_cut_into_batches_does_not_matter(case):
    batch = case.mixed(97)
    whole = case.encoder.encode(batch)
    table = pa.Table.from_batches([batch])
    for size in (1, 10, 31, 96):
        parts = table.to_batches(max_chunksize=size)
        offsets = np.cumsum([0, *(p.num_rows for p in parts[:-1])]).tolist()
        assert_same(join([case.encoder.encode(p) for p in parts], offsets), whole)


def test_the_order_of_columns_and_other_columns_do_not_matter(case):
    batch = case.mixed(20)
    other = batch.select(list(reversed(batch.schema.names))).append_column("unrelated", pa.array([[1]] * 20))
    assert_same(case.encoder.encode(other), case.encoder.encode(batch))


def test_a_nan_value_is_passed_on_like_a_null_when_the_feature_says_so():
    rules = [{}, {"minimum": 0.0}, {"maximum": 5.0}, {"above": 0.0}, {"integer": True}]
    for rule in rules:
        encoder = FeatureEncoder((FeatureSpec("x", "numeric", "", on_null="nan", **rule),), {})
        encoded = encoder.encode(pa.record_batch([pa.array([float("nan"), None, 1.0])], ["x"]))
        assert encoded.errors == (), rule
        assert np.isnan(encoded.matrix[:2]).all()
        assert encoded.sources.ravel().tolist() == [FROM_REQUEST, FROM_DEFAULT, FROM_REQUEST]


@pytest.mark.parametrize(
    ("features", "vocabularies"),
    [
        ((FeatureSpec("c", "categorical", ""),), {}),
        ((FeatureSpec("c", "categorical", ""),), {"c": ["a"]}),
        ((FeatureSpec("c", "categorical", ""),), {"c": ["a", "a", UNKNOWN_CLASS]}),
        ((FeatureSpec("c", "categorical", "", on_unseen="reject"),), {}),
        ((FeatureSpec("c", "categorical", "", on_unseen="reject", on_null="fill", fill="b"),), {"c": ["a"]}),
        ((FeatureSpec("c", "categorical", "", unseen_class="other"),), {"c": ["a", UNKNOWN_CLASS]}),
        ((FeatureSpec("c", "categorical", "", form="native_string", on_null="nan"),), {}),
        ((FeatureSpec("c", "categorical", "", form="native_code"),), {}),
        ((FeatureSpec("x", "numeric", "", on_null="fill_from", fill_from="y"),), {}),
        ((FeatureSpec("x", "numeric", "", on_null="fill_from"),), {}),
        ((FeatureSpec("x", "numeric", "", on_null="fill_from", fill_from="x"),), {}),
    ],
)
def test_an_encoder_that_could_not_keep_its_rules_is_never_built(features, vocabularies):
    with pytest.raises(InvariantError):
        FeatureEncoder(features, vocabularies)
