"""Ray drops options it does not know without a word, so each of ours is held against Ray's own schema."""

from __future__ import annotations

import dataclasses
import inspect

import pytest
from ray.serve import Deployment
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import LoggingConfig, RayActorOptionsSchema

from serve_app.deployments.options import OPTIONS, DeploymentOptions

pytestmark = pytest.mark.contract

ALL = [pytest.param(o, id=f"{p}-{d}") for p, table in OPTIONS.items() for d, o in table.items()]


@pytest.mark.parametrize("options", ALL)
def test_every_option_is_one_that_ray_knows(options):
    ray = options.to_ray()
    assert set(ray) <= set(inspect.signature(Deployment.options).parameters)
    assert set(ray["autoscaling_config"]) <= set(AutoscalingConfig.model_fields)
    assert set(ray["logging_config"]) <= set(LoggingConfig.model_fields)
    assert set(ray["ray_actor_options"]) <= set(RayActorOptionsSchema.model_fields)


@pytest.mark.parametrize("options", ALL)
def test_ray_takes_every_value_as_it_is(options):
    ray = options.to_ray()
    taken = AutoscalingConfig(**ray["autoscaling_config"])
    for name, value in ray["autoscaling_config"].items():
        assert getattr(taken, name) == value
    LoggingConfig(**ray["logging_config"])


def test_every_field_reaches_ray():
    unusual = {
        f.name: 1_000 + i if isinstance(f.default, int) else 1_000.5 + i
        for i, f in enumerate(dataclasses.fields(DeploymentOptions))
    }
    found = str(DeploymentOptions(**unusual).to_ray())
    assert [name for name, value in unusual.items() if str(value) not in found] == []


def test_both_profiles_have_all_deployments():
    assert set(OPTIONS) == {"laptop", "production"}
    for table in OPTIONS.values():
        assert set(table) == {"Gateway", "Encoder", "CatBoostModel", "ControlApp"}


def test_in_production_nothing_that_answers_is_alone():
    for name, options in OPTIONS["production"].items():
        if name != "ControlApp":
            assert options.min_replicas >= 2, name
            assert options.max_replicas > options.min_replicas, name


@pytest.mark.parametrize("profile", OPTIONS)
def test_there_is_one_controller(profile):
    controller = OPTIONS[profile]["ControlApp"]
    assert (controller.min_replicas, controller.max_replicas) == (1, 1)


def test_on_a_laptop_everything_starts_with_one():
    assert {o.min_replicas for o in OPTIONS["laptop"].values()} == {1}
    assert OPTIONS["laptop"]["Encoder"].max_replicas > 1
    assert OPTIONS["laptop"]["CatBoostModel"].max_replicas > 1


@pytest.mark.parametrize("options", ALL)
def test_a_gateway_refuses_overload_itself(options):
    assert options.max_ongoing_requests >= options.target_ongoing_requests
    for table in OPTIONS.values():
        assert table["Gateway"].max_ongoing_requests > 2048
