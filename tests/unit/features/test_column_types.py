"""Every Arrow type against every kind of input: one table, and each gate says what it says."""

from __future__ import annotations

import math
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.transforms.columns import ColumnMapping, choose_columns
from serve_app.errors import InvalidDataError
from serve_app.features.core import typed_columns as http_columns
from serve_app.features.core.arrow_types import as_plain, as_text, longest_bytes, meaning_of
from serve_app.features.core.column_types import can_hold
from serve_app.features.core.encoding import FeatureEncoder
from serve_app.features.core.row_errors import RowError
from serve_app.features.core.row_keys import KEY_SPECS, convert_keys
from serve_app.features.core.specs import PURCHASE_FEATURES, PURCHASE_NAMES, FeatureSpec
from serve_app.features.core.typed_columns import MAX_ROWS, check_types
from serve_app.http.tables.table_formats import parse_arrow
from tests.testing_kit import VOCABULARIES

pytestmark = pytest.mark.unit

FEATURES = (
    FeatureSpec("number", "numeric", "", on_null="fill", fill=0.0, minimum=0.0),
    FeatureSpec("flag", "numeric", "", on_null="fill", fill=0.0, minimum=0, maximum=1, integer=True),
    FeatureSpec("label", "categorical", "", on_null="fill", fill="none"),
    FeatureSpec("text", "categorical", "", on_null="fill", fill="none", form="native_string"),
)
CLASSES = {"label": ["0", "1", "none", "__unknown__"], "text": ["0", "1", "none", "__unknown__"]}
PAGE = Path(__file__).parents[3] / "docs" / "inputs.md"
ENCODER = FeatureEncoder(FEATURES, CLASSES)
USER, TIME = KEY_SPECS[0], KEY_SPECS[-1]
SPECS = (*FEATURES, USER, TIME)

TEXTS = [pa.string(), pa.large_string(), pa.string_view()]
WHOLE = [getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)]
FLOATS = [pa.float16(), pa.float32(), pa.float64()]
DECIMALS = [pa.decimal32(5, 2), pa.decimal64(9, 2), pa.decimal128(38, 0), pa.decimal128(20, 4), pa.decimal256(60, 2),
            pa.decimal128(3, -1)]  # fmt: skip
MOMENTS = [pa.timestamp("s"), pa.timestamp("ms"), pa.timestamp("us", "UTC"), pa.timestamp("ns"), pa.date32(),
           pa.date64()]  # fmt: skip
NOTHING = [
    pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(16), pa.time32("s"), pa.time64("us"), pa.duration("s"),
    pa.list_(pa.string()), pa.large_list(pa.int8()), pa.list_(pa.float64(), 3), pa.struct([("a", pa.int8())]),
    pa.map_(pa.string(), pa.int8()), pa.month_day_nano_interval(),
]  # fmt: skip
PLAIN = [pa.null(), pa.bool_(), pa.uuid(), *TEXTS, *WHOLE, *FLOATS, *DECIMALS, *MOMENTS, *NOTHING]
CODED = [k for k in PLAIN if k not in NOTHING and k not in (pa.null(), pa.uuid())]
TYPES = [
    *PLAIN,
    *[pa.dictionary(index, kind) for kind in CODED for index in (pa.int8(), pa.uint32())],
    *[pa.run_end_encoded(ends, kind) for kind in [*CODED, pa.uuid()] for ends in (pa.int16(), pa.int64())],
    *[pa.run_end_encoded(pa.int32(), pa.dictionary(pa.int8(), kind)) for kind in TEXTS],
]


def innermost(kind: pa.DataType) -> pa.DataType:
    return innermost(kind.value_type) if isinstance(kind, (pa.DictionaryType, pa.RunEndEncodedType)) else kind


def fits(spec: FeatureSpec, kind: pa.DataType) -> bool:
    """The table, spelled out once more."""
    plain, numbers = innermost(kind), [pa.null(), *WHOLE, *FLOATS, *DECIMALS]
    if spec.kind == "numeric":
        return plain in numbers or (plain == pa.bool_() and spec.name == "flag")
    if spec is TIME:
        return plain in [pa.null(), *TEXTS, *MOMENTS]
    return plain in [*numbers, *TEXTS, pa.uuid()]


