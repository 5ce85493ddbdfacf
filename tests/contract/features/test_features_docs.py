"""docs/inputs.md lists the purchase model's features as they are declared."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.features.core.specs import PURCHASE_FEATURES, FeatureSpec

pytestmark = pytest.mark.contract
PAGE = Path(__file__).parents[3] / "docs" / "inputs.md"


def default_of(spec: FeatureSpec) -> str:
    if spec.on_null == "fill":
        return f"`{spec.fill}`" if isinstance(spec.fill, str) else f"{spec.fill:g}"
    return f"`{spec.fill_from}`" if spec.on_null == "fill_from" else "required"


def test_every_feature_is_listed_in_its_order_with_its_default():
    section = PAGE.read_text().partition("## The 22 features")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert rows == [
        f"| `{f.name}` | {f.group} | {f.unit} | {f.description} | {default_of(f)} |" for f in PURCHASE_FEATURES
    ]
