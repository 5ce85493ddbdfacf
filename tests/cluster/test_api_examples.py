"""The examples of the OpenAPI document, sent to a running service: no 5xx, and nothing that the document does not say.

Others are made from the document in `tests/contract/http/test_documented_answers.py`, against the routes alone.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from serve_app.models.adapters.registry_folder import DirectoryRegistry

pytestmark = pytest.mark.cluster
SCHEMATHESIS = Path(sys.executable).with_name("st")
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def test_the_service_answers_as_documented(service, tmp_path):
    assert DirectoryRegistry(service.home / "registry").versions("purchase") == [1]
    done = subprocess.run(
        [
            *(str(SCHEMATHESIS), "run", f"{service.url}/openapi.json", "--checks", CHECKS, "--phases", "examples"),
            *("--request-timeout", "30"),
            *("--continue-on-failure", "--suppress-health-check", "all"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert "/predict_purchase" in done.stdout or "passed" in done.stdout
    assert service.is_answering()
    assert httpx.get(f"{service.url}/v1/rollouts").json() == {"rollouts": []}
