"""A remote registry that fails, or is cut short, says what to do and stays consistent."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from serve_app.errors import BadRequestError, ConflictError, NotReadyError, PackageError
from serve_app.models.adapters.package_dir import check_files, load_manifest
from serve_app.models.adapters.registry_bucket import StoreRegistry
from serve_app.models.adapters.registry_open import open_registry
from serve_app.storage.object_store import ObjectStore
from serve_app.storage.s3_store import S3Store
from tests.contract.models.test_registry_contract import delete_behind, read_behind, write_behind
from tests.testing_kit.cluster.service_process import free_port

pytestmark = pytest.mark.contract


@pytest.fixture
def published(remote_place, package_dir):
    registry = remote_place.open()
    registry.publish("purchase", package_dir)
    registry.move_alias("purchase", "champion", 1)
    return registry


# -- the local copy ----------------------------------------------------------------------------


def no_network(place, monkeypatch):
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
    monkeypatch.setattr("serve_app.storage.gcs_store.GIVE_UP_S", 0.5)
    return place.open()


def test_what_was_fetched_once_needs_no_store(published, remote_place, monkeypatch):
    directory = published.locate("purchase", 1)
    for call in ("load", "_filesystem", "list_files"):
        monkeypatch.setattr(f"serve_app.storage.object_store.ObjectStore.{call}", None)
    monkeypatch.setattr(type(published._store), "load", None)
    again = remote_place.open()
    assert again.locate("purchase", 1) == directory
    assert again.resolve("purchase", "1") == 1
    assert again.manifest("purchase", 1) == load_manifest(directory)


def test_a_torn_download_is_named_and_never_seen(published, remote_place):
    whole = read_behind(remote_place, "purchase/versions/1/model.cbm")
    write_behind(remote_place, "purchase/versions/1/model.cbm", whole[:-100])
    with pytest.raises(PackageError, match=r"//.*/purchase/versions/1/model\.cbm was altered or cut short"):
        published.locate("purchase", 1)
    assert list(remote_place.cache.rglob("*.cbm")) == []
    assert list(remote_place.cache.rglob(".staging*")) == []
    write_behind(remote_place, "purchase/versions/1/model.cbm", whole)
    directory = published.locate("purchase", 1)
    check_files(directory, load_manifest(directory))


def test_a_download_that_is_cut_short_leaves_nothing(published, remote_place, monkeypatch):
    download = ObjectStore.download

    def download_one(store, path, target):
        if target.parent.joinpath("golden.parquet").exists():
            raise NotReadyError("the line went dead")
        download(store, path, target)

    monkeypatch.setattr(ObjectStore, "download", download_one)
    with pytest.raises(NotReadyError, match="line went dead"):
        published.locate("purchase", 1)
    assert [p for p in remote_place.cache.rglob("*") if p.is_file()] == []


def test_a_damaged_copy_is_fetched_again(published):
    directory = published.locate("purchase", 1)
    (directory / "model.cbm").write_bytes(b"bit rot")
    assert published.locate("purchase", 1) == directory
    check_files(directory, load_manifest(directory))


def test_a_copy_from_an_earlier_life_of_the_bucket_is_not_served(published, remote_place, package_dir, tmp_path):
    source = shutil.copytree(package_dir, tmp_path / "source")
    old = published.locate("purchase", 1)
    for path in list(published._store.list_files()):
        delete_behind(remote_place, path)
    assert published.publish("purchase", source) == 1
    assert not old.exists()


def test_a_cache_that_cannot_be_written_is_named(published, remote_place, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadRequestError, match=r"cannot keep a package in .*file/"):
        remote_place.open(cache=tmp_path / "file").locate("purchase", 1)


# -- uploads that are cut short ----------------------------------------------------------------


def die_half_way(place, package_dir):
    os.environ.update(place.environment)
    upload, seen = ObjectStore.upload, []

    def upload_two(store, source, path):
        if len(seen) == 2:
            os._exit(9)
        seen.append(path)
        upload(store, source, path)

    ObjectStore.upload = upload_two
    place.open(by="ann@laptop").publish("purchase", package_dir)


@pytest.fixture
def half_written(published, remote_place, package_dir):
    """A registry with version 1 and what a publisher of version 2 left that was killed half-way."""
    process = multiprocessing.get_context("spawn").Process(target=die_half_way, args=(remote_place, package_dir))
    process.start()
    process.join(60)
    assert process.exitcode == 9
    return published


def test_a_half_written_upload_is_no_version_and_keeps_its_number(half_written, remote_place, package_dir):
    assert half_written.versions("purchase") == [1]
    assert half_written.names() == ["purchase"]
    (left,) = half_written.unfinished()["purchase"]
    assert (left.what, left.by) == ("version 2", "ann@laptop")
    assert abs(datetime.now(UTC) - datetime.fromisoformat(left.begun_at)) < timedelta(minutes=1)
    with pytest.raises(BadRequestError, match="no version 2"):
        half_written.move_alias("purchase", "champion", 2)
    with pytest.raises(BadRequestError, match="no version 2"):
        half_written.locate("purchase", 2)
    assert half_written.publish("purchase", package_dir) == 3

    # one that is young may still be worked on
    assert half_written.clean("purchase", 3600) == []
    assert half_written.clean("purchase", 0) == [left]
    assert half_written.unfinished() == {}
    assert list(half_written._store.list_files("purchase/versions/2")) == ["purchase/versions/2/manifest.json"]
    assert half_written.clean("purchase", 0) == []
    assert half_written.publish("purchase", package_dir) == 4
    assert half_written.versions("purchase") == [1, 3, 4]


def test_a_publisher_whose_upload_was_given_up_is_told_and_publishes_nothing(published, package_dir, monkeypatch):
    upload = ObjectStore.upload

    def upload_slowly(store, source, path):
        upload(store, source, path)
        published.clean("purchase", 0)

    monkeypatch.setattr(ObjectStore, "upload", upload_slowly)
    with pytest.raises(ConflictError, match="version 2 was cleaned up as unfinished meanwhile: publish again"):
        published.publish("purchase", package_dir)
    assert published.versions("purchase") == [1]
    assert published.unfinished() == {}
    published.clean("purchase", 0)
    assert list(published._store.list_files("purchase/versions/2")) == ["purchase/versions/2/manifest.json"]


def test_versions_that_another_tool_copied_in_are_versions(published, remote_place, package_dir):
    for file in package_dir.iterdir():
        write_behind(remote_place, f"purchase/versions/7/{file.name}", file.read_bytes())
    assert published.versions("purchase") == [1, 7]
    assert published.publish("purchase", package_dir) == 8
    check_files(published.locate("purchase", 7), load_manifest(package_dir))


def test_a_write_on_what_was_deleted_meanwhile_is_a_conflict(published, remote_place):
    seen = published._store.load("purchase/aliases.json")
    delete_behind(remote_place, "purchase/aliases.json")
    with pytest.raises(ConflictError):
        published._store.replace("purchase/aliases.json", b"{}", seen)
    assert published._store.load("purchase/aliases.json") is None


# -- answers that are lost, and stores that do not answer --------------------------------------


def test_a_move_whose_answer_was_lost_and_that_is_sent_again_is_one_move(published, monkeypatch):
    kind = type(published._store)
    put = kind._put

    def put_twice(store, path, data, seen):
        put(store, path, data, seen)
        put(store, path, data, seen)  # as a client does that got no answer; it finds its own first write

    monkeypatch.setattr(kind, "_put", put_twice)
    seen = published.aliases("purchase")
    assert published.move_alias("purchase", "beta", 1, expected=seen).versions == {"champion": 1, "beta": 1}
    assert [m.alias for m in published.history("purchase")] == ["champion", "beta"]


def test_a_store_that_is_not_there_is_reported_at_once_and_what_was_fetched_is_served(
    published, remote_place, package_dir, monkeypatch
):
    directory = published.locate("purchase", 1)
    dead = no_network(remote_place, monkeypatch)
    cached = StoreRegistry(dead._store, remote_place.cache)
    cached._cache = published._cache  # that of the store's usual address
    assert cached.locate("purchase", 1) == directory
    started = time.monotonic()
    for call in (
        dead.names,
        lambda: dead.aliases("purchase"),
        lambda: dead.locate("purchase", 1),
        lambda: dead.publish("purchase", package_dir),
    ):
        with pytest.raises(NotReadyError, match=r"does not answer: .*Check the network and .*are served on"):
            call()
    assert time.monotonic() - started < 15
    with pytest.raises(NotReadyError, match="Whether x was written is not known: look before you try again"):
        dead._store.replace("x", b"", None)


def test_a_store_that_takes_a_connection_and_is_silent_is_given_up(s3_place, monkeypatch):
    monkeypatch.setattr("serve_app.storage.s3_store.READ_TIMEOUT_S", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(NotReadyError, match="does not answer: Read timeout"):
            s3_place.open().aliases("purchase")
        assert time.monotonic() - started < 5


def test_a_bucket_that_is_not_there_is_named(remote_place, package_dir):
    scheme = remote_place.kind
    registry = open_registry(f"{scheme}://no-such-bucket/models", cache=remote_place.cache)
    for call in (
        registry.names,
        lambda: registry.aliases("purchase"),
        lambda: registry.locate("purchase", 1),
        lambda: registry.publish("purchase", package_dir),
        lambda: registry._store.replace("purchase/claims/1.json", b"{}", None),
    ):
        with pytest.raises(
            BadRequestError, match=r"there is no bucket no-such-bucket\. Create it, or correct SCORECAT_REG"
        ):
            call()


@pytest.mark.parametrize("call", ["names", "aliases"])
def test_without_credentials_the_error_says_which_to_set(s3_place, monkeypatch, call, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    registry = s3_place.open()
    with pytest.raises(BadRequestError, match=r"no credentials for s3://.*: set AWS_ACCESS_KEY_ID and"):
        registry.names() if call == "names" else registry.aliases("purchase")


@pytest.mark.parametrize(
    ("status", "code", "kind", "text"),
    [
        (403, "AccessDenied", BadRequestError, "refuses access: .*needs to list, read and write there"),
        (403, "InvalidAccessKeyId", BadRequestError, "refuses access: "),
        (400, "InvalidRequest", BadRequestError, "cannot be used: .*InvalidRequest"),
        (501, "NotImplemented", BadRequestError, "knows no conditional writes"),
        (503, "SlowDown", NotReadyError, "does not answer: .*SlowDown"),
        (409, "ConditionalRequestConflict", ConflictError, "was changed by somebody else meanwhile"),
    ],
)
def test_what_s3_answers_becomes_an_error_that_says_what_to_do(monkeypatch, s3_place, status, code, kind, text):
    with answering(status, f"<Error><Code>{code}</Code><Message>said so</Message></Error>") as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(kind, match=text):
            S3Store("s3://bucket/models")._put("purchase/aliases.json", b"{}", None)


def answering(status: int, body: str):
    """Run an HTTP server on loopback that gives one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # answers Expect: 100-continue

        def answer(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_PUT = do_HEAD = answer  # noqa: N815 # called so by the base class

        def log_message(self, *_):
            pass

    class Running(ThreadingHTTPServer):
        def __enter__(self):
            threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
            return f"http://127.0.0.1:{self.server_port}"

        def __exit__(self, *_):
            self.shutdown()
            self.server_close()

    return Running(("127.0.0.1", 0), Handler)
