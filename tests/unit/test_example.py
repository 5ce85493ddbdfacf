"""What ``scorecat up`` shows to try."""

from __future__ import annotations

import json
import shlex

import pytest

from serve_app.cli.example import example_command
from serve_app.core.features import PURCHASE_FEATURES, FeatureSpec
from serve_app.core.manifest import Manifest
from serve_app.http.row_body import parse_row

pytestmark = pytest.mark.unit


def test_the_purchase_model_is_shown_with_a_row_that_is_scored():
    manifest = Manifest("purchase", "2026-01-01T00:00:00Z", "binary", PURCHASE_FEATURES)
    words = shlex.split(example_command("http://shop", manifest))
    assert "http://shop/predict_purchase" in words
    assert parse_row(words[-1].encode())["brand"] == json.loads(words[-1])["brand"]


def test_another_model_is_asked_for_its_inputs():
    manifest = Manifest("pets", "2026-01-01T00:00:00Z", "regression", (FeatureSpec("weight", "numeric", "kg"),))
    assert example_command("http://shop", manifest) == "curl -s http://shop/v2/models/pets"
