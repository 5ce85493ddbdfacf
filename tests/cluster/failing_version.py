"""Run as a script: add a version to a running cluster that proves its golden rows, and fails half of all other rows.

Arguments: state folder, model name, version, package directory.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

_, home, name, version, package = sys.argv

from serve_app.cluster.environment import cluster_environment  # noqa: E402
from serve_app.cluster.spec import load_spec  # noqa: E402

os.environ.update(cluster_environment(load_spec(Path(home))))

import ray  # noqa: E402
from ray import serve  # noqa: E402

from serve_app.app import build_version_app  # noqa: E402
from serve_app.deployments.calls.handles import version_app  # noqa: E402
from serve_app.deployments.replicas import CatBoostModel  # noqa: E402
from serve_app.errors import InvariantError  # noqa: E402
from serve_app.models.service.packaging import MIN_GOLDEN_ROWS  # noqa: E402


class FailingModel(CatBoostModel):
    n_calls = 0

    async def predict(self, given):
        found = await super().predict(given)
        # golden rows come 64 at a time, or one when a Gateway connects: the first calls, before there is traffic
        self.n_calls += len(found) < MIN_GOLDEN_ROWS
        if len(found) < MIN_GOLDEN_ROWS and self.n_calls > 2 and self.n_calls % 2:
            raise InvariantError("this version was made to fail")
        return found


ray.init(address=load_spec(Path(home)).address, log_to_driver=False, logging_level="ERROR")
app = build_version_app(Path(package), "laptop", model=FailingModel)
serve.run(app, name=version_app(name, int(version)), route_prefix=None)
