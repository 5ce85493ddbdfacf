"""Whatever number comes in, a row is rejected by name or encoded to exactly its float32."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serve_app.features.core.encoding import FeatureEncoder
from serve_app.features.core.sources import FROM_DEFAULT, FROM_REQUEST
from serve_app.features.core.specs import PURCHASE_FEATURES, PURCHASE_NAMES, UNKNOWN_CLASS, arrow_schema
from tests.testing_kit import VOCABULARIES

pytestmark = pytest.mark.property

ENCODER = FeatureEncoder(PURCHASE_FEATURES, VOCABULARIES)
ODD = [math.nan, math.inf, -math.inf, 1e300, -1e300, 3.4028235677973366e38, -0.0, 0.0, 5e-324, 1e-46, -5e-324, 1e-45,
       23.0, 23.000000000000004, 0.5, 1.0, 1.0000000000000002, 16777217.0]  # fmt: skip
NUMBERS = st.none() | st.sampled_from(ODD) | st.floats() | st.integers(0, 24).map(float) | st.floats(0, 1)
LABELS = st.none() | st.text(max_size=5) | st.sampled_from(["apple", "other", "unknown", UNKNOWN_CLASS])
ROW = st.tuples(*(NUMBERS if spec.kind == "numeric" else LABELS for spec in PURCHASE_FEATURES))

GOOD = (10.0, 12.0, 1.0, 0.0, *[None] * 16, None, None)


def batch_of(rows):
    schema = arrow_schema(PURCHASE_FEATURES)
    columns = zip(*rows, strict=True)
    return pa.RecordBatch.from_arrays(
        [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema
    )


def to_float32(value: float) -> np.float32:
    with np.errstate(over="ignore"):
        return np.float32(value)


def is_allowed(spec, value) -> bool:
    """The rule, spelled out once more: bounds on the number itself, size and sign on what the model sees."""
    if value is None:
        return spec.on_null != "reject"
    seen = to_float32(value)
    return bool(
        np.isfinite(seen)
        and (spec.above is None or seen > spec.above)
        and (spec.minimum is None or value >= spec.minimum)
        and (spec.maximum is None or value <= spec.maximum)
        and (not spec.integer or float(value).is_integer())
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=8))
@example([GOOD])
@example([(math.nan, *GOOD[1:]), GOOD, (1e300, *GOOD[1:]), (5e-324, *GOOD[1:])])
@example([(10.0, -0.0, *GOOD[2:])])
def test_a_row_is_rejected_by_name_or_encoded_to_its_float32(rows):
    encoded = ENCODER.encode(batch_of(rows))
    rejected = [e.row for e in encoded.errors]
    assert sorted([*rejected, *encoded.rows.tolist()]) == list(range(len(rows)))
    assert rejected == sorted(rejected)
    for error in encoded.errors:
        spec = PURCHASE_FEATURES[PURCHASE_NAMES.index(error.feature)]
        assert not is_allowed(spec, rows[error.row][PURCHASE_NAMES.index(error.feature)])
        assert "must be" in error.detail
    assert np.isfinite(encoded.matrix).all()
    for k, row in enumerate(encoded.rows.tolist()):
        for j, (spec, value) in enumerate(zip(PURCHASE_FEATURES, rows[row], strict=True)):
            assert encoded.sources[k, j] == (FROM_DEFAULT if value is None else FROM_REQUEST)
            found = encoded.matrix[k, j]
            if spec.kind == "categorical":
                classes = VOCABULARIES[spec.name]
                label = spec.fill if value is None else value
                assert found == classes.index(label if label in classes else UNKNOWN_CLASS)
            elif value is not None:
                assert is_allowed(spec, value)
                assert found.tobytes() == to_float32(value).tobytes()
            else:
                expected = spec.fill if spec.fill is not None else encoded.matrix[k, PURCHASE_NAMES.index("price")]
                assert found == expected


@settings(max_examples=80, deadline=None)
@given(st.sampled_from([j for j, s in enumerate(PURCHASE_FEATURES) if s.kind == "numeric"]), NUMBERS)
def test_one_bad_number_rejects_exactly_its_row_and_names_exactly_its_feature(j, value):
    row = (*GOOD[:j], value, *GOOD[j + 1 :])
    encoded = ENCODER.encode(batch_of([GOOD, row, GOOD]))
    if is_allowed(PURCHASE_FEATURES[j], value):
        assert encoded.errors == ()
    else:
        assert [(e.row, e.feature) for e in encoded.errors] == [(1, PURCHASE_NAMES[j])]
        assert encoded.rows.tolist() == [0, 2]
