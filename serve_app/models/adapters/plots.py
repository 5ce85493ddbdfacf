"""Matplotlib: the calibration and precision-recall plot of a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def save_plot(metrics: Mapping[str, Any], path: Path) -> None:
    """Draw calibration and precision-recall from a manifest's metrics into a PNG file."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    table = metrics["reliability"]
    x = [row["mean_probability"] for row in table]
    y = [row["rate"] for row in table]
    top = max([*x, *y, 1e-6]) * 1.1
    left.plot([0, top], [0, top], color="0.7", linewidth=1)
    left.plot(x, y, marker="o")
    left.set(xlabel="mean probability", ylabel="rate of purchases", title="Calibration", xscale="symlog")
    left.set_xscale("symlog", linthresh=0.01)
    left.set_yscale("symlog", linthresh=0.01)
    points = metrics["precision_recall"]
    base = metrics["overall"]["base_rate"]["value"]
    right.plot([p[0] for p in points], [p[1] for p in points])
    right.axhline(base, color="0.7", linewidth=1)
    right.set(xlabel="recall", ylabel="precision", title="Precision and recall", xlim=(0, 1), ylim=(0, 1))
    figure.savefig(path, dpi=120)
