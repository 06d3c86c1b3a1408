"""The table, for a person; the JSON, for programs; the plots, which plots.py draws from the JSON in the peers'
environment, where matplotlib is."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.findings import Findings, Row, Spread

HEADS = ("figure", "what", "unit", "taskqueue", "beside it", "", "ratio", "target", "reached")
RIGHT = {3, 5, 6}
"""Columns of numbers."""


def table(findings: Findings) -> str:
    """All rows, each with its medians and, of more than one round, the lowest and the highest."""
    lines = [HEADS, *(_cells(row) for row in findings.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADS))]

    def laid_out(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if column in RIGHT else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(padded).rstrip()

    return "\n".join([laid_out(HEADS), "  ".join("-" * width for width in widths), *map(laid_out, lines[1:])])


def _cells(row: Row) -> tuple[str, ...]:
    reached = {None: "", True: "yes", False: "NO"}[row.reached]
    return (
        row.figure,
        row.what,
        row.unit,
        _spread(row.ours),
        row.peer,
        _spread(row.theirs) if row.theirs is not None else "",
        _number(row.ratio) if row.ratio is not None else "",
        str(row.target) if row.target is not None else "",
        reached,
    )


def _spread(spread: Spread) -> str:
    if len(spread.values) == 1:
        return _number(spread.median)
    return f"{_number(spread.median)} ({_number(spread.low)} to {_number(spread.high)})"


def _number(value: float) -> str:
    """Three digits that count."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3}f}"


def head(machine: dict[str, Any]) -> str:
    """What it was measured on, in two lines."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB, {machine['system']}, "
        f"Linux {machine['kernel']}, RabbitMQ {machine['rabbitmq']}, Erlang {machine['erlang']}, "
        f"Python {machine['python']}\n{versions}"
    )


def write(directory: Path, machine: dict[str, Any], findings: Findings, peers_python: Path) -> None:
    """Write bench.txt, bench.json and the plots into `directory`, where none of an earlier run is left."""
    rows = [{**asdict(row), "ratio": row.ratio, "reached": row.reached} for row in findings.rows]
    document = {
        "machine": machine,
        "rows": rows,
        "plots": [asdict(plot) for plot in findings.plots],
        "notes": findings.notes,
        "lost": findings.lost,
        "failed": findings.failed,
    }
    json_file, text_file = directory / "bench.json", directory / "bench.txt"
    json_file.write_text(json.dumps(document, indent=1) + "\n")
    text_file.write_text(f"{head(machine)}\n\n{table(findings)}\n")
    for old in [*directory.glob("*.png"), *directory.glob("*.svg")]:
        old.unlink()
    plots = Path(__file__).parent / "plots.py"
    subprocess.run([peers_python, plots, json_file, directory], stdin=subprocess.DEVNULL, check=True)
