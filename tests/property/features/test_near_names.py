"""Which names are near, against every string that one edit can make."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.features.core.near_names import find_near
from serve_app.features.core.specs import PURCHASE_NAMES
from serve_app.runtime.near_names import MIN_EDITED, is_one_edit

pytestmark = pytest.mark.property

ALPHABET = "ab_1"  # few letters, so that runs of equal ones and swaps of equal ones come up
NAMES = st.text(ALPHABET, min_size=1, max_size=8)
PUNCTUATION = st.text("_-. /", max_size=2)


def edits(name: str) -> set[tuple[str, str]]:
    """Every name that one edit makes of this one, with the characters that the edit touched."""
    found = set()
    for k in range(len(name) + 1):
        found |= {(name[:k] + c + name[k:], c) for c in ALPHABET}
    for k in range(len(name)):
        found.add((name[:k] + name[k + 1 :], name[k]))
        found |= {(name[:k] + c + name[k + 1 :], name[k] + c) for c in ALPHABET}
    for k in range(len(name) - 1):
        found.add((name[:k] + name[k + 1] + name[k] + name[k + 2 :], name[k : k + 2]))
    return found


def slips(name: str) -> set[str]:
    return {
        other
        for other, touched in edits(name)
        if other != name and not touched.isdigit() and min(len(name), len(other)) >= MIN_EDITED
    }


@settings(deadline=None)
@given(NAMES, NAMES)
def test_two_names_are_one_edit_apart_as_trying_every_edit_says(one, other):
    assert is_one_edit(one, other) == (other in slips(one))
    assert is_one_edit(one, other) == is_one_edit(other, one)


@settings(deadline=None)
@given(NAMES)
def test_every_name_that_one_edit_makes_is_near(name):
    for other in slips(name):
        assert is_one_edit(other, name)
        assert find_near(other, [name]) == name


@settings(deadline=None)
@given(st.text(string.ascii_letters + string.digits, min_size=1, max_size=8), st.data())
def test_case_and_punctuation_make_no_other_name(name, data):
    spelled = "".join(data.draw(PUNCTUATION) + data.draw(st.sampled_from([c.upper(), c.lower()])) for c in name)
    assert find_near(spelled, ["other_name_altogether", name]) == name


@settings(deadline=None)
@given(st.text(max_size=12), st.lists(st.text(max_size=12), max_size=5))
def test_nearness_is_total_and_finds_only_what_is_known(name, known):
    found = find_near(name, known)
    assert found is None or found in known


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("max_prices", "max_price"),
        ("max_prce", "max_price"),
        ("max_prixe", "max_price"),
        ("max_pirce", "max_price"),
        ("MaxPrice", "max_price"),
        ("max price ", "max_price"),
        ("MAX-PRICE", "max_price"),
        ("Brand", "brand"),
        ("hou", None),
        ("hours", "hour"),
        ("price2", None),
        ("pryse", None),
        ("maximum_price", None),
        ("-", None),
        ("", None),
    ],
)
def test_what_is_taken_for_a_feature_of_the_purchase_model(name, meant):
    assert find_near(name, PURCHASE_NAMES) == meant


@pytest.mark.parametrize(
    ("one", "other", "is_near"),
    [
        ("feature_1", "feature_2", False),
        ("feature_1", "feature_11", False),
        ("feature_12", "feature_21", False),
        ("feature_1", "feature_", False),
        ("feature_1", "feature_l", True),
        ("age", "ages", False),
        ("age", "Age", True),
        ("x1", "x_1", True),
        ("_", "-", False),
        ("größe", "GRÖSSE", True),
        ("कि", "का", False),
        ("café", "cafe\N{COMBINING ACUTE ACCENT}", True),
    ],
)
def test_where_nearness_ends(one, other, is_near):
    assert (find_near(one, [other]) == other) is is_near
    assert (find_near(other, [one]) == one) is is_near
