"""A place that is a local path or a bucket, opened."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from serve_app.errors import BadRequestError

GCS_PATIENCE_S: Final = 60.0
"""Longest time for one call to Google Cloud Storage with its retries."""


def open_location(location: str) -> tuple[pafs.FileSystem, str]:
    """Return the file system and path of a local path, ``s3://…`` or ``gs://…``; raises BadRequestError."""
    if "://" not in location:
        return pafs.LocalFileSystem(), str(Path(location).absolute())
    try:
        if location.startswith("gs://"):
            return open_gcs(GCS_PATIENCE_S), location.removeprefix("gs://").rstrip("/")
        system, path = pafs.FileSystem.from_uri(location)
    except (pa.ArrowException, OSError) as exc:
        raise BadRequestError(f"{location} cannot be opened: {exc}") from exc
    return system, path.rstrip("/")


def open_gcs(patience_s: float) -> pafs.FileSystem:
    """Return Google Cloud Storage, or the emulator that the environment names; a call takes `patience_s` at most."""
    emulator = urlsplit(os.environ.get("STORAGE_EMULATOR_HOST", ""))
    return pafs.GcsFileSystem(
        anonymous=bool(emulator.netloc),
        scheme=emulator.scheme or "https",
        endpoint_override=emulator.netloc or None,
        retry_time_limit=timedelta(seconds=patience_s),
    )
