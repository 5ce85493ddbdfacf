"""Arrow's reader of JSON records says what the parser that decides says, or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.errors import ScorecatError
from serve_app.features.core.row_keys import KEY_SPECS
from serve_app.features.core.specs import PURCHASE_FEATURES
from serve_app.features.core.typed_columns import ParsedTable
from serve_app.http.column_names import parse_named
from serve_app.http.tables.json_records import parse_records
from serve_app.http.tables.table_formats import parse_json

FEATURES = (*PURCHASE_FEATURES, *KEY_SPECS)
PLAIN: dict[str, Any] = {"price": 12.5, "hour": 3, "day_of_week": 1, "is_weekend": 0, "brand": "samsung"}

numbers = st.one_of(
    st.floats(),
    st.integers(-(2**70), 2**70),
    st.none(),
)
odd = st.one_of(st.booleans(), st.text(max_size=5), st.just([1]), st.just({"a": 1}), numbers)
texts = st.one_of(st.text(max_size=8), st.none(), st.sampled_from(["a},{b", "}, {", '"', "\\", "2020-01-01", "é"]))
records = st.fixed_dictionaries(
    {"price": numbers, "hour": numbers, "day_of_week": st.just(1), "is_weekend": st.just(0)},
    optional={"brand": texts, "user_id": texts, "category_id": st.one_of(texts, st.none()), "total_sessions": numbers},
)
odd_records = st.dictionaries(st.sampled_from([f.name for f in FEATURES] + ["what", ""]), odd, max_size=6)


def describe(parse: Callable[..., ParsedTable | None], body: bytes) -> object:
    """Return what a parser says, or which error it raises, in a form that tells -0.0 from 0.0; None for nothing."""
    try:
        table = parse_named(parse, body, FEATURES, ())
    except ScorecatError as exc:
        return f"{type(exc).__name__} {exc}"
    return table and (str(table.batch.schema), repr(table.batch.to_pydict()), table.batch.num_rows, table.ignored)


def is_silent_or_agrees(body: bytes) -> bool:
    return describe(parse_records, body) in (None, describe(parse_json, body))


def agrees(body: bytes) -> bool:
    return describe(parse_records, body) == describe(parse_json, body)


@given(st.lists(records, min_size=1, max_size=5), st.sampled_from([None, (",", ":")]), st.booleans())
def test_plain_records_mean_the_same(rows, separators, is_ascii):
    body = json.dumps({"dataframe_records": rows}, separators=separators, ensure_ascii=is_ascii)
    assert is_silent_or_agrees(body.encode(errors="replace"))


@given(st.lists(st.one_of(records, odd_records, st.none(), st.integers()), max_size=4), st.sampled_from([1, None]))
def test_odd_records_mean_the_same_or_are_left_to_the_other(rows, indent):
    assert is_silent_or_agrees(json.dumps({"instances": rows}, indent=indent).encode())


@settings(max_examples=500)
@given(
    st.lists(records, min_size=1, max_size=3),
    st.integers(0, 10_000),
    st.integers(0, 3),
    st.sampled_from(
        [b"", b",", b"}", b"{", b"},{", b"\n", b"null", b'"', b"]", b"\x00", b"\xff", b" ", b"1", b"\\ud800"]
    ),
)
def test_bodies_that_somebody_damaged_are_never_read_as_something_else(rows, at, n_removed, inserted):
    body = json.dumps({"dataframe_records": rows}).encode()
    at %= len(body)
    assert is_silent_or_agrees(body[:at] + inserted + body[at + n_removed :])


@pytest.mark.parametrize(
    "text",
    [
        '[{"price": 1, "price": 2, "hour": 1, "day_of_week": 1, "is_weekend": 0}]',
        '[{"price": 1e999}]',
        '[{"price": 1, "hour": -0}]',
        '[{"price": true}]',
        '[{"brand": 5}]',
        '[{"brand": "\\ud800"}]',
        '[{"price": 1}, null]',
        '[{"price": 1}, {"price": 2},]',
        '[{"price": 1} {"price": 2}]',
        '[{"price": 1},, {"price": 2}]',
        '[{"price": 1}], "instances": [{"price": 1}]',
        '[{"price": {"a": 1}, "hour": 2}]',
        '[{"brand": "a},{b", "price": 1}]',
        '[{"price": 1, "colour": "red"}]',
        '[{"price": 1}, {"price": 1, "brand": "a"}]',
        "[]",
        '[{"price":' + "[" * 100_000 + "]" * 100_000 + "}]",
    ],
)
def test_what_is_not_plain_is_left_to_the_other(text):
    assert parse_records(b'{"dataframe_records": %s}' % text.encode(), FEATURES) is None


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_plain_records_are_read(separators):
    rows = [PLAIN | {"category_id": None, "price": n + 0.1, "brand": None if n % 3 else f"né {n}"} for n in range(1000)]
    body = json.dumps({"dataframe_records": rows}, separators=separators, ensure_ascii=False).encode()
    assert agrees(body)
    found = parse_records(b"\n" + body + b"\n", FEATURES)
    assert found is not None
    assert found.batch.num_rows == 1000
    assert found.batch.schema.field("price").type == pa.float64()


@pytest.mark.parametrize("name", ["category\\u005fid", "category_id"])
def test_names_may_be_written_in_any_way(name):
    row = b'{"price": 1, "hour": 1, "day_of_week": 1, "is_weekend": 0, "%s": null}' % name.encode()
    assert agrees(b'{"instances":[%s]}' % row)


def test_a_plain_table_without_a_required_column_is_refused_in_the_same_words():
    assert agrees(b'{"dataframe_records": [{"price": 1}]}')


@pytest.mark.parametrize("gap", ["\f", "\v", "\xa0", "\ufeff", "\x00"])
def test_what_json_calls_no_space_is_none(gap):
    body = json.dumps({"dataframe_records": [PLAIN]}).encode()
    assert agrees(b" \t\r\n" + body + b" \t\r\n")
    for damaged in (gap.encode() + body, body + gap.encode(), body.replace(b"[", b"[" + gap.encode(), 1)):
        assert parse_records(damaged, FEATURES) is None


def test_too_many_records_are_left_to_the_other_before_they_are_split():
    assert parse_records(b'{"dataframe_records": [{"price": 1}' + b",{}" * 100_001 + b"]}", FEATURES) is None


def test_a_string_that_is_no_text_is_left_to_the_other():
    assert parse_records(b'{"dataframe_records": [{"price": 1, "brand": "\xff"}]}', FEATURES) is None
