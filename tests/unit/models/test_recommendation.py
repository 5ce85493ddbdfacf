"""Where one band ends and the next begins, to the last bit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from serve_app.errors import BadRequestError
from serve_app.models.core.recommendation import BANDS as WORDS
from serve_app.models.core.recommendation import Thresholds

pytestmark = pytest.mark.unit

BANDS = [
    (0.0, "low"),
    (math.nextafter(0.5, 0), "low"),
    (0.5, "medium"),
    (math.nextafter(0.5, 1), "medium"),
    (math.nextafter(0.7, 0), "medium"),
    (0.7, "medium"),
    (math.nextafter(0.7, 1), "high"),
    (1.0, "high"),
]


@pytest.mark.parametrize(("probability", "band"), BANDS)
def test_both_bounds_belong_to_the_medium_band(probability, band):
    assert Thresholds().recommend(probability) == band


def test_many_are_recommended_like_one():
    many = WORDS[Thresholds().band_many(np.array([p for p, _ in BANDS]))]
    assert many.tolist() == [band for _, band in BANDS]


def test_equal_thresholds_leave_one_point_to_the_medium_band():
    thresholds = Thresholds(0.6, 0.6)
    found = [thresholds.recommend(p) for p in (math.nextafter(0.6, 0), 0.6, math.nextafter(0.6, 1))]
    assert found == ["low", "medium", "high"]


@pytest.mark.parametrize(("medium", "high"), [(0.7, 0.5), (-0.1, 0.5), (0.5, 1.1), (math.nan, 0.5), (0.5, math.nan)])
def test_thresholds_out_of_order_are_refused(medium, high):
    with pytest.raises(BadRequestError, match="0 <= medium <= high <= 1"):
        Thresholds(medium, high)
