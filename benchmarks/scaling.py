"""Measures how speed changes with runners, queues, rollouts and spans: `python -m benchmarks.scaling`, ten minutes.

Writes the figures, and from them the pictures and the tables of docs/scaling.md. Claimers are coroutines in this one
process, which has about one core for all of them; server and client share the machine.
"""

import argparse
import asyncio
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from benchmarks.costs import measure_costs
from benchmarks.curves import Curve, Growth, read, write
from benchmarks.growth import FULL, SMOKE, Extent, kept_curve, queue_curve, runners_curve, spans_curve
from benchmarks.measuring import FULL as SIZES
from benchmarks.report import facts
from benchmarks.scaling_page import with_tables
from benchmarks.setting import Bench, server_at
from benchmarks.waiters import measure_waiters

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "scaling.json"
PAGE = ROOT / "docs" / "scaling.md"
PICTURES = ROOT / "docs" / "scaling"

CURVES: dict[str, Callable[[Bench, Extent], Awaitable[Curve]]] = {
    "runners": runners_curve,
    "queue": queue_curve,
    "kept": kept_curve,
    "spans": spans_curve,
}
PARTS = (*CURVES, "waiters", "costs")

_SPARE_FILES = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write figures, pictures and tables; the exit code is 0 when all checks held."""
    options = _parser().parse_args(arguments)
    parts = () if options.draw_only else options.only or PARTS
    extent = SMOKE if options.smoke else FULL
    measured = Growth()
    if parts:
        _allow_connections(2 * max(extent.waiters) + _SPARE_FILES)
        with server_at(options.redis_url) as url:
            measured = asyncio.run(_measure(url, extent, parts))
    is_part = len(parts) < len(PARTS) and options.folder is None
    growth = read(RESULTS).renewed(measured) if is_part else measured
    if options.smoke and options.folder is None:
        print("All ran, and nothing was lost; figures of so few calls mean nothing and are not written")
    else:
        _write(growth, options.folder)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--redis-url", help="a Redis that is there, with nothing else to do; default: the embedded one")
    parser.add_argument("--smoke", action="store_true", help="see in seconds that everything runs; writes nothing")
    parser.add_argument("--only", action="append", choices=PARTS, help="measure this part; can be given again")
    parser.add_argument("--draw-only", action="store_true", help="pictures and tables from the figures that are there")
    parser.add_argument("--folder", type=Path, help="write figures and pictures there, and no page")
    return parser


def _write(growth: Growth, folder: Path | None) -> None:
    from benchmarks.drawing import draw  # noqa: PLC0415 - slow to import, and not there without the extra `demo`

    results, pictures = (RESULTS, PICTURES) if folder is None else (folder / RESULTS.name, folder)
    pictures.mkdir(parents=True, exist_ok=True)
    write(results, growth)
    growth = read(results)  # as it is kept, and would be drawn again
    for curve in growth.curves:
        draw(curve, pictures)
    if folder is None:
        PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), growth), encoding="utf-8")
    print(f"Figures are in {results}, pictures in {pictures}")


def _allow_connections(wanted: int) -> None:
    """Let this process, and the server that it starts, hold so many files open.

    Raises:
        SystemExit: The machine does not allow it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise SystemExit(f"{wanted:,} open files are needed, and ulimit -Hn allows {hard:,}")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _measure(url: str, extent: Extent, parts: Sequence[str]) -> Growth:
    growth = Growth()
    async with Bench(url, SIZES) as bench:
        *machine, _ = await facts(bench)  # the load is told for each part
        for name in parts:
            began, load = time.monotonic(), os.getloadavg()[0]
            growth = growth.renewed(await _part(bench, extent, name))
            await bench.clear()
            seconds, after = time.monotonic() - began, os.getloadavg()[0]
            taken = f"{extent.rounds} rounds, {seconds:.0f} s in all; load {load:.1f} before, {after:.1f} after."
            growth = growth.renewed(Growth(machine, {name: taken}))
            print(f"{name}: {taken}", file=sys.stderr, flush=True)
    return growth


async def _part(bench: Bench, extent: Extent, name: str) -> Growth:
    if name in CURVES:
        return Growth(curves=[await CURVES[name](bench, extent)])
    return await (measure_waiters if name == "waiters" else measure_costs)(bench, extent)


if __name__ == "__main__":
    sys.exit(main())
