"""Renders the figures of growth as the tables of docs/scaling.md."""

import subprocess
import sys
from collections.abc import Sequence

from benchmarks.curves import Curve, Growth
from lightning_store.generate import with_table

EXAMPLES = {
    "example": "--rollouts-per-second 50 --spans-per-rollout 20 --span-bytes 1000 --keep 100000 --hosts 100",
    "thousand": "--rollouts-per-second 50 --spans-per-rollout 20 --span-bytes 1000 --keep 100000 "
    "--hosts 1000 --processes 4 --concurrency 2",
}
"""What the page lets the calculator reckon."""

_THREE = 100
_TWO = 10


def with_tables(page: str, growth: Growth) -> str:
    """The page with the tables of these figures between its markers."""
    tables = {"taken": _facts(growth.facts), "costs": _costs(growth) + _taken(growth, "costs")}
    tables |= {name: _run(f"capacity {options}") for name, options in EXAMPLES.items()}
    for curve in growth.curves:
        tables[curve.name] = _table(curve) + _taken(growth, curve.name)
    for name, table in tables.items():
        page = with_table(page, f"scaling-{name}", table)
    return page


def _facts(facts: Sequence[str]) -> str:
    return "".join(f"- {fact}\n" for fact in facts)


def _taken(growth: Growth, part: str) -> str:
    return f"\n{growth.taken[part]}\n"


def _table(curve: Curve) -> str:
    """One row per line of the picture, medians only."""
    xs = sorted({x for panel in curve.panels for points in panel.lines.values() for x in points})
    rows = [[curve.grows, *(f"{x:,.0f}" for x in xs)]]
    for panel in curve.panels:
        for name, points in panel.lines.items():
            rows.append([f"{name}: {panel.unit}", *(_number(points[x].median) if x in points else "" for x in xs)])
    return _markdown(rows)


def _costs(growth: Growth) -> str:
    rows = [["call", "Redis CPU, µs", "from the client, B", "to the client, B"]]
    for name, cost in growth.costs.items():
        rows.append([name, _number(cost.micros.median), f"{cost.bytes_in:,.0f}", f"{cost.bytes_out:,.0f}"])
    sizes = [["figure", "value"], *([name, _number(value)] for name, value in growth.sizes.items())]
    return f"{_markdown(rows)}\n{_markdown(sizes)}"


def _run(words: str) -> str:
    """A command of ours with what it prints, as a block that the tests run again."""
    command = [sys.executable, "-m", "lightning_store", *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own
    return f"```console\n$ lightning-store {words}\n{done.stdout}```\n"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = [head, ["---", *("---:" for _ in head[1:])], *body]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def _number(value: float) -> str:
    if value >= _THREE:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= _TWO else f"{value:.2f}"