def stored(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Values as an array of a type, each a code or a run of its own."""
    if isinstance(kind, pa.DictionaryType):
        return pa.DictionaryArray.from_arrays(
            pa.array(range(len(values)), kind.index_type), stored(values, kind.value_type)
        )
    if isinstance(kind, pa.RunEndEncodedType):
        ends = pa.array(range(1, len(values) + 1), kind.run_end_type)
        return pa.RunEndEncodedArray.from_arrays(ends, stored(values, kind.value_type))
    if isinstance(kind, pa.UuidType):
        return pa.ExtensionArray.from_storage(kind, pa.array(values, pa.binary(16)))
    if kind in DECIMALS:
        return pa.array([None if v is None else Decimal(v) for v in values], kind)
    return pa.array(values, kind)


def passes(gate, *arguments: Any) -> bool:
    try:
        gate(*arguments)
    except InvalidDataError:
        return False
    return True


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_every_gate_and_the_encoder_say_what_the_table_says(kind):
    for spec in SPECS:
        expected = fits(spec, kind)
        assert can_hold(spec, kind) == expected, spec.name
        assert passes(check_types, pa.schema([(spec.name, kind)]), [spec]) == expected
        if spec in FEATURES:
            chosen = [spec], ColumnMapping({}), [], ()
            assert passes(choose_columns, "rows", pa.schema([(spec.name, kind)]), *chosen) == expected
            empty = pa.record_batch([stored([], kind)], [spec.name])
            assert passes(ENCODER.encode, empty) == expected
        else:
            ids = {name: pa.string() for name in ("user_id", "session_id", "product_id")}
            schema = pa.schema({"number": pa.int8(), **ids, spec.name: kind})
            looked_up = FEATURES[:1], ColumnMapping({}, has_history=True), [], ()
            assert passes(choose_columns, "rows", schema, *looked_up) == expected


@pytest.mark.parametrize("kind", [k for k in TYPES if fits(FEATURES[0], k)], ids=str)
def test_every_type_of_numbers_gives_the_same_matrix(kind):
    values = [10, 0, None, 0] if meaning_of(kind) != "null" else [None] * 4
    batch = pa.record_batch([stored(values, kind)], ["number"])
    for rows in (batch, batch.slice(1, 3)):
        plain = pa.record_batch([pa.array(values, pa.float64())], ["number"]).slice(4 - rows.num_rows)
        assert ENCODER.encode(rows).matrix.tobytes() == ENCODER.encode(plain).matrix.tobytes()
        assert ENCODER.encode(rows).sources.tobytes() == ENCODER.encode(plain).sources.tobytes()


@pytest.mark.parametrize("kind", [k for k in TYPES if innermost(k) == pa.bool_()], ids=str)
def test_every_type_of_booleans_is_a_flag(kind):
    encoded = ENCODER.encode(pa.record_batch([stored([True, None, False], kind)], ["flag"]))
    assert encoded.matrix[:, 1].tolist() == [1.0, 0.0, 0.0]


def labels_of(kind: pa.DataType) -> tuple[list[Any], list[str | None]]:
    """Values of a type, and the labels they are."""
    if meaning_of(kind) == "text":
        return ["1", None, "0", "never"], ["1", None, "0", "never"]
    if meaning_of(kind) == "uuid":
        return [b"0123456789abcdef", None], [str(uuid.UUID(bytes=b"0123456789abcdef")), None]
    whole = [10, None, 0, 10] if meaning_of(kind) != "null" else [None]
    return whole, [None if v is None else str(v) for v in whole]


@pytest.mark.parametrize("kind", [k for k in TYPES if fits(FEATURES[2], k)], ids=str)
def test_every_type_of_labels_gives_the_same_matrix_the_same_text_and_the_same_ids(kind):
    values, labels = labels_of(kind)
    for start in (0, 1):
        column, plain = stored(values, kind)[start:], pa.array(labels, pa.string())[start:]
        batch, expected = (pa.record_batch([c, c], ["label", "text"]) for c in (column, plain))
        found, wanted = ENCODER.encode(batch), ENCODER.encode(expected)
        assert found.matrix.tobytes() == wanted.matrix.tobytes()
        assert found.strings == wanted.strings
        assert found.errors == wanted.errors == ()
        errors: dict[int, RowError] = {}
        assert convert_keys({"user_id": column}, errors)["user_id"] == plain
        assert not errors


@pytest.mark.parametrize("kind", [k for k in TYPES if fits(TIME, k)], ids=str)
def test_every_type_of_times_is_the_same_second(kind):
    moment, plain = datetime(2020, 11, 1, tzinfo=UTC), innermost(kind)
    values = [None]
    if plain in TEXTS:
        values = ["2020-11-01 00:00:00 UTC", None]
    elif plain in MOMENTS:
        values = [date(2020, 11, 1) if pa.types.is_date(plain) else moment, None]
    errors: dict[int, RowError] = {}
    found = convert_keys({"event_time": stored(values, kind)}, errors)["event_time"]
    assert found.to_pylist() == [1604188800, None][-len(values) :]
    assert not errors


def test_fractions_of_a_second_are_cut_off_whatever_they_are_counted_in():
    column = pa.array([1_604_188_800_999_999_999, -1], pa.timestamp("ns"))
    assert convert_keys({"event_time": column}, {})["event_time"].to_pylist() == [1604188800, -1]


@pytest.mark.parametrize("kind", [k for k in TYPES if fits(FEATURES[2], k) and meaning_of(k) != "uuid"], ids=str)
def test_every_type_goes_through_a_stream(kind):
    """What HTTP hands to an Encoder is plain, and is encoded as the column would be."""
    values, labels = labels_of(kind)
    batch = pa.record_batch([stored(values, kind)], ["label"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        for rows in (batch, batch.slice(1), batch.slice(0, 0)):
            writer.write_batch(rows)
    parsed = parse_arrow(sink.getvalue().to_pybytes(), FEATURES)
    assert innermost(parsed.batch.schema.field("label").type) == parsed.batch.schema.field("label").type
    expected = pa.record_batch([pa.array([*labels, *labels[1:]], pa.string())], ["label"])
    assert ENCODER.encode(parsed.batch).matrix.tobytes() == ENCODER.encode(expected).matrix.tobytes()


@pytest.mark.parametrize("kind", [*FLOATS, *(k for k in DECIMALS if k.scale > 0)], ids=str)
@pytest.mark.parametrize("wrap", [lambda k: k, lambda k: pa.dictionary(pa.int8(), k)], ids=["plain", "dictionary"])
def test_a_fraction_is_no_label_and_no_id_and_spoils_no_other_row(kind, wrap):
    column = stored([1, 1.5, None, 0], wrap(kind))
    encoded = ENCODER.encode(pa.record_batch([column], ["label"]))
    assert [(e.row, e.feature, e.rule) for e in encoded.errors] == [(1, "label", "type")]
    assert "got 1.5" in encoded.errors[0].detail
    assert encoded.matrix[:, 2].tolist() == [1.0, 2.0, 0.0]
    errors: dict[int, RowError] = {}
    assert convert_keys({"user_id": column}, errors)["user_id"].to_pylist() == ["1", None, None, "0"]
    assert [(e.row, e.rule) for e in errors.values()] == [(1, "type")]
    assert "text or a whole number" in errors[1].detail


@given(st.lists(st.floats() | st.integers(-(2**60), 2**60).map(float) | st.none()))
def test_a_double_is_a_label_where_no_other_whole_number_could_be_meant(values):
    text, broken = as_text(pa.array(values, pa.float64()))
    for k, value in enumerate(values):
        is_whole = value is not None and math.isfinite(value) and value == int(value) and abs(value) < 2**53
        assert text[k].as_py() == (str(int(value)) if is_whole else None)
        assert (broken is not None and broken[k]) == (value is not None and not math.isnan(value) and not is_whole)


@pytest.mark.parametrize(("kind", "limit"), [(pa.float16(), 2**11), (pa.float32(), 2**24), (pa.float64(), 2**53)])
def test_a_float_that_may_have_been_another_number_is_no_id(kind, limit):
    text, broken = as_text(pa.array(np.array([limit - 1, limit, -limit], kind.to_pandas_dtype())))
    assert text.to_pylist() == [str(limit - 1), None, None]
    assert broken.tolist() == [False, True, True]


def test_decimals_keep_every_digit():
    digits = "1234567890" * 3
    column = pa.array([Decimal(digits), Decimal(-5), Decimal("1E+2")], pa.decimal128(38, 0))
    assert as_text(column)[0].to_pylist() == [digits, "-5", "100"]


def test_the_longest_text_is_measured_without_decoding():
    texts = ["ab", None, "x" * 30, "y" * 5]
    for kind in TEXTS:
        assert longest_bytes(stored(texts, kind)) == 30
        assert longest_bytes(stored(texts, pa.dictionary(pa.int8(), kind))) == 30
        assert longest_bytes(stored(texts, pa.run_end_encoded(pa.int32(), kind))) == 30
        assert longest_bytes(pa.nulls(3, kind)) == longest_bytes(pa.array([], kind)) == 0
        assert longest_bytes(stored(texts, kind)[3:]) == 5
    assert longest_bytes(pa.array([1, 2])) == 0


def repeated(text: str, n: int) -> dict[str, pa.Array]:
    """One text in every row, in a few bytes a row."""
    data = text.encode()
    view = len(data).to_bytes(4, "little") + (data[:4] + bytes(8) if len(data) > 12 else data.ljust(12, b"\0"))
    views = pa.Array.from_buffers(pa.string_view(), n, [None, pa.py_buffer(view * n), pa.py_buffer(data)])
    one = pa.array([text])
    return {
        "views": views,
        "codes": pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, "i4")), one),
        "codes of views": pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, "i4")), one.cast(pa.string_view())),
        "runs": pa.RunEndEncodedArray.from_arrays(pa.array([n], pa.int32()), one),
        "runs of views": pa.RunEndEncodedArray.from_arrays(pa.array([n], pa.int32()), one.cast(pa.string_view())),
        "runs of codes": pa.RunEndEncodedArray.from_arrays(pa.array([n], pa.int32()), one.dictionary_encode()),
    }


@pytest.mark.parametrize("how", repeated("x" * 20, 1))
def test_one_long_text_in_every_row_is_refused_before_it_is_decoded(how, monkeypatch):
    column = repeated("x" * 1_000_000, MAX_ROWS)[how]
    monkeypatch.setattr(http_columns, "as_plain", lambda _: pytest.fail("it was decoded"))
    batch = pa.record_batch({"label": column, "unused": column})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    with pytest.raises(InvalidDataError, match="column label has a string of 1000000 bytes; at most 512 characters"):
        parse_arrow(sink.getvalue().to_pybytes(), FEATURES)


@pytest.mark.parametrize("how", repeated("x" * 20, 1))
def test_characters_count_not_bytes(how):
    column = repeated("ä" * 512, 3)[how]
    http_columns.check_strings("label", column)
    with pytest.raises(InvalidDataError, match="column label has a string of 1026 bytes"):
        http_columns.check_strings("label", repeated("ä" * 513, 3)[how])


@given(st.lists(st.text(max_size=3) | st.none(), min_size=1), st.sampled_from(TEXTS), st.data())
def test_a_window_of_a_stored_column_has_the_values_of_the_window(texts, kind, data):
    start = data.draw(st.integers(0, len(texts)))
    plain = stored(texts, kind)[start:]
    assert as_plain(plain).to_pylist() == texts[start:]
    for wrapped in (pa.dictionary(pa.int16(), kind), pa.run_end_encoded(pa.int32(), kind)):
        assert as_plain(stored(texts, wrapped)[start:]).to_pylist() == texts[start:]


def test_columns_of_polars_are_those_of_pyarrow():
    """String views and dictionaries of them, as polars writes streams, for the purchase model."""
    rows = {"price": [1.5, 2.5], "hour": [3, 4], "day_of_week": [0, 1], "is_weekend": [False, True]}
    found = []
    for kind in (pa.string(), pa.string_view(), pa.dictionary(pa.uint32(), pa.string_view())):
        table = pa.table({**rows, "brand": stored(["apple", None], kind)})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        parsed = parse_arrow(sink.getvalue().to_pybytes(), PURCHASE_FEATURES)
        encoded = FeatureEncoder(PURCHASE_FEATURES, VOCABULARIES).encode(parsed.batch)
        found.append(encoded.matrix.tobytes())
    assert len(set(found)) == 1
    assert PURCHASE_NAMES[-2] == "brand"


def test_the_page_has_the_table():
    """docs/inputs.md, "Types of columns", line by line."""
    section = PAGE.read_text("utf-8").partition("## Types of columns")[2].partition("\nIn code")[0]
    lines = [[cell.strip() for cell in line.strip("| \n").split("|")] for line in section.splitlines() if "|" in line]
    rows = {cells[0]: cells[1:] for cells in lines[2:]}
    shown = {
        "`null`": [pa.null()],
        "`string`, `large_string`, `string_view`": TEXTS,
        "`int8` … `int64`, `uint8` … `uint64`": WHOLE,
        "`half_float`, `float`, `double`": FLOATS,
        "`decimal32` … `decimal256`": DECIMALS,
        "`bool`": [pa.bool_()],
        "`uuid`": [pa.uuid()],
        "`timestamp`, `date32`, `date64`": MOMENTS,
        "`binary`, lists, structs, the others": NOTHING,
    }
    assert rows.keys() == shown.keys()
    asked = (FeatureSpec("free", "numeric", "", on_null="nan"), FEATURES[1], FEATURES[2], TIME)
    for name, kinds in shown.items():
        for kind in kinds:
            assert [can_hold(spec, kind) for spec in asked] == [cell != "refused" for cell in rows[name]], str(kind)
