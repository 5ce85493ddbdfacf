"""Packages on S3 and what speaks its protocol; credentials, region and endpoint are boto3's."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Final
from urllib.parse import urlsplit

import boto3
import pyarrow.fs as pafs
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError

from serve_app.errors import BadRequestError, ConflictError
from serve_app.storage.conditional_files import StoredFile
from serve_app.storage.object_store import CONNECT_TIMEOUT_S, MAX_ATTEMPTS, READ_TIMEOUT_S, ObjectStore

_LOST: Final = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}
_REFUSED: Final = {401, 403}
_SERVER_ERROR: Final = 500


class S3Store(ObjectStore):
    """An `ObjectStore` on S3.

    boto3 decides on credentials, region and endpoint (AWS_* variables, profiles, roles), and
    ``pyarrow.fs`` is given what it decided, so that both always speak to the same place.
    """

    credentials = "AWS_ACCESS_KEY_ID or AWS_PROFILE"
    address = "AWS_ENDPOINT_URL"

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self._session = boto3.session.Session(region_name=os.environ.get("AWS_REGION"))

    @cached_property
    def _client(self) -> Any:
        try:
            return self._session.client(
                "s3",
                config=Config(
                    connect_timeout=CONNECT_TIMEOUT_S,
                    read_timeout=READ_TIMEOUT_S,
                    retries={"total_max_attempts": MAX_ATTEMPTS, "mode": "standard"},
                ),
            )
        except (BotoCoreError, ValueError) as exc:
            raise BadRequestError(
                f"{self.where} cannot be used: {exc}. Check {self.credentials} and {self.address}"
            ) from exc

    @property
    def identity(self) -> str:
        """Endpoint, bucket and prefix."""
        return f"{self._client.meta.endpoint_url}/{self.bucket}/{self.prefix}"

    def load(self, path: str) -> StoredFile | None:
        """Return a file with its ETag, or None when there is none."""
        try:
            with self._asked():
                answer = self._client.get_object(Bucket=self.bucket, Key=self._object(path))
                return StoredFile(answer["Body"].read(), answer["ETag"])
        except _MissingKeyError:
            return None

    def _put(self, path: str, data: bytes, seen: StoredFile | None) -> None:
        condition = {"IfNoneMatch": "*"} if seen is None else {"IfMatch": seen.token}
        try:
            with self._asked():
                self._client.put_object(Bucket=self.bucket, Key=self._object(path), Body=data, **condition)
        except _MissingKeyError as exc:
            raise ConflictError(f"{self.where}/{path} was deleted by somebody else meanwhile") from exc

    def _object(self, path: str) -> str:
        return f"{self.prefix}/{path}" if self.prefix else path

    @cached_property
    def _region(self) -> str:
        """Region of the bucket; asking for it also proves that the bucket is there and lets us in."""
        with self._asked():
            answer = self._client.head_bucket(Bucket=self.bucket)
        return str(answer.get("BucketRegion") or self._client.meta.region_name or "us-east-1")

    def _filesystem(self) -> pafs.FileSystem:
        region = self._region
        # Made anew each time (about 3 ms), because temporary credentials end.
        credentials = self._session.get_credentials()
        if credentials is None:
            raise self._without_credentials()
        keys = credentials.get_frozen_credentials()
        endpoint = urlsplit(self._client.meta.endpoint_url)
        is_aws = (endpoint.hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))
        return pafs.S3FileSystem(
            access_key=keys.access_key,
            secret_key=keys.secret_key,
            session_token=keys.token,
            region=region,
            scheme=endpoint.scheme,
            endpoint_override=None if is_aws else endpoint.netloc + endpoint.path.rstrip("/"),
            connect_timeout=CONNECT_TIMEOUT_S,
            request_timeout=READ_TIMEOUT_S,
            retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=MAX_ATTEMPTS),
            tls_ca_file_path=os.environ.get("AWS_CA_BUNDLE"),
        )

    @contextlib.contextmanager
    def _asked(self) -> Iterator[None]:
        """Turn what boto3 raises into errors that say what to do."""
        try:
            yield
        except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError) as exc:
            raise self._without_credentials() from exc
        except self._client.exceptions.NoSuchKey as exc:
            raise _MissingKeyError from exc
        except ClientError as exc:
            raise self._explain(exc) from exc
        except (HTTPClientError, BotoConnectionError) as exc:
            raise self.unreachable(exc) from exc
        except BotoCoreError as exc:
            raise BadRequestError(
                f"{self.where} cannot be used: {exc}. Check {self.credentials} and {self.address}"
            ) from exc

    def _explain(self, exc: ClientError) -> Exception:
        code = exc.response.get("Error", {}).get("Code", "")
        status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _LOST:
            return ConflictError(f"{self.where} was changed by somebody else meanwhile")
        if code == "NoSuchBucket" or (code == "404" and exc.operation_name == "HeadBucket"):
            return self.without_bucket()
        if code in {"NotImplemented", "501"}:
            return BadRequestError(f"{self.where}: this store knows no conditional writes (If-Match): use another")
        if status >= _SERVER_ERROR or code in {"SlowDown", "RequestTimeout", "429"}:
            return self.unreachable(exc)
        if status in _REFUSED:
            return self.denied(exc)
        return BadRequestError(f"{self.where} cannot be used: {exc}. Check {self.credentials} and {self.address}")

    def _without_credentials(self) -> Exception:
        return BadRequestError(
            f"no credentials for {self.where}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "
            "or give the machine a role"
        )


class _MissingKeyError(Exception):
    """The bucket has no such object."""
