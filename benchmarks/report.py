"""The results as a page."""

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
        f"Written by `{command}`. Each figure stands beside its limit, measured in the same run in turns (A B A B "
        f"...): medians of {bench.sizes.rounds} rounds after one to warm up, with the lowest and the highest round. "
        "Ratios are taken round by round; they hold on a machine that is shared, single rates do not. Each round "
        "checks that exactly what was put in came out, once.",
        "",
        *(f"- {fact}" for fact in await facts(bench)),
        "",
    ]
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


def _render_part(part: Part) -> list[str]:
    lines = [f"## {part.title}", ""]
    if part.text:
        lines += [part.text, ""]
    if part.limit:
        lines += [f"Limit: {part.limit}.", ""]
    limited = any(figure.limit for figure in part.figures)
    goals = any(figure.goal for figure in part.figures)
    titles = ["figure", "unit", "store", *(["limit", "store / limit"] if limited else []), *(["goal"] if goals else [])]
    lines += ["| " + " | ".join(titles) + " |", "|---|---|" + "---:|" * (len(titles) - 2)]
    for figure in part.figures:
        cells = [figure.name, figure.unit, show(figure.store)]
        if limited:
            cells += [show(figure.limit), show(figure.ratio)]
        if goals:
            cells.append(_goal(figure))
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _goal(figure: Figure) -> str:
    if figure.goal is None:
        return ""
    most = f"≤ {figure.goal.most:,g}" + (" x limit" if figure.goal.of == "ratio" else f" {figure.unit}")
    return f"{most}: {'met' if figure.is_met else '**missed**'}"


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
