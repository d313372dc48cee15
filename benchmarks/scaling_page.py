"""Renders the figures of growth as the tables of docs/scaling.md."""

from collections.abc import Sequence

from benchmarks.curves import Curve, Growth
from lightning_store.generate import with_table

_THREE = 100
_TWO = 10


def with_tables(page: str, growth: Growth) -> str:
    """The page with the tables of these figures between its markers."""
    tables = {"taken": _facts(growth.facts), "costs": _costs(growth)}
    for curve in growth.curves:
        tables[curve.name] = _table(curve)
    for name, table in tables.items():
        page = with_table(page, f"scaling-{name}", table)
    return page


def _facts(facts: Sequence[str]) -> str:
    return "".join(f"- {fact}\n" for fact in facts)


def _table(curve: Curve) -> str:
    """One row per line of the picture, medians only."""
    xs = sorted({x for panel in curve.panels for points in panel.lines.values() for x in points})
    rows = [[curve.grows, *(f"{x:,g}" for x in xs)]]
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


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = [head, ["---", *("---:" for _ in head[1:])], *body]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def _number(value: float) -> str:
    if value >= _THREE:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= _TWO else f"{value:.2f}"
