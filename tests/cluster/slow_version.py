"""Run as a script: start a version whose encoder or model is slow on a running cluster.

Arguments: state folder, name of the application, package directory, "encoder" or "model".
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from pathlib import Path

_, home, app_name, package, slow = sys.argv

from serve_app.cluster.environment import cluster_environment  # noqa: E402
from serve_app.cluster.spec import load_spec  # noqa: E402

os.environ.update(cluster_environment(load_spec(Path(home))))

import ray  # noqa: E402
from ray import serve  # noqa: E402

from serve_app.app import build_version_app  # noqa: E402
from serve_app.deployments.options import OPTIONS  # noqa: E402
from serve_app.deployments.replicas import CatBoostModel, Encoder  # noqa: E402

DELAY_S = 0.15


class SlowEncoder(Encoder):
    async def encode(self, batch):
        await asyncio.sleep(DELAY_S)
        return await super().encode(batch)


class SlowModel(CatBoostModel):
    async def predict(self, matrix):
        await asyncio.sleep(DELAY_S)
        return await super().predict(matrix)


quick = {
    deployment: dataclasses.replace(
        OPTIONS["laptop"][deployment],
        upscale_delay_s=1.0,
        downscale_delay_s=2.0,
        look_back_period_s=2.0,
        max_replicas=3,
    )
    for deployment in ("Encoder", "CatBoostModel")
}
ray.init(address=load_spec(Path(home)).address, log_to_driver=False, logging_level="ERROR")
app = build_version_app(
    Path(package),
    "laptop",
    options=quick,
    encoder=SlowEncoder if slow == "encoder" else Encoder,
    model=SlowModel if slow == "model" else CatBoostModel,
)
serve.run(app, name=app_name, route_prefix=None)
