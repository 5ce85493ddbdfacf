"""Sections of a model's page about where it comes from, what it reads and what it acts on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from serve_app.features.core.numeric_columns import describe_rule
from serve_app.features.core.specs import FeatureSpec
from serve_app.models.core.manifest import Manifest
from serve_app.runtime.shown_values import LIMIT, show_line
from serve_app.stats.profile import SCORE


@dataclass(frozen=True, slots=True)
class GlobalFigures:
    """Global figures of a model.

    Attributes
    ----------
    n_trees : int
    importance : tuple of (str, float)
        Features and the share of the changes of prediction they cause, percent, falling.
    interactions : tuple of (str, str, float)
        Pairs of features and the strength of their interaction, percent of all pairs', falling.
    missing : tuple of str
        What could not be told, and why.
    """

    n_trees: int
    importance: tuple[tuple[str, float], ...]
    interactions: tuple[tuple[str, str, float], ...]
    missing: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the figures as a JSON object."""
        return {
            "n_trees": self.n_trees,
            "importance": dict(self.importance),
            "interactions": [{"features": [a, b], "strength": strength} for a, b, strength in self.interactions],
            "missing": list(self.missing),
        }


TITLES: Final[Mapping[str, str]] = {
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC (average precision)",
    "log_loss": "log loss",
    "brier": "Brier score",
    "ece": "expected calibration error",
}
VERDICT_WORDS: Final[Mapping[str, str]] = {
    "none": "no more than chance",
    "small": "small, beyond chance",
    "moderate": "moderate",
    "large": "large",
    "too few rows": "too few rows to tell",
}
_BAR_WIDTH: Final = 24
_SAID_ROWS: Final = 40
_PLAIN: Final = re.compile(r"(?!_)[\w ,.:;/=()+-]*(?<!_)")
"""Text without any mark that Markdown knows."""
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_DRIFT_ROWS: Final = 10


def lineage(manifest: Manifest, facts: GlobalFigures | None) -> list[str]:
    """Return where the package comes from."""
    training = manifest.training
    source = training.get("imported_from")
    rows = [
        ("made", f"{'imported' if source else 'trained'} {manifest.created_at}"),
        ("imported from", str(source["file"]) if source else ""),
        ("its SHA-256", f"`{source['sha256']}`" if source and "sha256" in source else ""),
        ("parent", f"version {manifest.parent_version}" if manifest.parent_version else "none"),
        ("task", manifest.task),
        ("classes", ", ".join(map(cell, manifest.class_labels))),
        ("trees", f"{facts.n_trees:,}" if facts else ""),
        (
            "package digest",
            f"`{manifest.digest[:16]}`, of the manifest but times and file hashes: equal training gives equal digests",
        ),
        ("model digest", f"`{manifest.model_digest[:16]}`, of trees and leaf values"),
        ("libraries", ", ".join(f"{name} {version}" for name, version in sorted(manifest.libraries.items()))),
    ]
    return ["## Lineage", "", *table(("", ""), (row for row in rows if row[1]))]


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], rule: str = "") -> list[str]:
    """Return the lines of a table, and an empty one; `rule` is the line below the titles, where it aligns columns."""
    head = "|" + "".join(f" {title} |" if title else " |" for title in titles)
    return [head, rule or "|" + "---|" * len(titles), *(f"| {' | '.join(cells)} |" for cells in rows), ""]


def author_says(manifest: Manifest) -> list[str]:
    """Return what came with an imported model about how good it is: nobody here has measured it."""
    metadata = manifest.training.get("author_says", {}).get("metadata")
    said = {"metrics": manifest.metrics.get("reported_by_author"), "metadata": metadata}
    rows = [(name, text) for part in said.values() for name, text in _flatten(part)]
    if not rows:
        return []
    more = [f"and {len(rows) - _SAID_ROWS} more, in the manifest"] if len(rows) > _SAID_ROWS else []
    lines = table(("", ""), ((cell(name), cell(text)) for name, text in rows[:_SAID_ROWS]))
    return ["## Said by its author (not measured here)", "", *lines, *more, *([""] if more else [])]


def _flatten(value: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [row for key, item in value.items() for row in _flatten(item, f"{name}.{key}" if name else str(key))]
    if value is None:
        return []
    return [(name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))]


def features(specs: Sequence[FeatureSpec]) -> list[str]:
    """Return what each input is and what happens when it is null."""
    rows = ((cell(s.name), s.kind, cell(s.unit), cell(describe_null(s)), _value(s)) for s in specs)
    return ["## Features", "", *table(("feature", "kind", "unit", "null", "value"), rows)]


def cell(text: str) -> str:
    """Return a text as a cell of a table shows it: what Markdown would read as its own stands as code."""
    if _PLAIN.fullmatch(text):
        return text
    fence = "``" if "`" in text else "`"
    return f"{fence} {show_line(text, LIMIT)} {fence}".replace("|", "\\|")


def _value(spec: FeatureSpec) -> str:
    return describe_rule(spec).removeprefix("must be a ").removeprefix("finite ")


def describe_null(spec: FeatureSpec) -> str:
    """Return a feature's null rule in words."""
    if spec.on_null == "fill":
        return f"becomes {spec.fill}" if isinstance(spec.fill, str) else f"becomes {spec.fill:g}"
    if spec.on_null == "fill_from":
        return f"becomes {spec.fill_from}"
    return {"reject": "is refused", "nan": "stays missing"}[spec.on_null]


