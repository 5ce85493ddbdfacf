"""From an event log to a registered version: trained with CatBoost, published unless it is worse than its parent."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serve_app.events.adapters.spill import EventSpill
from serve_app.events.service.partitions import EventSource
from serve_app.events.service.synthetic import GeneratedLog
from serve_app.models.adapters.package_dir import MODEL, load_package, save_package
from serve_app.models.catboost.importance import load_facts
from serve_app.models.catboost.scorer import CatBoostScorer, train_classifier
from serve_app.models.core.manifest import Manifest
from serve_app.models.service.model_sections import GlobalFigures
from serve_app.models.service.registry import CHAMPION, Registry
from serve_app.training.service.options import DEMO_EVENTS, DEMO_PARAMS, TrainingOptions
from serve_app.training.service.retraining import Parent
from serve_app.training.service.train import train

CHALLENGER: Final = "challenger"


@dataclass(frozen=True, slots=True)
class Trained:
    """What became of a training: `version` is None when the candidate was not registered."""

    manifest: Manifest
    version: int | None
    facts: GlobalFigures


def load_parent(registry: Registry, name: str, wanted: str, *, is_continued: bool) -> Parent:
    """Load the version a candidate follows, by number or alias; raises NotFoundError, PackageError."""
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
    follows = registry.aliases(options.name).versions.get(CHAMPION)
    with EventSpill() as spill, tempfile.TemporaryDirectory(prefix="scorecat-package-") as folder:
        directory = Path(folder) / "package"
        result = train(source, spill, train_classifier, options, parent=parent, follows=follows, report=report)
        manifest = save_package(directory, result.package)
        facts = load_facts(directory / MODEL, manifest.feature_names)
        if result.verdict is not None and not (result.verdict.is_accepted or is_forced):
            return Trained(manifest, None, facts)
        version = registry.publish(options.name, directory)
    if parent is not None:
        registry.move_alias(options.name, CHALLENGER, version)
    elif CHAMPION not in registry.aliases(options.name).versions:
        registry.move_alias(options.name, CHAMPION, version)
    return Trained(manifest, version, facts)


def train_demo(registry: Registry, name: str, report: Callable[[str], None]) -> None:
    """Generate events, train a first model on them and publish it; about a minute on two cores."""
    options = TrainingOptions(name=name, params=dict(DEMO_PARAMS))
    run_training(GeneratedLog(DEMO_EVENTS, options.seed), registry, options, report=report)
