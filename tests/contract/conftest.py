"""Registries and states on every kind of store, each test on one of its own."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import botocore.session
import pytest

from serve_app.models.adapters.registry_open import open_registry
from serve_app.models.service.registry import Registry
from tests.testing_kit.history.redis_server import RedisServer, running_redis
from tests.testing_kit.history.state_places import StatePlace
from tests.testing_kit.storage.object_stores import (
    create_gcs_bucket,
    create_s3_bucket,
    running_gcs,
    running_s3,
)


@dataclass(frozen=True)
class Place:
    """Where a test's registry is; `open` gives another client of it."""

    kind: str
    root: str
    cache: Path
    environment: dict[str, str]

    def open(self, by: str = "tester@here", cache: Path | None = None) -> Registry:
        return open_registry(self.root, cache=cache or self.cache, by=by)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[dict[str, str]]:
    with running_s3() as environment, pytest.MonkeyPatch.context() as patch:
        # botocore reads its description of S3 for each session anew (80 ms); these tests open hundreds
        patch.setattr(botocore.session, "create_loader", functools.cache(botocore.session.create_loader))
        yield environment


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[dict[str, str]]:
    with running_gcs() as environment:
        yield environment


@pytest.fixture(scope="session")
def s3_bucket(s3_server: dict[str, str]) -> str:
    return create_s3_bucket(s3_server)


@pytest.fixture(scope="session")
def gcs_bucket(gcs_server: dict[str, str]) -> str:
    return create_gcs_bucket(gcs_server)


@pytest.fixture
def s3_place(s3_server, s3_bucket, tmp_path, monkeypatch) -> Place:
    return _place("s3", s3_bucket, s3_server, tmp_path, monkeypatch)


@pytest.fixture
def gs_place(gcs_server, gcs_bucket, tmp_path, monkeypatch) -> Place:
    return _place("gs", gcs_bucket, gcs_server, tmp_path, monkeypatch)


@pytest.fixture
def directory_place(tmp_path) -> Place:
    return Place("directory", str(tmp_path / "registry"), tmp_path / "cache", {})


@pytest.fixture(params=["directory", "s3", "gs"])
def place(request: pytest.FixtureRequest) -> Place:
    """One place of each kind."""
    found: Place = request.getfixturevalue(f"{request.param}_place")
    return found


@pytest.fixture(params=["s3", "gs"])
def remote_place(request: pytest.FixtureRequest) -> Place:
    """One place of each kind that is not on this machine."""
    found: Place = request.getfixturevalue(f"{request.param}_place")
    return found


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def sqlite_place(tmp_path) -> StatePlace:
    return StatePlace("sqlite", str(tmp_path / "state" / "history.db"))


@pytest.fixture
def redis_place(redis_server) -> StatePlace:
    client = redis_server.client()
    client.flushall()
    client.close()
    return StatePlace("redis", redis_server.url, redis_server)


@pytest.fixture
def memory_place() -> StatePlace:
    return StatePlace("memory", "")


@pytest.fixture(params=["sqlite", "redis"])
def real_state_place(request: pytest.FixtureRequest) -> StatePlace:
    """One empty place of states of each kind that processes share."""
    found: StatePlace = request.getfixturevalue(f"{request.param}_place")
    return found


@pytest.fixture(params=["memory", "sqlite", "redis"])
def state_place(request: pytest.FixtureRequest) -> StatePlace:
    """One empty place of states of each kind, the tests' own fake among them."""
    found: StatePlace = request.getfixturevalue(f"{request.param}_place")
    return found


def _place(scheme: str, bucket: str, environment: dict[str, str], tmp_path: Path, monkeypatch) -> Place:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Place(scheme, f"{scheme}://{bucket}/{uuid.uuid4().hex}/models", tmp_path / "cache", environment)
