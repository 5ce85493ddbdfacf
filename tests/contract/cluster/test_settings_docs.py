"""Every setting is documented, and nothing else is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from serve_app.settings import PREFIX, Settings

pytestmark = pytest.mark.contract

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"
NAMES = {PREFIX + name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_setting_is_documented(name):
    assert re.search(rf"\b{name}\b", PAGE.read_text("utf-8")), f"{name} is not in {PAGE}"


def test_no_setting_is_documented_that_does_not_exist():
    assert set(re.findall(rf"\b{PREFIX}[A-Z0-9_]*[A-Z0-9]\b", PAGE.read_text("utf-8"))) <= NAMES


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_a_setting_describes_itself(name):
    assert Settings.model_fields[name].description
