"""The results as a page."""

import math
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version

from benchmarks.measuring import Figure, Part, Sample
from benchmarks.setting import Bench


async def render(bench: Bench, parts: Sequence[Part], command: str) -> str:
    """The page with all figures, how they were made and on what."""
    lines = [
        "# Results",
        "",
        f"Written by `{command}`. Each figure stands beside its limit or its peer, measured in the same run in turns "
        f"(A B A B ...): medians of {bench.sizes.rounds} rounds after one to warm up, with the lowest and the highest "
        "round. "
        "Ratios are taken round by round; they hold on a machine that is shared, single rates do not. Each round "
        "checks that exactly what was put in came out, once.",
        "",
        *(f"- {fact}" for fact in await facts(bench)),
        "",
    ]
    lines += render_goals(parts)
    for part in parts:
        lines += _render_part(part)
    return "\n".join(lines)


async def facts(bench: Bench) -> list[str]:
    """What the figures were taken with."""
    server = await bench.info("server")
    allocator = (await bench.info("memory"))["mem_allocator"]
    aof = (await bench.info("persistence"))["aof_enabled"] == "1"
    return [
        f"Redis {server['redis_version']}, append-only file {'on' if aof else 'off'}, "
        f"{server['arch_bits']} bit, memory from {allocator}",
        f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in ("redis", "hiredis")),
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, shared by server, clients and whatever "
        "else runs",
        f"load in the last 15 minutes: {os.getloadavg()[2]:.1f}",
    ]


def render_goals(parts: Sequence[Part]) -> list[str]:
    """Every goal with what was reached, and what could not be measured."""
    rows = [
        f"| {part.title}: {figure.name} | {show(figure.held)}{_unit_of(figure)} | {_goal(figure, part.beside)} |"
        for part in parts
        for figure in part.figures
        if figure.goal
    ]
    missing = dict.fromkeys(f"- Not measured: {each}" for part in parts for each in part.missing)
    lines = ["## Goals", "", "| figure | reached | goal |", "|---|---:|---:|", *rows, ""] if rows else []
    return [*lines, *missing, ""] if missing else lines


def _unit_of(figure: Figure) -> str:
    return f" {figure.unit}" if figure.goal and figure.goal.of == "store" else ""


def _render_part(part: Part) -> list[str]:
    lines = [f"## {part.title}", ""]
    if part.text:
        lines += [part.text, ""]
    if part.limit:
        lines += [f"{part.beside.capitalize()}: {part.limit}.", ""]
    if part.missing:
        lines += [*(f"- Not measured: {each}" for each in part.missing), ""]
    if not part.figures:
        return lines
    limited = any(figure.limit for figure in part.figures)
    goals = any(figure.goal for figure in part.figures)
    beside = [part.beside, f"store / {part.beside}"] if limited else []
    titles = ["figure", "unit", "store", *beside, *(["goal"] if goals else [])]
    lines += ["| " + " | ".join(titles) + " |", "|---|---|" + "---:|" * (len(titles) - 2)]
    for figure in part.figures:
        cells = [figure.name, figure.unit, show(figure.store)]
        if limited:
            cells += [show(figure.limit), show(figure.ratio)]
        if goals:
            cells.append(_goal(figure, part.beside))
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _goal(figure: Figure, beside: str) -> str:
    goal = figure.goal
    if goal is None:
        return ""
    bound = f"≤ {goal.most:,g}" if goal.most < math.inf else f"≥ {goal.least:,g}"
    measure = f" x {beside}" if goal.of == "ratio" else f" {figure.unit}"
    return f"{bound}{measure}: {'met' if figure.is_met else '**missed**'}"


def show(sample: Sample | None) -> str:
    """Median and range with three digits."""
    if sample is None:
        return ""
    if len(sample.values) == 1:
        return _number(sample.median)
    return f"**{_number(sample.median)}** ({_number(sample.low)} to {_number(sample.high)})"


def _number(value: float) -> str:
    for limit, digits in ((100, 0), (10, 1), (0, 2)):
        if abs(value) >= limit:
            return f"{value:,.{digits}f}"
    return f"{value}"
