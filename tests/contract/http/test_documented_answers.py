"""Requests made from the OpenAPI document: no 5xx, and nothing that the document does not say.

The same routes as a Gateway's, over real rollouts and jobs in this process; `tests/cluster` sends the documented
examples to a running service.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig

from serve_app.history.service.intake import EventSink, write_events
from serve_app.http.app import build_api
from serve_app.http.events.event_bodies import parse_events
from tests.testing_kit.deployments.calls import AppCalls
from tests.testing_kit.history.live import TestableHistory
from tests.testing_kit.jobs.jobs import JobWorld
from tests.testing_kit.rollouts.control import LocalJobs, LocalRollouts
from tests.testing_kit.rollouts.rollouts import RolloutWorld

pytestmark = [
    pytest.mark.contract,
    # what is no table of Arrow or Parquet is tried by tests of those bodies
    pytest.mark.filterwarnings("ignore:Skipped test cases with unsupported payload media types"),
]

CONFIG = SchemathesisConfig.from_dict(
    {
        "generation": {"max-examples": 40, "deterministic": True},
        "headers": {"X-Request-Timeout-Seconds": "30"},  # one of 5e-324 s is missed as documented, with 504
    }
)
SCHEMA = schemathesis.openapi.from_dict(build_api().openapi(), config=CONFIG)
CHECKS = [
    schemathesis.checks.not_a_server_error,
    *map(
        schemathesis.checks.CHECKS.get_one,
        ("status_code_conformance", "content_type_conformance", "response_schema_conformance"),
    ),
]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory, package, package_dir) -> Iterator[AppCalls]:
    """The routes with everything behind them; the registry has one version, so that no rollout can begin."""
    folder = tmp_path_factory.mktemp("documented")
    history = TestableHistory()

    async def write(works):
        return write_events(history, parse_events, works)

    options = {
        "rollouts": LocalRollouts(RolloutWorld(folder / "rollouts", package_dir, n_versions=1).control),
        "jobs": LocalJobs(JobWorld(folder / "jobs").control),
        "events": EventSink(write),
    }
    with AppCalls(package, **options) as calls:
        yield calls


@SCHEMA.parametrize()
@settings(suppress_health_check=list(HealthCheck))
def test_the_service_answers_as_documented(case, calls):
    request = requests.Request(**case.as_transport_kwargs(base_url="http://shop")).prepare()
    answer = calls.run(
        calls.client.request(request.method, request.url, content=request.body or b"", headers=request.headers)
    )
    case.validate_response(answer, checks=CHECKS)
