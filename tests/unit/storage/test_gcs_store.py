"""The class for Google Cloud Storage makes the documented calls and explains what goes wrong."""

from __future__ import annotations

import pytest
import requests
from google.api_core import exceptions as google_errors
from google.auth import exceptions as auth_errors

from serve_app.errors import BadRequestError, ConflictError, NotReadyError
from serve_app.storage.conditional_files import StoredFile
from serve_app.storage.gcs_store import GIVE_UP_S, GcsStore
from serve_app.storage.object_store import CONNECT_TIMEOUT_S, READ_TIMEOUT_S

pytestmark = pytest.mark.unit


class FakeClient:
    """``google.cloud.storage.Client`` as far as it is used: objects with generations, in memory."""

    def __init__(self, error: Exception | None = None) -> None:
        self.objects: dict[str, tuple[bytes, int]] = {}
        self.generation = 1_700_000_000_000_000
        self.error = error
        self.calls: list[tuple[str, dict]] = []

    def bucket(self, name: str) -> FakeBucket:
        assert name == "shop"
        return FakeBucket(self)

    def called(self, what: str, options: dict) -> None:
        self.calls.append((what, options))
        assert options["timeout"] == (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
        assert options["retry"]._timeout == GIVE_UP_S
        if self.error is not None:
            raise self.error


class FakeBucket:
    def __init__(self, client: FakeClient) -> None:
        self.client = client

    def blob(self, name: str) -> FakeBlob:
        return FakeBlob(self.client, name)

    def reload(self, **options) -> None:
        self.client.called("reload", options)


class FakeBlob:
    generation: int | None = None

    def __init__(self, client: FakeClient, name: str) -> None:
        self.client, self.name = client, name

    def download_as_bytes(self, **options) -> bytes:
        self.client.called("download", options)
        if self.name not in self.client.objects:
            raise google_errors.NotFound("no such object")
        data, self.generation = self.client.objects[self.name]
        return data

    def upload_from_string(self, data, content_type, *, if_generation_match, **options) -> None:
        assert isinstance(if_generation_match, int)
        assert content_type == "application/octet-stream"
        self.client.called("upload", options)
        _, generation = self.client.objects.get(self.name, (b"", 0))
        if generation != if_generation_match:
            raise google_errors.PreconditionFailed("at least one of the pre-conditions did not hold")
        self.client.generation += 1
        self.client.objects[self.name] = (data, self.client.generation)


def test_a_file_is_read_with_its_generation_under_the_prefix():
    client = FakeClient()
    client.objects["models/purchase/aliases.json"] = (b"{}", 17)
    store = GcsStore("gs://shop/models/", client)
    assert store.load("purchase/aliases.json") == StoredFile(b"{}", "17")
    assert store.load("purchase/none.json") is None
    assert [what for what, _ in client.calls] == ["download", "download", "reload"]  # the bucket was there
    assert store.where == "gs://shop/models"


def test_a_write_states_the_generation_that_was_seen():
    client = FakeClient()
    store = GcsStore("gs://shop", client)
    store.replace("a.json", b"1", None)
    first = store.load("a.json")
    with pytest.raises(ConflictError, match="gs://shop was changed by somebody else"):
        store.replace("a.json", b"2", None)
    store.replace("a.json", b"2", first)
    with pytest.raises(ConflictError):
        store.replace("a.json", b"3", first)
    assert client.objects["a.json"][0] == b"2"


def test_a_write_that_is_found_done_is_done():
    client = FakeClient()
    store = GcsStore("gs://shop", client)
    store.replace("a.json", b"1", None)
    store.replace("a.json", b"1", None)
    assert client.objects["a.json"][0] == b"1"


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (google_errors.Forbidden("no"), BadRequestError, "refuses access"),
        (google_errors.Unauthorized("no"), BadRequestError, "refuses access"),
        (google_errors.NotFound("no bucket"), BadRequestError, "there is no bucket shop"),
        (google_errors.TooManyRequests("slow"), NotReadyError, "does not answer"),
        (google_errors.ServiceUnavailable("down"), NotReadyError, "does not answer"),
        (google_errors.RetryError("late", None), NotReadyError, "does not answer"),
        (requests.ConnectionError("refused"), NotReadyError, "does not answer"),
        (auth_errors.TransportError("refused"), NotReadyError, "does not answer"),
        (
            auth_errors.DefaultCredentialsError("none"),
            BadRequestError,
            "no credentials .*GOOGLE_APPLICATION_CREDENTIALS",
        ),
        (google_errors.BadRequest("odd"), BadRequestError, "cannot be used"),
    ],
)
def test_what_google_answers_becomes_an_error_that_says_what_to_do(error, kind, text):
    store = GcsStore("gs://shop", FakeClient(error))
    with pytest.raises(kind, match=text):
        store.load("a.json")
    with pytest.raises(kind, match=text):
        store.replace("a.json", b"1", None)
