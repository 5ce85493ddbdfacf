"""The one place that knows which registry a root stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from serve_app.errors import BadRequestError
from serve_app.models.adapters.registry_folder import DirectoryRegistry
from serve_app.models.service.registry import Registry

SCHEMES: Final = ("s3", "gs")


def open_registry(root: str | Path, *, cache: Path | None = None, by: str | None = None) -> Registry:
    """Return the registry of a root: a directory, ``s3://bucket/prefix`` or ``gs://bucket/prefix``.

    Nothing of it is read and no network is used yet.

    Parameters
    ----------
    root : str or Path
    cache : Path, optional
        Local folder that versions of a remote registry are fetched to; a remote one needs it.
    by : str, optional
        Who publishes and moves aliases, for the history; default the OS user and host.

    Raises
    ------
    BadRequestError
        The root is of no known form, or a file, or the client library of its store is not installed.
    """
    scheme, found, rest = str(root).partition("://")
    if not found:
        if Path(root).exists() and not Path(root).is_dir():
            raise BadRequestError(f"{root} is a file, and a registry is a directory (SCORECAT_REGISTRY)")
        return DirectoryRegistry(Path(root), by)
    if scheme not in SCHEMES or not rest.partition("/")[0]:
        raise BadRequestError(
            f"{root} is no registry (SCORECAT_REGISTRY): use a directory, s3://bucket/prefix or gs://bucket/prefix"
        )
    if cache is None:
        raise BadRequestError(f"{root} needs a local folder to fetch versions to")
    # a store's client takes half a second to import, and is an extra that a local registry does without
    try:
        if scheme == "s3":
            from serve_app.storage.s3_store import S3Store as Store  # noqa: PLC0415
        else:
            from serve_app.storage.gcs_store import GcsStore as Store  # type: ignore[assignment] # noqa: PLC0415
        from serve_app.models.adapters.registry_bucket import StoreRegistry  # noqa: PLC0415
    except ImportError as exc:
        extra = {"s3": "s3", "gs": "gcs"}[scheme]
        raise BadRequestError(f"{root} needs a library that is not installed: pip install 'scorecat[{extra}]'") from exc
    return StoreRegistry(Store(str(root)), cache, by)
