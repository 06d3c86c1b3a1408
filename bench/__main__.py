"""Measures taskqueue beside its peers and beside the broker's own limit, and prints one table.

    python -m bench [FIGURE …] [--rounds N] [--count N] [--quick] [--all] [--list]

by `make bench FIGURE=… ROUNDS=… QUICK=1 ALL=1`. A target that is not reached is said in the table and fails nothing.
Exit status 1 where a workitem of ours was lost, or a figure could not be measured.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import processes
from bench import machine, report
from bench.figures import dispatch, end_to_end, growth, idle, latency, schedules, starting, webhooks
from bench.findings import Findings
from bench.lab import Lab, say
from bench.programs import Programs
from broker import PrivateBroker
from installation import Installation

OUTPUT = Path(".run/bench").absolute()
PEERS_PYTHON = OUTPUT / "venv" / "bin" / "python"


class Figure(NamedTuple):
    """A figure of the command line. `usual`: measured where none is named."""

    measure: Callable[[Lab], Findings]
    about: str
    usual: bool = True


FIGURES = {
    "dispatch": Figure(dispatch.measure, "one dispatcher, waiting messages, against a forwarder in C"),
    "end-to-end": Figure(end_to_end.measure, "no-op workitems to confirmed results, against all peers; and cost"),
    "cost": Figure(end_to_end.measure_cost, "CPU per workitem alone", usual=False),
    "latency": Figure(latency.measure, "one at a time, submit to result"),
    "http": Figure(webhooks.measure, "tasks in, webhooks out, against FastAPI with Celery and requests; and cost"),
    "fairness": Figure(schedules.measure_fairness, "a long task among short ones"),
    "long-tasks": Figure(schedules.measure_long_tasks, "tasks of a second, the second host comes later"),
    "memory": Figure(idle.measure_memory, "PSS with 20 and 100 idle workers"),
    "start": Figure(starting.measure_start, "start to first result, an import of a second"),
    "replacement": Figure(starting.measure_replacement, "SIGKILL of a worker to the next one's task"),
    "idle": Figure(idle.measure_idle, "CPU and wake-ups of 20 idle workers"),
    "growth": Figure(growth.measure_growth, "backlog to a million, bodies, types, workers; with plots", usual=False),
    "http-growth": Figure(webhooks.measure_growth, "the same with a million scheduled tasks in the book", usual=False),
}


def main() -> int:
    """The command."""
    arguments = _arguments()
    if arguments.list:
        print("\n".join(f"{name:12} {figure.about}" for name, figure in FIGURES.items()))
        return 0
    wanted = arguments.figures or [name for name, figure in FIGURES.items() if figure.usual]
    if arguments.all:
        wanted = [name for name in FIGURES if name != "cost"]
    began, load = time.monotonic(), os.getloadavg()[0]
    findings = Findings()
    with _lab(arguments) as lab:
        about = machine.describe(lab.broker, PEERS_PYTHON, Path(sys.executable), load)
        findings.notes += machine.doubts(about)
        if arguments.quick:
            findings.notes.append("quick: too few workitems for figures that mean something")
        print(report.head(about), flush=True)
        for name in wanted:
            say(f"{name}: {FIGURES[name].about}")
            try:
                findings.add(FIGURES[name].measure(lab))
            except Exception as error:  # the others are none the worse for it
                traceback.print_exc()
                findings.failed.append(f"{name}: {error!r}")
    print(f"\n{report.table(findings)}\n")
    for note in findings.notes:
        print(f"note: {note}")
    for loss in findings.lost:
        print(f"LOST: {loss}")
    for failure in findings.failed:
        print(f"not measured: {failure}")
    report.write(OUTPUT, about, findings, PEERS_PYTHON)
    print(f"bench: {time.monotonic() - began:.0f} s; table, values, plots: {OUTPUT.relative_to(Path.cwd())}")
    return 1 if findings.lost or findings.failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help="one or more; by default all but growth")
    parser.add_argument("--rounds", type=int, help="of every figure, instead of its usual number")
    parser.add_argument("--count", type=int, help="workitems of every throughput run, instead of its usual number")
    parser.add_argument("--quick", action="store_true", help="small counts, one round: does the harness work?")
    parser.add_argument("--all", action="store_true", help="growth too")
    parser.add_argument("--list", action="store_true", help="name the figures and exit")
    arguments = parser.parse_args()
    if unknown := set(arguments.figures) - FIGURES.keys():
        parser.error(f"unknown figure: {', '.join(sorted(unknown))}; see --list")
    return arguments


@contextmanager
def _lab(arguments: argparse.Namespace) -> Iterator[Lab]:
    """Everything that a figure needs; nothing of it is left afterwards."""
    processes.adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends in good order what was started
    directory = Path(tempfile.mkdtemp(prefix="taskqueue-bench-", dir="/var/tmp"))
    directory.chmod(0o755)
    broker_directory = OUTPUT / f"broker-{os.getpid()}"
    try:
        programs = Programs(OUTPUT / "bin")
        installation = Installation(directory)
        with PrivateBroker(broker_directory) as broker:
            yield Lab(
                directory, broker, installation, programs, PEERS_PYTHON,
                quick=arguments.quick, rounds=arguments.rounds, count=arguments.count,
            )  # fmt: skip
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        shutil.rmtree(broker_directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
