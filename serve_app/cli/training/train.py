"""``scorecat train``: from an event log to a registered model version."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import version as library_version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from serve_app.cli.training.band_options import parse_band_rule
from serve_app.errors import BadRequestError
from serve_app.events.service.partitions import EventSource
from serve_app.models.adapters.package_dir import MODEL, load_package
from serve_app.models.core.manifest import Manifest
from serve_app.models.service.global_figures import GlobalFigures
from serve_app.models.service.ports import CHAMPION, Registry
from serve_app.settings import load_settings
from serve_app.terminal.console import JsonOption, err, out, print_json, print_page
from serve_app.training.service.options import (
    DEFAULT_PARAMS,
    DEMO_EVENTS,
    DEMO_PARAMS,
    TrainingOptions,
    TrainingTools,
)
from serve_app.wiring import open_settings_registry

if TYPE_CHECKING:
    from serve_app.training.service.retraining import Parent

CHALLENGER: Final = "challenger"
_LIBRARIES: Final = ("catboost", "numpy", "pyarrow", "scorecat")


class Register(StrEnum):
    """When a candidate that has a parent is registered."""

    NOT_WORSE = "not-worse"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Trained:
    """What became of a training: `version` is None when the candidate was not registered."""

    manifest: Manifest
    version: int | None
    facts: GlobalFigures


def train(
    events: Annotated[Path, typer.Argument(help="CSV (also .gz) or Parquet file of events, or a directory of them.")],
    name: Annotated[str, typer.Option(help="Name of the model.")] = "purchase",
    parent: Annotated[
        str | None, typer.Option(help="Version or alias to compare with; not worse, it becomes the challenger.")
    ] = None,
    is_continued: Annotated[
        bool, typer.Option("--continue", help="Keep the parent's trees and categories, and add trees.")
    ] = False,
    register: Annotated[
        Register | None, typer.Option(help="With --parent: register when not worse (default), or always.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of training and of the intervals.")] = 0,
    iterations: Annotated[int, typer.Option(min=1, max=10_000, help="Most trees.")] = DEFAULT_PARAMS["iterations"],
    learning_rate: Annotated[float, typer.Option(min=0.001, max=1.0)] = DEFAULT_PARAMS["learning_rate"],
    depth: Annotated[int, typer.Option(min=1, max=10)] = DEFAULT_PARAMS["depth"],
    max_rows: Annotated[int, typer.Option(min=1000, help="Above this many events, train on a share of users.")] = (
        2_000_000
    ),
    threshold_medium: Annotated[float | None, typer.Option(help="Lowest probability of the medium band.")] = None,
    threshold_high: Annotated[float | None, typer.Option(help="Probability above which a row is high.")] = None,
    band_capacity: Annotated[
        list[str] | None, typer.Option(help="Most rows a band may hold: high=0.02 is the best 2 %; give both bands.")
    ] = None,
    value_of_purchase: Annotated[float | None, typer.Option(help="What a purchase acted on brings.")] = None,
    cost_of_action: Annotated[float | None, typer.Option(help="What acting on one row costs.")] = None,
    allow: Annotated[list[str] | None, typer.Option(help="Override a guard by the name it printed.")] = None,
    report: Annotated[Path | None, typer.Option(help="Directory for the model page and its plot.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Train the purchase model on an event log, measure it on later rows, register it."""
    from serve_app.cli.open_log import open_log

    settings = load_settings()
    if parent is None and (is_continued or register):
        raise BadRequestError("--continue and --register are about a candidate with a parent: add --parent VERSION")
    options = TrainingOptions(
        name=name,
        seed=seed,
        params={**DEFAULT_PARAMS, "iterations": iterations, "learning_rate": learning_rate, "depth": depth},
        max_rows=max_rows,
        allow=tuple(allow or ()),
        bands=parse_band_rule(
            threshold_medium, threshold_high, band_capacity or (), value_of_purchase, cost_of_action
        ),
    )  # fmt: skip
    registry = open_settings_registry(settings)
    registry.aliases(name)  # an unusable name is refused before the work, not after it
    found = None if parent is None else load_parent(registry, name, parent, is_continued=is_continued)
    log = open_log(events)
    with err.status("") as status:
        trained = run_training(
            log, registry, options,
            parent=found, is_forced=register is Register.ALWAYS, report=status.update,
        )  # fmt: skip
    folder = f"{name}-v{trained.version}" if trained.version else f"{name}-candidate-{trained.manifest.digest[:12]}"
    page = _write_report(report or settings.home / "reports" / folder, trained)
    _print(trained, registry, page, as_json=as_json)
    if trained.version is None:
        raise typer.Exit(1)


