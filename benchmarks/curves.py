"""What grows: curves of throughput, latency and load, and their form in `scaling.json`."""

import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measuring import Sample, percentile
from benchmarks.setting import Bench, Spent

_DIGITS = 4

Points = Mapping[float, Sample]
"""Samples by what grows."""


@dataclass(frozen=True)
class Taken:
    """One round: what the calls took together, and each of them.

    Attributes:
        latencies: Seconds of each call.
    """

    spent: Spent
    latencies: Sequence[float]

    def ms(self, percent: float) -> float:
        """A percentile of the latencies in milliseconds."""
        return 1e3 * percentile(self.latencies, percent)


@dataclass(frozen=True)
class Panel:
    """Lines that share a unit.

    Attributes:
        is_log: Drawn with a logarithmic axis; the other begins at 0.
    """

    title: str
    unit: str
    lines: Mapping[str, Points]
    is_log: bool = False


@dataclass(frozen=True)
class Curve:
    """One picture.

    Attributes:
        name: Of the file.
        grows: What the horizontal axis counts.
    """

    name: str
    title: str
    grows: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Cost:
    """What one call costs the server.

    Attributes:
        micros: Microseconds of its processor.
        bytes_in: From the client, by its own count.
        bytes_out: To the client.
    """

    micros: Sample
    bytes_in: float
    bytes_out: float


@dataclass(frozen=True)
class Growth:
    """Figures of a run, or of a part of it.

    Attributes:
        facts: What they were taken with.
        taken: By part, in how many rounds, how long it took, and how busy the machine was.
        costs: Of single calls, by name.
        sizes: Further figures, by name: bytes, or per second.
    """

    facts: Sequence[str] = ()
    taken: Mapping[str, str] = field(default_factory=dict[str, str])
    curves: Sequence[Curve] = ()
    costs: Mapping[str, Cost] = field(default_factory=dict[str, Cost])
    sizes: Mapping[str, float] = field(default_factory=dict[str, float])

    def renewed(self, other: "Growth") -> "Growth":
        """With what the other one has, in place of what this one has."""
        curves = {curve.name: curve for curve in (*self.curves, *other.curves)}
        return Growth(
            other.facts or self.facts,
            {**self.taken, **other.taken},
            list(curves.values()),
            {**self.costs, **other.costs},
            {**self.sizes, **other.sizes},
        )


async def take(bench: Bench, count: int, step: Callable[[int], Awaitable[object]], *, coroutines: int = 1) -> Taken:
    """Call `step` with 0, 1, ... `count` - 1 from so many coroutines, each call timed."""
    latencies: list[float] = []

    async def timed(number: int) -> None:
        before = time.perf_counter()
        await step(number)
        latencies.append(time.perf_counter() - before)

    spent = await bench.timed(count, timed, coroutines=coroutines)
    return Taken(spent, latencies)


def samples(rounds: Mapping[float, Sequence[Taken]], value: Callable[[Taken], float]) -> Points:
    """A value of each round."""
    return {x: Sample(tuple(map(value, taken))) for x, taken in rounds.items()}


def latency(lines: Mapping[str, Mapping[float, Sequence[Taken]]]) -> Panel:
    """Median and 99th percentile of calls."""
    return Panel(
        "latency",
        "ms",
        {
            f"{name}, p{percent}": samples(rounds, lambda taken, percent=percent: taken.ms(percent))  # type: ignore[misc]
            for name, rounds in lines.items()
            for percent in (50, 99)
        },
        is_log=True,
    )


def busy(lines: Mapping[str, Mapping[float, Sequence[Taken]]]) -> Panel:
    """How much of a core server and client took."""
    return Panel(
        "processor",
        "% of a core",
        {
            **{
                f"Redis, {name}": samples(rounds, lambda taken: 100 * taken.spent.redis_seconds / taken.spent.seconds)
                for name, rounds in lines.items()
            },
            **{
                f"client, {name}": samples(rounds, lambda taken: 100 * taken.spent.client_seconds / taken.spent.seconds)
                for name, rounds in lines.items()
            },
        },
    )


# -- JSON --------------------------------------------------------------------------------------------------------------


def write(path: Path, growth: Growth) -> None:
    """Write the figures."""
    value = {
        "facts": growth.facts,
        "taken": growth.taken,
        "curves": [
            {
                "name": curve.name,
                "title": curve.title,
                "grows": curve.grows,
                "panels": [
                    {
                        "title": panel.title,
                        "unit": panel.unit,
                        "is_log": panel.is_log,
                        "lines": {
                            name: [[x, *_rounded(sample.values)] for x, sample in points.items()]
                            for name, points in panel.lines.items()
                        },
                    }
                    for panel in curve.panels
                ],
            }
            for curve in growth.curves
        ],
        "costs": {
            name: {"micros": _rounded(cost.micros.values), "in": round(cost.bytes_in), "out": round(cost.bytes_out)}
            for name, cost in growth.costs.items()
        },
        "sizes": {name: _short(size) for name, size in growth.sizes.items()},
    }
    path.write_text(_compact(json.dumps(value, indent=1, ensure_ascii=False)) + "\n", encoding="utf-8")


def read(path: Path) -> Growth:
    """Read the figures."""
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Growth(
        value["facts"],
        value["taken"],
        [_curve(curve) for curve in value["curves"]],
        {name: Cost(Sample(tuple(cost["micros"])), cost["in"], cost["out"]) for name, cost in value["costs"].items()},
        value["sizes"],
    )


def _curve(value: Mapping[str, Any]) -> Curve:
    panels = [
        Panel(
            panel["title"],
            panel["unit"],
            {name: {x: Sample(tuple(values)) for x, *values in points} for name, points in panel["lines"].items()},
            panel["is_log"],
        )
        for panel in value["panels"]
    ]
    return Curve(value["name"], value["title"], value["grows"], panels)


def _rounded(values: Sequence[float]) -> list[float]:
    return [_short(value) for value in values]


def _short(value: float) -> float:
    short = float(f"{value:.{_DIGITS}g}")
    return int(short) if short.is_integer() else short


def _compact(text: str) -> str:
    """A list of numbers on one line."""
    return re.sub(r"\[[\s\d.,e+-]+\]", lambda match: " ".join(match[0].split()), text)
