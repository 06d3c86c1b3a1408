"""What was found, as data: spreads of repeated measurements, rows of the table, curves for the plots. No measuring."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Spread:
    """One value of each round."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """From any values; at least one."""
        return cls(tuple(values))

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """The smallest."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The largest."""
        return max(self.values)


@dataclass(frozen=True)
class Target:
    """A bound on the ratio of the medians, ours to theirs, or (`of_ratio` False) on our median alone."""

    at_least: float | None = None
    at_most: float | None = None
    of_ratio: bool = True

    def reached(self, ratio: float | None, ours: float) -> bool | None:
        """Whether it is met; None where there is nothing to compare with."""
        value = ratio if self.of_ratio else ours
        if value is None:
            return None
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        """As in the table."""
        sign, bound = ("≥", self.at_least) if self.at_least is not None else ("≤", self.at_most)
        return f"{sign} {bound:g}{'x' if self.of_ratio else ''}"


@dataclass(frozen=True)
class Row:
    """One line of the table. Where `peer` is a schedule or a limit and no program, it stands there all the same."""

    figure: str
    what: str
    unit: str
    ours: Spread
    peer: str = ""
    theirs: Spread | None = None
    target: Target | None = None

    @property
    def ratio(self) -> float | None:
        """Our median by theirs."""
        return self.ours.median / self.theirs.median if self.theirs is not None and self.theirs.median else None

    @property
    def reached(self) -> bool | None:
        """Whether the target is; None where there is none."""
        return self.target.reached(self.ratio, self.ours.median) if self.target is not None else None


def rows_of(
    figure: str, what: str, unit: str, found: Mapping[str, Sequence[float]], target: Target | None = None
) -> list[Row]:
    """The first contender, which is ours, beside each of the others; `found` has the values of the rounds by name."""
    (_, ours), *others = found.items()
    return [Row(figure, what, unit, Spread.of(ours), name, Spread.of(theirs), target) for name, theirs in others]


@dataclass(frozen=True)
class Curve:
    """One line of a plot."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Plot:
    """Curves that share their axes. `log_x`: the x axis is logarithmic."""

    name: str
    title: str
    x: str
    y: str
    curves: Sequence[Curve]
    log_x: bool = False


@dataclass
class Findings:
    """Of one figure, or of all. `lost` are our own losses, `failed` are figures that could not be measured: these fail
    a run, a target that was not reached does not."""

    rows: list[Row] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        """Take in those of one more figure."""
        self.rows += other.rows
        self.plots += other.plots
        self.notes += other.notes
        self.lost += other.lost
        self.failed += other.failed
