"""Arithmetic of measurements: medians, ratios, and the comparison with what was accepted."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

#: A figure that is worse by more than this part of the accepted one is named.
TOLERANCE: Final = 0.15
#: Figures of which more is better; of all others, less is.
MORE_IS_BETTER: Final = frozenset({"jobs_per_second", "submits_per_second"})


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The median of some runs, and how far they lay apart."""

    median: float
    least: float
    most: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Returns the spread of some values, of which there is at least one."""
        return cls(
            median=statistics.median(values), least=min(values), most=max(values), runs=len(values)
        )

    def to_json(self) -> dict[str, float]:
        return {
            "median": round(self.median, 3),
            "min": round(self.least, 3),
            "max": round(self.most, 3),
            "runs": self.runs,
        }


#: Name of a figure → its spread.
Figures = Mapping[str, Spread]


def spreads(runs: Iterable[Mapping[str, float]]) -> dict[str, Spread]:
    """Returns the spread of every figure over the runs that have it."""
    values: dict[str, list[float]] = {}
    for run in runs:
        for name, value in run.items():
            values.setdefault(name, []).append(value)
    return {name: Spread.of(found) for name, found in values.items()}


def percentile(values: Iterable[float], part: float) -> float:
    """Returns the smallest value that at least this part of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def ratios(figures: Figures, floor: Figures) -> dict[str, float]:
    """Returns each figure's median as a multiple of the floor's; without those that has none of."""
    return {
        name: round(spread.median / floor[name].median, 3)
        for name, spread in figures.items()
        if name in floor and floor[name].median > 0
    }


@dataclass(frozen=True, kw_only=True)
class Worse:
    """A ratio that got worse by more than is tolerated."""

    name: str
    accepted: float
    now: float

    @property
    def by(self) -> float:
        """By how much of the accepted one."""
        return abs(self.now - self.accepted) / self.accepted if self.accepted else math.inf

    def __str__(self) -> str:
        return f"{self.name}: {self.accepted:g} accepted, {self.now:g} now, {self.by:.0%} worse"


def worse(now: Mapping[str, float], accepted: Mapping[str, float]) -> list[Worse]:
    """Returns what got worse, the worst first; names end with the figure, after a slash."""
    found = []
    for name in now.keys() & accepted.keys():
        more_is_better = name.rpartition("/")[2] in MORE_IS_BETTER
        one = Worse(name=name, accepted=accepted[name], now=now[name])
        is_worse = one.now < one.accepted if more_is_better else one.now > one.accepted
        if is_worse and one.by > TOLERANCE:
            found.append(one)
    return sorted(found, key=lambda one: (-one.by, one.name))


def not_measured(now: Mapping[str, float], accepted: Mapping[str, float]) -> list[str]:
    """Returns what was accepted once and is not there now: none gets lost in silence."""
    return sorted(accepted.keys() - now.keys())
