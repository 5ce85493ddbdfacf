"""The report of ``scorecat evaluate`` as a table: as wide as it needs, or with less in it, never with cut names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from serve_app.terminal.columns import measure

METRICS: Final = ("roc_auc", "pr_auc", "log_loss", "ece", "base_rate", "mean_probability")
"""From the one that is left out last."""
INTERVALS: Final = "intervals"
FEWEST: Final = 2
"""Metrics that are shown however narrow the terminal is."""


def lay_out(report: Mapping[str, Any], width: int | None) -> tuple[list[list[str]], list[str]]:
    """Return the rows of the table, and what was left out of them to fit `width` characters; None for any width."""
    left_out: list[str] = []
    metrics = list(METRICS)
    has_intervals = report["overall"]["mean_probability"]["low"] is not None
    while True:
        rows = list(_build(report, metrics, has_intervals=has_intervals))
        if width is None or measure(rows) <= width or (not has_intervals and len(metrics) <= FEWEST):
            return rows, left_out
        if has_intervals:
            has_intervals = False
            left_out.append(INTERVALS)
        else:
            left_out.append(_name(metrics.pop()))


def _build(report: Mapping[str, Any], metrics: Sequence[str], *, has_intervals: bool) -> Iterator[list[str]]:
    yield ["", "rows", "purchases", *map(_name, metrics)]
    for key, found in report.items():
        if key == "overall":
            yield _describe(key, found, metrics, has_intervals=has_intervals)
        elif key.startswith("by_"):
            yield [""] * (3 + len(metrics))
            for label, of_group in found.items():
                kind = key[3:].partition("_")[0]
                yield _describe(f"{kind} {label}", of_group, metrics, has_intervals=has_intervals)


def _describe(label: str, found: Mapping[str, Any], metrics: Sequence[str], *, has_intervals: bool) -> list[str]:
    values = [_show(found[name], has_interval=has_intervals) for name in metrics]
    return [label, f"{found['n_rows']:,}", f"{found['n_positive']:,}", *values]


def _show(found: Mapping[str, Any], *, has_interval: bool) -> str:
    if found["value"] is None:
        return "-"
    if not has_interval:
        return f"{found['value']:.4f}"
    if found["low"] is None:
        return f"{found['value']:.4f} (-)"
    return f"{found['value']:.4f} ({found['low']:.4f}-{found['high']:.4f})"


def _name(metric: str) -> str:
    return metric.replace("_", " ")
