"""``scorecat train``: from an event log to a registered model version."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from serve_app.cli.open_log import open_log
from serve_app.cli.options import LogArgument
from serve_app.errors import BadRequestError
from serve_app.models.adapters.model_report import save_report
from serve_app.models.core.recommendation import Thresholds
from serve_app.models.service.registry import CHAMPION, Registry
from serve_app.settings import load_settings
from serve_app.terminal.console import JsonOption, err, out, print_json, print_page
from serve_app.training.adapters.registration import CHALLENGER, Trained, load_parent, run_training
from serve_app.training.core.bands import BandRule, Capacity, Worth
from serve_app.training.service.options import DEFAULT_PARAMS, TrainingOptions
from serve_app.wiring import open_settings_registry


class Register(StrEnum):
    """When a candidate that has a parent is registered."""

    NOT_WORSE = "not-worse"
    ALWAYS = "always"


def train(
    events: LogArgument,
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
    page = save_report(report or settings.home / "reports" / folder, trained.manifest, trained.facts)
    _print(trained, registry, page, as_json=as_json)
    if trained.version is None:
        raise typer.Exit(1)


def parse_band_rule(
    medium: float | None,
    high: float | None,
    capacities: Sequence[str],
    value_of_purchase: float | None,
    cost_of_action: float | None,
) -> BandRule | None:
    """Return the rule that the options ask for; None when they say nothing.

    Raises
    ------
    BadRequestError
        Half a rule, two rules at once, or a number outside its range.
    """
    worth = _parse_worth(value_of_purchase, cost_of_action)
    if capacities and (medium is not None or high is not None):
        raise BadRequestError(
            "thresholds are set by --band-capacity or given by --threshold-medium and --threshold-high, not both"
        )
    if capacities:
        return BandRule(capacity=_parse_capacities(capacities), worth=worth)
    if medium is not None or high is not None:
        default = Thresholds()
        thresholds = Thresholds(
            default.medium if medium is None else medium, default.high if high is None else high
        )  # fmt: skip
        return BandRule(thresholds, worth=worth)
    return None if worth is None else BandRule(worth=worth, is_by_cost=True)


def _parse_worth(value_of_purchase: float | None, cost_of_action: float | None) -> Worth | None:
    if value_of_purchase is None and cost_of_action is None:
        return None
    if value_of_purchase is None or cost_of_action is None:
        raise BadRequestError("--value-of-purchase and --cost-of-action go together: give both, in one currency")
    return Worth(value_of_purchase, cost_of_action)


def _parse_capacities(texts: Sequence[str]) -> Capacity:
    shares: dict[str, float] = {}
    for text in texts:
        band, _, share = text.partition("=")
        if band not in {"high", "medium"} or band in shares:
            raise BadRequestError(f"--band-capacity {text}: write high=SHARE and medium=SHARE, each once")
        try:
            shares[band] = float(share)
        except ValueError as exc:
            raise BadRequestError(f"--band-capacity {text}: {share!r} is no number; 0.02 means the best 2 %") from exc
    if len(shares) < 2:  # noqa: PLR2004 both bands
        raise BadRequestError(
            "--band-capacity needs both bands, for example --band-capacity high=0.02 --band-capacity medium=0.1; "
            "0 keeps a band empty"
        )
    return Capacity(**shares)


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
