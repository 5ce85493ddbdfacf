"""One readable page of a model: how good it is, on what, and beside which baselines."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from serve_app.models.core.manifest import Manifest
from serve_app.models.service import model_sections as sections
from serve_app.models.service.model_sections import GlobalFigures, interval, number, table


def render_model_page(manifest: Manifest, facts: GlobalFigures | None = None, *, plot: str | None = None) -> str:
    """Return the page as Markdown.

    Parameters
    ----------
    manifest : Manifest
        An imported model has no metrics and gets a page that says so.
    facts : GlobalFigures, optional
        What the model file says of itself; without it the page has no importance.
    plot : str, optional
        Address of the calibration and precision-recall plot.
    """
    parts = [f"# {manifest.name}", "", f"Digest `{manifest.digest[:16]}`.", ""]
    if "overall" in manifest.metrics:
        parts += _measured(manifest, plot)
    else:
        parts += ["This package carries no measurement made here.", "", *sections.author_says(manifest)]
        parts += sections.bands(manifest)
    parts += [*sections.importance(facts), *sections.features(manifest.features), *sections.lineage(manifest, facts)]
    return "\n".join(parts)


def _measured(manifest: Manifest, plot: str | None) -> list[str]:
    metrics, training = manifest.metrics, manifest.training
    parts = [*_warnings(metrics, training), *_quality(metrics), *_thresholds(metrics)]
    parts += [*sections.comparison(manifest), *sections.drift(manifest), *sections.bands(manifest)]
    if plot:
        parts += [f"![calibration, precision and recall]({plot})", ""]
    parts += [*_reliability(metrics), *_slices(metrics), *_given_cart(metrics), *_singles(metrics), *_data(training)]
    return parts


def _warnings(metrics: Mapping[str, Any], training: Mapping[str, Any]) -> list[str]:
    notes = [f"- **{note}**" for note in metrics["notes"]]
    notes += [
        f"- **guard {finding['guard']} overridden:** {finding['detail']}" for finding in training["overridden_guards"]
    ]
    return [*notes, ""] if notes else []


def _quality(metrics: Mapping[str, Any]) -> list[str]:
    overall, baselines = metrics["overall"], metrics["baselines"]
    single, base = baselines["best_single_feature"], baselines["base_rate"]
    lines = [
        "## Quality",
        "",
        (
            f"Measured on {metrics['measured_on']}: {overall['n_rows']:,} rows of {overall['n_users']:,} users, "
            f"{overall['n_positive']:,} followed by the purchase ({overall['base_rate']['value']:.2%}). "
            f"Intervals: {metrics['intervals']}."
        ),
        "",
    ]
    rows = [
        (title, interval(overall[key]), interval(single[key]), number(base[key]["value"]))
        for key, title in sections.TITLES.items()
    ]
    return [*lines, *table(("metric", "model", f"best single feature (`{single['feature']}`)", "base rate"), rows)]


def _thresholds(metrics: Mapping[str, Any]) -> list[str]:
    overall = metrics["overall"]
    chosen = f"{metrics['chosen_threshold']:g}"
    rows = []
    for key in overall:
        if key.startswith("precision@"):
            threshold = key.partition("@")[2]
            # Keys carry the threshold as it was; the chosen one is the last.
            note = " (best F1 on the early-stopping slice)" if threshold == chosen else ""
            cells = (interval(overall[f"{name}@{threshold}"]) for name in ("precision", "recall", "f1"))
            rows.append((f"{threshold}{note}", *cells))
    return table(("threshold", "precision", "recall", "F1"), rows)


def _reliability(metrics: Mapping[str, Any]) -> list[str]:
    rows = ((f"{r['n']:,}", number(r["mean_probability"]), number(r["rate"])) for r in metrics["reliability"])
    return ["## Calibration", "", *table(("rows", "mean probability", "rate of purchases"), rows)]


def _slices(metrics: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, part in {**metrics["by_event_type"], **metrics["by_day"]}.items():
        cells = (interval(part[key]) for key in ("roc_auc", "pr_auc", "ece"))
        rows.append((name, f"{part['n_rows']:,}", number(part["base_rate"]["value"]), *cells))
    return ["## By event type and day", "", *table(("slice", "rows", "rate", "ROC-AUC", "PR-AUC", "ECE"), rows)]


def _given_cart(metrics: Mapping[str, Any]) -> list[str]:
    part = metrics["purchase_given_cart"]
    if not part["n_rows"]:
        return ["## Purchase given cart", "", "No carts in the test slice.", ""]
    return [
        "## Purchase given cart",
        "",
        (
            f"On the first cart of each product in each session ({part['n_rows']:,} rows): ROC-AUC "
            f"{interval(part['roc_auc'])}. Published for the real log by others: {part['published_roc_auc']}."
        ),
        "",
    ]


def _singles(metrics: Mapping[str, Any]) -> list[str]:
    rows = ((single["feature"], number(single["roc_auc"])) for single in metrics["single_features"])
    return ["## Each feature alone", "", *table(("feature", "ROC-AUC"), rows)]


def _data(training: Mapping[str, Any]) -> list[str]:
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in training["dropped"].items()) or "none"
    lines = [
        "## Data",
        "",
        (
            f"Target: {training['target']}. Log: {training['n_lines']:,} lines, {training['n_events']:,} events, "
            f"{_time(training['first_s'])} to {_time(training['last_s'])}; lines dropped: {dropped}. "
            f"Rows left out: {training['n_left_out_open_session']:,} in sessions that may still be open. "
            f"Users kept: {training['user_share']:.0%}."
        ),
        "",
    ]
    rows = ((name, f"{part['n_rows']:,}", f"{part['n_positive']:,}") for name, part in training["slices"].items())
    lines += table(("slice", "rows", "positives"), rows)
    params = ", ".join(f"{key} {value}" for key, value in training["params"].items())
    return [*lines, f"Seed {training['seed']}; {params}; category codes {training['category_codes']}.", ""]


def _time(time_s: int) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M")
