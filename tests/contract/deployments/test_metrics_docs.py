"""docs/metrics.md lists every metric of ours, with its labels."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from serve_app.deployments.meters import METRICS
from serve_app.features.core.input_counts import KINDS

pytestmark = pytest.mark.contract

ROOT = Path(__file__).parents[3]


def test_every_metric_is_documented_with_its_labels():
    section = (ROOT / "docs" / "metrics.md").read_text("utf-8").partition("## Ours")[2].partition("\n## ")[0]
    listed = {}
    for line in section.splitlines():
        if line.startswith("| `scorecat_"):
            name, labels, what = line.strip("| ").split(" | ")
            listed[name.strip("`")] = tuple(re.findall(r"`(\w+)`", labels))
            assert len(what) > 20
    assert listed == {name: labels for name, (_, labels) in METRICS.items()}
    assert all(f"`{kind}`" in section for kind in KINDS)


def test_no_page_names_a_metric_that_is_not_there():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        named = set(re.findall(r"scorecat_\w+_total", page.read_text("utf-8")))
        assert named <= set(METRICS), page


def test_no_metric_is_made_elsewhere():
    made = [
        path
        for path in (ROOT / "serve_app").rglob("*.py")
        if re.search(r"metrics\.(Counter|Gauge|Histogram)\(", path.read_text("utf-8"))
    ]
    assert made == [ROOT / "serve_app" / "deployments" / "meters.py"]


def test_no_label_is_a_user_or_a_request():
    for _, labels in METRICS.values():
        assert set(labels) <= {"model", "version", "feature", "kind", "route", "code", "status"}
