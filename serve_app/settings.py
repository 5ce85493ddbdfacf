"""Settings from ``SCORECAT_*``: where things are on this machine. An unknown name is an error."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serve_app.errors import BadRequestError
from serve_app.history.service.config import StateConfig
from serve_app.runtime.near_names import LOOSE, find_similar

PREFIX = "SCORECAT_"
DAY_S = 86_400


class Settings(BaseModel):
    """Everything that belongs to one machine; `docs/settings.md` lists the same names."""

    model_config = ConfigDict(frozen=True)

    home: Path = Field(Path(".scorecat"), description="Folder of all state of this machine.")
    registry: str | None = Field(
        None, min_length=1, description="Package registry: a folder, s3://… or gs://…; default <home>/registry."
    )
    user: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Who moves aliases and rollouts, for their history; default user@host.",
    )
    host: str = Field("127.0.0.1", min_length=1, description="Address HTTP binds to.")
    port: int = Field(8000, ge=1, le=65535, description="Port of the HTTP service.")
    model: str = Field("purchase", description="Name of the model that is served.")
    profile: Literal["laptop", "production"] = Field("laptop", description="Set of deployment options.")
    num_cpus: int = Field(
        default_factory=lambda: os.cpu_count() or 2, ge=1, description="CPUs Ray may schedule; default all."
    )
    pins: bool = Field(default=False, description="Whether a request may name its version by X-Model-Version.")
    state: str | None = Field(
        None,
        min_length=1,
        description="Where live history is kept: a file, redis://…, or off; default <home>/state/history.db.",
    )
    state_secret: Path | None = Field(
        None, description="File with the secret that stored ids are keyed with; default <home>/state/history.secret."
    )
    state_retention_days: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Sessions are forgotten after so many days; default never."
    )
    state_timeout_s: float = Field(0.25, gt=0, le=2, description="Longest wait for a look-up of history.")
    job_roots: str | None = Field(
        None,
        min_length=1,
        description="Where batch jobs asked for over HTTP may read and write: folders, s3://…, gs://…, by comma; "
        "default <home>/data.",
    )
    job_slots: int = Field(1, ge=1, le=100, description="Jobs asked for over HTTP start while fewer jobs run.")
    job_queue: int = Field(10, ge=0, le=1000, description="Jobs that may wait for that; more are refused.")
    job_keep_hours: float = Field(
        168.0, gt=0, description="How long after its end a job's record, and results nobody named a place for, stay."
    )
    request_timeout_s: float = Field(5.0, gt=0, le=60, description="Deadline of a request that names none.")

    @property
    def registry_root(self) -> str | Path:
        """Root of the package registry: a directory, or the URL of a prefix in an object store."""
        if self.registry is not None and "://" in self.registry:
            return self.registry
        return Path(self.registry or self.home / "registry")

    @property
    def state_config(self) -> StateConfig | None:
        """How to open the states of live history; None when it is off."""
        if self.state == "off":
            return None
        days = self.state_retention_days
        return StateConfig(
            self.state or str(self.home / "state" / "history.db"),
            str(self.state_secret or self.home / "state" / "history.secret"),
            None if days is None else round(days * DAY_S),
            self.state_timeout_s,
        )

    @property
    def package_cache(self) -> Path:
        """Folder that versions of a remote registry are fetched to."""
        return self.home / "cache" / "packages"

    @property
    def database(self) -> Path:
        """File of this machine's rollouts."""
        return self.home / "state" / "rollouts.db"

    @property
    def job_dir(self) -> Path:
        """Folder of the records of batch jobs."""
        return self.home / "jobs"

    @property
    def job_places(self) -> tuple[str, ...]:
        """Absolute folders and URLs that jobs asked for over HTTP may use."""
        if self.job_roots is None:
            return (str(self.home / "data"),)
        return tuple(_anchor(root.strip()) for root in self.job_roots.split(",") if root.strip())

    @property
    def split_path(self) -> Path:
        """The split record that Gateways read."""
        return self.home / "state" / "split.json"

    @property
    def log_dir(self) -> Path:
        """Folder of this machine's logs."""
        return self.home / "logs"


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings; paths become absolute, so that they mean the same in every process of the cluster.

    Raises
    ------
    BadRequestError
        A ``SCORECAT_*`` name is unknown (the nearest known one is named) or a value does not fit.
    """
    environment = os.environ if environment is None else environment
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in environment:
        if name.upper().startswith(PREFIX) and name not in known and name not in INTERNAL:
            short = {k.removeprefix(PREFIX): k for k in known}
            near = find_similar(name.upper().removeprefix(PREFIX), short, LOOSE)
            hint = f" Did you mean {short[near]}?" if near else f" Known: {', '.join(sorted(known))}."
            raise BadRequestError(f"unknown setting {name}.{hint}")
    values = {n: environment[PREFIX + n.upper()] for n in Settings.model_fields if PREFIX + n.upper() in environment}
    try:
        settings = Settings(**values)  # type: ignore[arg-type]
    except ValidationError as exc:
        first = exc.errors()[0]
        raise BadRequestError(f"setting {PREFIX}{str(first['loc'][0]).upper()}: {first['msg']}") from exc
    absolute = {
        "home": settings.home.absolute(),
        "registry": settings.registry and _anchor(settings.registry),
        "state": settings.state if settings.state in (None, "off") else _anchor(settings.state),
        "state_secret": settings.state_secret and settings.state_secret.absolute(),
    }
    return settings.model_copy(update=absolute)


def _anchor(place: str) -> str:
    return place if "://" in place else str(Path(place).absolute())


INTERNAL = frozenset({"SCORECAT_CLUSTER", "SCORECAT_HAPROXY", "SCORECAT_SHARED_ARRAYS", "SCORECAT_SOCKETS"})
"""Names that scorecat sets for its own processes: the mark `down` finds them by, the proxy's binary,
the folders for arrays in shared memory and for the sockets of replicas."""