def load_parent(registry: Registry, name: str, wanted: str, *, is_continued: bool) -> Parent:
    """Load the version a candidate follows, by number or alias; raises NotFoundError, PackageError."""
    from serve_app.models.catboost.scorer import CatBoostScorer
    from serve_app.training.service.retraining import Parent

    version = registry.resolve(name, wanted.removeprefix(f"{name}@"))
    directory = registry.locate(name, version)
    return Parent(version, load_package(directory, CatBoostScorer.load), directory / MODEL, is_continued)


def run_training(
    source: EventSource,
    registry: Registry,
    options: TrainingOptions,
    *,
    parent: Parent | None = None,
    is_forced: bool = False,
    report: Callable[[str], None],
) -> Trained:
    """Train, and publish the package unless it is worse than its parent.

    With a parent it becomes the challenger; without one the champion, when there is none yet.
    """
    from serve_app.events.adapters.spill import EventSpill
    from serve_app.models.adapters.package_dir import save_package
    from serve_app.models.catboost.importance import load_facts
    from serve_app.models.catboost.scorer import train_classifier
    from serve_app.training.service.train import train as train_package

    tools = TrainingTools(
        fit=train_classifier,
        save=save_package,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        libraries={library: library_version(library) for library in _LIBRARIES},
        report=report,
    )
    follows = registry.aliases(options.name).versions.get(CHAMPION)
    with EventSpill() as spill, tempfile.TemporaryDirectory(prefix="scorecat-package-") as folder:
        directory = Path(folder) / "package"
        result = train_package(source, spill, directory, tools, options, parent=parent, follows=follows)
        facts = load_facts(directory / MODEL, result.manifest.feature_names)
        if result.verdict is not None and not (result.verdict.is_accepted or is_forced):
            return Trained(result.manifest, None, facts)
        version = registry.publish(options.name, directory)
    if parent is not None:
        registry.move_alias(options.name, CHALLENGER, version)
    elif CHAMPION not in registry.aliases(options.name).versions:
        registry.move_alias(options.name, CHAMPION, version)
    return Trained(result.manifest, version, facts)


def train_demo(
    registry: Registry,
    *,
    name: str = "purchase",
    n_events: int = DEMO_EVENTS,
    seed: int = 0,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[int | None, Manifest]:
    """Generate events, train a first model on them and publish it; about a minute on two cores."""
    from serve_app.events.service.synthetic import GeneratedLog

    options = TrainingOptions(name=name, seed=seed, params=dict(DEMO_PARAMS))
    trained = run_training(GeneratedLog(n_events, seed), registry, options, report=report)
    return trained.version, trained.manifest


def _write_report(directory: Path, trained: Trained) -> Path:
    from serve_app.models.adapters.plots import save_plot
    from serve_app.models.service.model_page import render_model_page

    page = directory / "model.md"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        save_plot(trained.manifest.metrics, directory / "model.png")
        page.write_text(render_model_page(trained.manifest, trained.facts, plot="model.png"), "utf-8")
        (directory / "manifest.json").write_bytes(trained.manifest.dump())
    except OSError as exc:
        raise BadRequestError(f"the model page cannot be written to {directory}: {exc.strerror or exc}") from exc
    return page


def _print(trained: Trained, registry: Registry, page: Path, *, as_json: bool) -> None:
    manifest, version = trained.manifest, trained.version
    aliases = registry.aliases(manifest.name).versions
    if as_json:
        print_json(
            {
                "name": manifest.name,
                "version": version,
                "registered": version is not None,
                "parent": manifest.parent_version,
                "champion": aliases.get(CHAMPION),
                "challenger": aliases.get(CHALLENGER),
                "digest": manifest.digest,
                "page": str(page),
                "thresholds": {"medium": manifest.thresholds.medium, "high": manifest.thresholds.high},
                "training": manifest.training,
                "metrics": manifest.metrics,
                "model": trained.facts.to_json(),
            }
        )
        return
    print_page(page.read_text("utf-8"))
    if version is not None:
        named = ", ".join(f"{alias}: version {number}" for alias, number in sorted(aliases.items()))
        out.print(f"registered {manifest.name} version {version} ({named}); page: {page}", markup=False)
        return
    comparison = manifest.metrics["comparison"]
    err.print(
        f"not registered, {comparison['outcome']} beside version {manifest.parent_version}: "
        f"{'; '.join(comparison['reasons'])}. Nothing served changes; page: {page}. "
        f"Train on more or newer events, or register it all the same with --register always",
        style="red", markup=False,
    )  # fmt: skip
