"""``scorecat train``: from an event log to a registered model version."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.markdown import Markdown

from serve_app.cli.console import JsonOption, err, out, print_json
from serve_app.cli.registry import open_settings_registry
from serve_app.core.errors import BadRequestError
from serve_app.core.manifest import Manifest
from serve_app.service.event_partitions import EventSource
from serve_app.service.ports import CHAMPION, Registry
from serve_app.service.training import DEFAULT_PARAMS, DEMO_EVENTS, DEMO_PARAMS, TrainingOptions
from serve_app.settings import load_settings

_LIBRARIES: Final = ("catboost", "numpy", "pyarrow", "scorecat")


def train(
    events: Annotated[Path, typer.Argument(help="CSV (also .gz) or Parquet file of events, or a directory of them.")],
    name: Annotated[str, typer.Option(help="Name of the model.")] = "purchase",
    seed: Annotated[int, typer.Option(min=0, help="Seed of training and of the intervals.")] = 0,
    iterations: Annotated[int, typer.Option(min=1, max=10_000, help="Most trees.")] = DEFAULT_PARAMS["iterations"],
    learning_rate: Annotated[float, typer.Option(min=0.001, max=1.0)] = DEFAULT_PARAMS["learning_rate"],
    depth: Annotated[int, typer.Option(min=1, max=10)] = DEFAULT_PARAMS["depth"],
    max_rows: Annotated[int, typer.Option(min=1000, help="Above this many events, train on a share of users.")] = (
        2_000_000
    ),
    allow: Annotated[list[str] | None, typer.Option(help="Override a guard by the name it printed.")] = None,
    report: Annotated[Path | None, typer.Option(help="Directory for the model page and its plot.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Train the purchase model on an event log, measure it on later rows, register it."""
    from serve_app.adapters.event_log import EventLog

    settings = load_settings()
    options = TrainingOptions(
        name=name,
        seed=seed,
        params={**DEFAULT_PARAMS, "iterations": iterations, "learning_rate": learning_rate, "depth": depth},
        max_rows=max_rows,
        allow=tuple(allow or ()),
    )
    registry = open_settings_registry(settings)
    registry.aliases(name)  # an unusable name is refused before the work, not after it
    with err.status("") as status:
        version, manifest = train_and_publish(EventLog(events), registry, options, report=status.update)
    page = _write_page(report or settings.home / "reports" / f"{name}-v{version}", manifest)
    champion = registry.aliases(name).versions.get(CHAMPION)
    if as_json:
        print_json(
            {
                "name": name,
                "version": version,
                "champion": champion,
                "digest": manifest.digest,
                "page": str(page),
                "training": manifest.training,
                "metrics": manifest.metrics,
            }
        )
        return
    out.print(Markdown(page.read_text("utf-8")))
    out.print(f"registered {name} version {version} ({CHAMPION}: version {champion}); page: {page}", markup=False)


def train_and_publish(
    source: EventSource, registry: Registry, options: TrainingOptions, *, report: Callable[[str], None]
) -> tuple[int, Manifest]:
    """Train, publish the package, and make it the champion when there is none yet."""
    from serve_app.adapters.catboost_model import train_classifier
    from serve_app.adapters.event_spill import EventSpill
    from serve_app.adapters.package_dir import save_package
    from serve_app.service.training import train as train_package

    aliases = registry.aliases(options.name)
    with EventSpill() as spill, tempfile.TemporaryDirectory(prefix="scorecat-package-") as folder:
        result = train_package(
            source,
            spill,
            Path(folder) / "package",
            fit=train_classifier,
            save=save_package,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            libraries={library: library_version(library) for library in _LIBRARIES},
            options=options,
            parent_version=aliases.versions.get(CHAMPION),
            report=report,
        )
        version = registry.publish(options.name, Path(folder) / "package")
    if CHAMPION not in registry.aliases(options.name).versions:
        registry.move_alias(options.name, CHAMPION, version)
    return version, result.manifest


def train_demo(
    registry: Registry,
    *,
    name: str = "purchase",
    n_events: int = DEMO_EVENTS,
    seed: int = 0,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[int, Manifest]:
    """Generate events, train a first model on them and publish it; about a minute on two cores."""
    from serve_app.service.synthetic import GeneratedLog

    options = TrainingOptions(name=name, seed=seed, params=dict(DEMO_PARAMS))
    return train_and_publish(GeneratedLog(n_events, seed), registry, options, report=report)


def _write_page(directory: Path, manifest: Manifest) -> Path:
    from serve_app.adapters.plots import save_plot
    from serve_app.service.model_page import render_model_page

    page: Any = directory / "model.md"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        save_plot(manifest.metrics, directory / "model.png")
        page.write_text(render_model_page(manifest, plot="model.png"), "utf-8")
    except OSError as exc:
        raise BadRequestError(f"the model page cannot be written to {directory}: {exc.strerror or exc}") from exc
    return Path(page)
