"""Texts of CSV as numbers."""

from __future__ import annotations

import pytest

from serve_app.features.core.cells import read_cell

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "value"),
    [("5", 5.0), (" 5", 5.0), ("1e3", 1000.0), ("true", True), ("False", False), ("", None), (None, None)],
)
def test_a_text_that_reads_as_a_number_is_one(text, value):
    assert read_cell(text) == value
    assert type(read_cell(text)) is type(value)


@pytest.mark.parametrize("text", ["1_000", "\u0665", "\uff11\uff12", "0x10", "cheap", "NULL", "TRUE"])
def test_what_only_python_takes_for_a_number_is_text(text):
    assert read_cell(text) == text
