"""Requests made from the OpenAPI document: no 5xx, and nothing that the document does not say.

The registry of this service has one version, the one that is served, so no request can start a rollout.
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


@pytest.mark.timeout(900)
def test_the_service_answers_as_documented(service, tmp_path):
    assert DirectoryRegistry(service.home / "registry").versions("purchase") == [1]
    done = subprocess.run(
        [
            *(str(SCHEMATHESIS), "run", f"{service.url}/openapi.json", "--checks", CHECKS, "--max-examples", "40"),
            *("--phases", "examples,coverage,fuzzing", "--generation-deterministic", "--request-timeout", "30"),
            # a deadline of 5e-324 s is missed as documented, with 504, which is no fault of the service
            *("--header", "X-Request-Timeout-Seconds: 30"),
            *("--continue-on-failure", "--suppress-health-check", "all"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=840,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert "/predict_purchase" in done.stdout or "passed" in done.stdout
    assert service.is_answering()
    assert httpx.get(f"{service.url}/v1/rollouts").json() == {"rollouts": []}
