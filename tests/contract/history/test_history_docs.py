"""The worked example of docs/history.md is what both forms of the history compute."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from serve_app.features.core.specs import HISTORY_NAMES
from serve_app.history.core.as_of import accumulate_history, features_from_accumulators
from serve_app.history.core.fold import SESSION_BYTES_MAX, USER_BYTES
from tests.testing_kit.history.history_logs import fold_log, to_columns

pytestmark = pytest.mark.contract

TEXT = (Path(__file__).parents[3] / "docs" / "history.md").read_text("utf-8")
DAY_S = 86_400


def table(header):
    lines = TEXT[TEXT.index(header) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def example():
    codes = {"-": None}
    out = []
    for _, time, session, kind, *names, price in table("| # | time"):
        hours, minutes, seconds = map(int, time.split(":"))
        day_s = 0 if hours == 23 else DAY_S
        product, category = (codes.setdefault(name, len(codes)) for name in names)
        second = day_s + hours * 3600 + minutes * 60 + seconds
        out.append((0, session, product, category, second, round(float(price) * 100), kind))
    return out


def test_the_example_is_what_is_computed():
    vectorised = features_from_accumulators(accumulate_history(to_columns(example())))
    np.testing.assert_array_equal(features_from_accumulators(fold_log(example())[2]), vectorised)
    told = {row[0].strip("`"): row[1:] for row in table("| feature | 1 |")}
    computed = {n: [f"{v:.6g}" for v in row] for n, row in zip(HISTORY_NAMES, vectorised.tolist(), strict=True)}
    assert told == computed


def test_every_feature_is_explained():
    named = {name for row in table("| feature | of |") for name in re.findall(r"`(\w+)`", row[0])}
    assert named == set(HISTORY_NAMES)


def test_the_sizes_are_those_of_the_code():
    assert f"{USER_BYTES} bytes, a session" in TEXT
    assert f"{SESSION_BYTES_MAX:,} at most" in TEXT
