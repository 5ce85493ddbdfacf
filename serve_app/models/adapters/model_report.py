"""The page of a model as files, with Matplotlib's plot of its calibration and of precision and recall."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from serve_app.errors import BadRequestError
from serve_app.models.core.manifest import Manifest
from serve_app.models.service.model_page import render_model_page
from serve_app.models.service.model_sections import GlobalFigures


def save_report(directory: Path, manifest: Manifest, facts: GlobalFigures) -> Path:
    """Write the page with its plot, and the manifest; return the page. Raises BadRequestError where it cannot."""
    page = directory / "model.md"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        save_plot(manifest.metrics, directory / "model.png")
        page.write_text(render_model_page(manifest, facts, plot="model.png"), "utf-8")
        (directory / "manifest.json").write_bytes(manifest.dump())
    except OSError as exc:
        raise BadRequestError(f"the model page cannot be written to {directory}: {exc.strerror or exc}") from exc
    return page


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
