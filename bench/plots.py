"""Draws what bench.json says, as PNG and SVG. A program of its own: matplotlib is only in the peers' environment.

plots.py bench.json DIRECTORY
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot

OURS, THEIRS = "#1f6f8b", "#b8b8b8"


def save(figure: Any, directory: Path, name: str) -> None:
    """Both formats."""
    for kind in ("png", "svg"):
        figure.savefig(directory / f"{name}.{kind}", dpi=120, bbox_inches="tight")
    pyplot.close(figure)


def bars(rows: list[dict[str, Any]], directory: Path) -> None:
    """Medians with their spread: a panel for each figure and unit, ours beside all that it was compared with."""
    panels: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for row in rows:
        if row["figure"] == "growth":  # which has curves
            continue
        bar = panels.setdefault((row["figure"], row["what"], row["unit"]), {})
        bar["taskqueue"] = row["ours"]["values"]
        if row["theirs"] is not None:
            bar[row["peer"]] = row["theirs"]["values"]
    panels = {key: bar for key, bar in panels.items() if len(bar) > 1}
    if not panels:
        return
    columns = 2
    lines = -(-len(panels) // columns)
    height = sum(0.35 * max(len(bar) for bar in panels.values()) + 0.9 for _ in range(lines))
    figure, axes = pyplot.subplots(lines, columns, figsize=(12, height), squeeze=False, layout="constrained")
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    for axis, ((name, what, unit), bar) in zip(axes.flat, panels.items(), strict=False):
        medians = [sorted(values)[len(values) // 2] for values in bar.values()]
        spread = [
            [median - min(values) for median, values in zip(medians, bar.values(), strict=True)],
            [max(values) - median for median, values in zip(medians, bar.values(), strict=True)],
        ]
        colours = [OURS if who == "taskqueue" else THEIRS for who in bar]
        axis.barh(list(bar), medians, xerr=spread, color=colours, error_kw={"elinewidth": 1, "capsize": 2})
        axis.invert_yaxis()
        better = "more" if unit == "/s" and name != "idle" else "less"
        axis.set_title(f"{name}: {what}, {unit} ({better} is better)", fontsize=9, loc="left")
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    save(figure, directory, "bench")


def curves(plot: dict[str, Any], directory: Path) -> None:
    """One plot of lines."""
    figure, axis = pyplot.subplots(figsize=(7, 4))
    for curve in plot["curves"]:
        if curve["points"]:
            xs, ys = zip(*curve["points"], strict=True)
            axis.plot(xs, ys, marker="o" if len(xs) < 20 else None, label=curve["name"])
    if plot["log_x"]:
        axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.set(title=plot["title"], xlabel=plot["x"], ylabel=plot["y"])
    axis.grid(alpha=0.3)
    if len(plot["curves"]) > 1:
        axis.legend()
    save(figure, directory, f"growth-{plot['name']}")


def main() -> None:
    """The program."""
    document = json.loads(Path(sys.argv[1]).read_text())
    directory = Path(sys.argv[2])
    bars(document["rows"], directory)
    for plot in document["plots"]:
        curves(plot, directory)


if __name__ == "__main__":
    main()
