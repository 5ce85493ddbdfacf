"""Packages on Google Cloud Storage; credentials and project are those of the GOOGLE_* environment."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Final

import pyarrow.fs as pafs
import requests
from google.api_core import exceptions as google_errors
from google.auth import exceptions as auth_errors
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from serve_app.errors import BadRequestError, ConflictError
from serve_app.storage.conditional_files import StoredFile
from serve_app.storage.locations import open_gcs
from serve_app.storage.object_store import CONNECT_TIMEOUT_S, READ_TIMEOUT_S, ObjectStore

GIVE_UP_S: Final = 5.0
"""Longest time for one call with its retries."""
_EMULATOR: Final = "STORAGE_EMULATOR_HOST"
_UNREACHABLE: Final = (
    requests.RequestException,
    auth_errors.TransportError,
    google_errors.RetryError,
    google_errors.ServerError,
    google_errors.TooManyRequests,
)


class GcsStore(ObjectStore):
    """An `ObjectStore` on Google Cloud Storage.

    Parameters
    ----------
    where : str
        ``gs://bucket/prefix``.
    client : google.cloud.storage.Client, optional
        Default one with the credentials of the environment.
    """

    credentials = "GOOGLE_APPLICATION_CREDENTIALS"
    address = "STORAGE_EMULATOR_HOST (if it is set)"

    def __init__(self, where: str, client: Any = None) -> None:
        super().__init__(where)
        self._given = client

    @cached_property
    def _bucket(self) -> Any:
        with self._asked():
            client = self._given if self._given is not None else storage.Client()
            return client.bucket(self.bucket)

    @property
    def identity(self) -> str:
        """Endpoint, bucket and prefix."""
        return f"{os.environ.get(_EMULATOR, 'gs:/')}/{self.bucket}/{self.prefix}"

    def load(self, path: str) -> StoredFile | None:
        """Return a file with its generation, or None when there is none."""
        blob = self._blob(path)
        try:
            with self._asked():
                data = blob.download_as_bytes(**_patience())
        except _MissingError:
            self._prove_bucket()
            return None
        # the download says which generation it is of, so both are of one moment
        return StoredFile(data, str(blob.generation))

    def _put(self, path: str, data: bytes, seen: StoredFile | None) -> None:
        generation = 0 if seen is None else int(seen.token)
        try:
            with self._asked():
                self._blob(path).upload_from_string(
                    data, "application/octet-stream", if_generation_match=generation, **_patience()
                )
        except _MissingError as exc:
            raise self.without_bucket() from exc

    def _blob(self, path: str) -> Any:
        return self._bucket.blob(f"{self.prefix}/{path}" if self.prefix else path)

    def _prove_bucket(self) -> None:
        try:
            with self._asked():
                self._bucket.reload(**_patience())
        except _MissingError as exc:
            raise self.without_bucket() from exc

    @cached_property
    def _arrow(self) -> pafs.FileSystem:
        self._prove_bucket()
        return open_gcs(GIVE_UP_S)

    def _filesystem(self) -> pafs.FileSystem:
        return self._arrow

    @contextlib.contextmanager
    def _asked(self) -> Iterator[None]:
        """Turn what Google's client raises into errors that say what to do."""
        try:
            yield
        except google_errors.PreconditionFailed as exc:
            raise ConflictError(f"{self.where} was changed by somebody else meanwhile") from exc
        except google_errors.NotFound as exc:
            raise _MissingError from exc
        except (google_errors.Forbidden, google_errors.Unauthorized) as exc:
            raise self.denied(exc) from exc
        except _UNREACHABLE as exc:
            raise self.unreachable(exc) from exc
        except auth_errors.GoogleAuthError as exc:
            raise BadRequestError(
                f"no credentials for {self.where}: set GOOGLE_APPLICATION_CREDENTIALS, run `gcloud auth "
                f"application-default login`, or give the machine a service account ({exc})"
            ) from exc
        except google_errors.GoogleAPIError as exc:
            raise BadRequestError(f"{self.where} cannot be used: {exc}. Check {self.credentials}") from exc


def _patience() -> dict[str, Any]:
    return {"timeout": (CONNECT_TIMEOUT_S, READ_TIMEOUT_S), "retry": DEFAULT_RETRY.with_timeout(GIVE_UP_S)}


class _MissingError(Exception):
    """There is no such object or bucket."""
