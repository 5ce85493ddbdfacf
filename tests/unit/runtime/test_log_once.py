"""Trouble that goes on is logged once, and again when it is another one or comes back."""

from __future__ import annotations

import logging

import pytest

from serve_app.runtime.log_once import LogOnce

pytestmark = pytest.mark.unit

logger = logging.getLogger("scorecat.test")


def test_a_trouble_is_new_until_it_was_told_and_after_it_was_over():
    trouble = LogOnce(logger)
    assert not trouble.clear()
    assert [trouble.is_new(text) for text in ("away", "away", "full", "away")] == [True, False, True, True]
    assert trouble.is_new("away", "another thing")
    assert trouble.clear()
    assert trouble.is_new("away")
    assert not trouble.is_new("away", "another thing")


def test_a_guarded_block_goes_on_and_says_once_what_it_raised(caplog):
    trouble = LogOnce(logger)
    for error in (ValueError("torn"), ValueError("torn"), None, ValueError("torn")):
        with trouble.guard("cannot look at %s", "100 %"):
            if error:
                raise error
    assert [record.getMessage() for record in caplog.records] == ["cannot look at 100 %"] * 2
    assert "torn" in caplog.records[0].exc_text
    with pytest.raises(KeyboardInterrupt), trouble.guard("cannot look"):
        raise KeyboardInterrupt
