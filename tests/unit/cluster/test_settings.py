"""Settings come from SCORECAT_*, and a name nobody reads is an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serve_app.cluster.environment import cluster_environment
from serve_app.cluster.spec import plan_cluster
from serve_app.errors import BadRequestError
from serve_app.history.service.config import StateConfig
from serve_app.settings import load_settings

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in os.environ:
        if name.upper().startswith("SCORECAT_"):
            monkeypatch.delenv(name)


def test_without_settings_everything_has_its_documented_default():
    settings = load_settings({})
    assert (settings.host, settings.port, settings.model, settings.profile) == (
        "127.0.0.1", 8000, "purchase", "laptop",
    )  # fmt: skip
    assert settings.home == Path.cwd() / ".scorecat"
    assert settings.registry_root == settings.home / "registry"
    assert settings.num_cpus >= 1


def test_settings_are_read_and_paths_become_absolute():
    settings = load_settings({
        "SCORECAT_HOME": "state", "SCORECAT_REGISTRY": "models", "SCORECAT_PORT": "9000",
        "SCORECAT_PROFILE": "production", "SCORECAT_REQUEST_TIMEOUT_S": "0.5", "PATH": "/bin",
    })  # fmt: skip
    assert settings.home == Path.cwd() / "state"
    assert settings.registry_root == Path.cwd() / "models"
    assert (settings.port, settings.profile, settings.request_timeout_s) == (9000, "production", 0.5)


@pytest.mark.parametrize("url", ["s3://bucket/models", "gs://bucket"])
def test_a_registry_may_be_the_url_of_a_bucket(url):
    settings = load_settings({"SCORECAT_REGISTRY": url, "SCORECAT_HOME": "/srv/scorecat"})
    assert settings.registry_root == url
    assert settings.package_cache == Path("/srv/scorecat/cache/packages")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("SCORECAT_PROT", "SCORECAT_PORT"),
        ("SCORECAT_HOMES", "SCORECAT_HOME"),
        ("SCORECAT_REQUEST_TIMEOUT", "SCORECAT_REQUEST_TIMEOUT_S"),
    ],
)
def test_an_unknown_name_is_an_error_that_names_the_nearest(name, nearest):
    with pytest.raises(BadRequestError, match=rf"unknown setting {name}\. Did you mean {nearest}\?"):
        load_settings({name: "1"})


def test_an_unknown_name_near_to_nothing_is_answered_with_all_names():
    with pytest.raises(BadRequestError, match=r"unknown setting SCORECAT_ZZZZZZ\. Known: .*SCORECAT_PORT"):
        load_settings({"SCORECAT_ZZZZZZ": "1"})


def test_a_name_in_lower_case_is_unknown_too():
    with pytest.raises(BadRequestError, match="unknown setting scorecat_port"):
        load_settings({"scorecat_port": "1"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SCORECAT_PORT", "70000"),
        ("SCORECAT_PORT", "0"),
        ("SCORECAT_PORT", ""),
        ("SCORECAT_PORT", "http"),
        ("SCORECAT_PROFILE", "desktop"),
        ("SCORECAT_NUM_CPUS", "0"),
        ("SCORECAT_REQUEST_TIMEOUT_S", "0"),
        ("SCORECAT_REQUEST_TIMEOUT_S", "nan"),
        ("SCORECAT_REQUEST_TIMEOUT_S", "61"),
        ("SCORECAT_REGISTRY", ""),
        ("SCORECAT_USER", ""),
    ],
)
def test_a_value_that_does_not_fit_is_an_error_that_names_the_setting(name, value):
    with pytest.raises(BadRequestError, match=rf"setting {name}: "):
        load_settings({name: value})


def test_only_the_given_environment_is_read(monkeypatch):
    monkeypatch.setenv("SCORECAT_PORT", "9999")
    assert load_settings({}).port == 8000
    assert load_settings().port == 9999


def test_settings_can_be_read_inside_the_cluster_scorecat_started(tmp_path):
    assert load_settings(cluster_environment(plan_cluster(tmp_path, "127.0.0.1", 8000, 1))).port == 8000


def test_settings_do_not_change_after_they_were_read():
    settings = load_settings({})
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1


def test_history_is_kept_below_the_home_unless_it_is_elsewhere_or_off(tmp_path):
    default = load_settings({"SCORECAT_HOME": str(tmp_path)}).state_config
    assert default == StateConfig(
        str(tmp_path / "state/history.db"), str(tmp_path / "state/history.secret"), None, 0.25
    )
    given = {"SCORECAT_STATE": "redis://shop:6379/0", "SCORECAT_STATE_SECRET": "keys/secret"}
    given |= {"SCORECAT_STATE_RETENTION_DAYS": "0.5", "SCORECAT_STATE_TIMEOUT_S": "1"}
    elsewhere = load_settings(given).state_config
    assert elsewhere == StateConfig("redis://shop:6379/0", str(Path("keys/secret").absolute()), 43_200, 1.0)
    assert load_settings({"SCORECAT_STATE": "x.db"}).state_config.place == str(Path("x.db").absolute())
    assert load_settings({"SCORECAT_STATE": "off"}).state_config is None