def importance(facts: GlobalFigures | None) -> list[str]:
    """Return global importance as a bar chart, and the strongest interactions."""
    if facts is None:
        return []
    lines = ["## Importance", ""]
    if facts.importance:
        top = max(value for _, value in facts.importance) or 1.0
        lines += [
            "How much predictions change with each feature (PredictionValuesChange, percent of all).",
            "",
        ]
        rows = ((cell(name), f"{value:.1f}", bar(value / top)) for name, value in facts.importance)
        lines += table(("feature", "%", ""), rows, "|---|---:|---|")
    if facts.interactions:
        pairs = ((f"{cell(a)} x {cell(b)}", f"{strength:.1f}") for a, b, strength in facts.interactions)
        lines += table(("strongest interactions", "% of all pairs'"), pairs, "|---|---:|")
    return [*lines, *(f"Not available: {note}" for note in facts.missing), ""]


def bar(share: float, width: int = _BAR_WIDTH) -> str:
    """Return a bar of text, exact to an eighth of a character; above 0 it is never empty."""
    eighths = min(width * 8, max(round(share * width * 8), 1 if share > 0 else 0))
    whole, rest = divmod(eighths, 8)
    return "█" * whole + _EIGHTHS[rest].strip()


def bands(manifest: Manifest) -> list[str]:
    """Return what each band of the recommendation holds on the later rows."""
    found = manifest.metrics.get("bands")
    thresholds = manifest.thresholds
    head = [
        "## Bands",
        "",
        (
            f"`recommendation` is high above {thresholds.high:.6g}, medium from {thresholds.medium:.6g}, low below"
            f"{'' if found is None else '; ' + _describe_band_rule(found['rule'])}."
        ),
        "",
    ]
    if found is None:
        return head
    valued = found["rule"].get("cost_of_action") is not None
    titles = ["band", "rows", "share of rows", "precision", "share of purchases", *(["value of acting"] * valued)]
    rows = [
        [
            row["band"],
            f"{row['n_rows']:,}",
            *(_spread(row[figure], ".2%", "-") for figure in ("share", "precision", "captured")),
            *([_spread(row["expected_value"], ".2f", " to ")] if valued else []),
        ]
        for row in found["rows"]
    ]
    return [*head, *table(titles, rows)]


def _spread(cell: Mapping[str, float | None], form: str, to: str, key: str = "value") -> str:
    """Return a figure with its interval, or a dash."""
    value, low, high = (cell[name] for name in (key, "low", "high"))
    if value is None or low is None or high is None:
        return "-"
    return f"{value:{form}} ({low:{form}}{to}{high:{form}})"


def _describe_band_rule(rule: Mapping[str, Any]) -> str:
    worth = ""
    if "cost_of_action" in rule:
        worth = f"a purchase acted on brings {rule['value_of_purchase']:g}, acting on a row costs "
        worth += f"{rule['cost_of_action']:g}"
    if rule["kind"] == "cost":
        return f"set on the early-stopping slice where acting pays (medium) and pays twice (high): {worth}"
    if rule["kind"] == "capacity":
        shares = rule["capacity"]
        words = f"set on the early-stopping slice to hold at most {shares['high']:.2%} (high) and "
        words += f"{shares['medium']:.2%} (medium) of the rows"
    else:
        words = "thresholds as given"
    return f"{words}; {worth}" if worth else words


def comparison(manifest: Manifest) -> list[str]:
    """Return how the candidate stands beside its parent on the same rows."""
    found = manifest.metrics.get("comparison")
    if found is None:
        return []
    lines = [
        f"## Beside version {manifest.parent_version}",
        "",
        f"**{found['outcome']}**: {'; '.join(found['reasons'])}. Trained {found['way']}.",
        "",
        (
            f"Both on the same {found['n_rows']:,} later rows of {found['n_users']:,} users (paired bootstrap over "
            f"users); {found['n_rejected_by_parent']:,} rows the parent rejects are left out."
        ),
        "",
    ]
    rows = [
        (
            TITLES[name],
            number(one["candidate"], 5),
            number(one["parent"], 5),
            _spread(one, "+.5f", " to ", key="difference"),
            number(one["margin"], 5),
        )
        for name, one in found["differences"].items()
    ]
    lines += table(("metric", "this one", "parent", "difference", "margin"), rows)
    return [*lines, *(f"- {note}" for note in found["notes"]), ""]


def drift(manifest: Manifest) -> list[str]:
    """Return how far the rows have moved since the parent was measured, the score first."""
    found = manifest.metrics.get("drift")
    if found is None:
        return []
    head = ["## Drift since the parent", ""]
    if "skipped" in found:
        return [*head, f"Not measured: {found['skipped']}.", ""]
    others = [one for one in found["features"] if one["feature"] != SCORE]
    moved = [one for one in others if one["verdict"] != "none"]
    shown = [*(one for one in found["features"] if one["feature"] == SCORE), *moved[:_DRIFT_ROWS]]
    lines = [
        (
            f"The later rows ({found['n_new_rows']:,}) beside the parent's reference ({found['n_reference_rows']:,}), "
            f"as the parent sees them. {len(others) - len(moved)} of {len(others)} features moved no more than chance."
        ),
        "",
    ]
    rows = [
        (
            one["feature"],
            number(one["psi"]),
            number(one["expected_psi"]),
            VERDICT_WORDS[one["verdict"]],
            *(f"{one[share]:.2%}" for share in ("missing_share", "out_of_range_share", "unseen_share")),
        )
        for one in shown
    ]
    return [*head, *lines, *table(("", "PSI", "by chance", "verdict", "missing", "out of range", "unseen"), rows)]


def number(value: float | None, n_decimals: int = 4) -> str:
    """Return a figure with its decimals, or a dash."""
    return "-" if value is None else f"{value:.{n_decimals}f}"


def interval(cell: Mapping[str, float | None]) -> str:
    """Return a figure with its interval, if it has one."""
    return number(cell["value"]) if cell["low"] is None else _spread(cell, ".4f", "-")
