"""Runs the benchmarks: `python -m benchmarks`, about a quarter of an hour."""

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from benchmarks.crowd import measure_crowd
from benchmarks.lives import measure_lives
from benchmarks.measuring import FULL, QUICK, SMOKE, Part
from benchmarks.memory import measure_memory
from benchmarks.pages import measure_pages
from benchmarks.peers.agent_lightning import measure_agent_lightning
from benchmarks.peers.environments import PEERS
from benchmarks.peers.queues import measure_queues
from benchmarks.pickup import measure_pickup
from benchmarks.redis_benchmark import measure_redis_benchmark
from benchmarks.report import render
from benchmarks.round_trips import measure_round_trips
from benchmarks.setting import Bench, server_at
from benchmarks.starting import measure_starting
from benchmarks.sweeps import measure_sweeps
from benchmarks.throughput import (
    measure_claims,
    measure_declared_keys,
    measure_enqueues,
    measure_spans,
)
from benchmarks.waits import measure_waits

RESULTS = Path(__file__).parent / "results.md"

PARTS: dict[str, Callable[[Bench], Awaitable[Part | Sequence[Part]]]] = {
    "claims": measure_claims,
    "redis-benchmark": measure_redis_benchmark,
    "pickup": measure_pickup,
    "crowd": measure_crowd,
    "memory": measure_memory,
    "pages": measure_pages,
    "sweeps": measure_sweeps,
    "enqueues": measure_enqueues,
    "spans": measure_spans,
    "lives": measure_lives,
    "round-trips": measure_round_trips,
    "waits": measure_waits,
    "starting": measure_starting,
    "declared-keys": measure_declared_keys,
    "peers": measure_queues,
    "agent-lightning": measure_agent_lightning,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the results; the exit code is 0 when all checks held, whatever the figures are."""
    options = _parser().parse_args(arguments)
    sizes = SMOKE if options.smoke else QUICK if options.quick else FULL
    # Environments of all peers take minutes to make.
    peers = options.peer or ([] if options.smoke else list(PEERS))
    partial = options.smoke or bool(options.only or options.peer)
    output = options.output or (None if partial else RESULTS)
    with server_at(options.redis_url) as url:
        page = asyncio.run(_measure(Bench(url, sizes, peers), options.only or list(PARTS), _command(options)))
    if output is None:
        print(page)
    else:
        output.write_text(page, encoding="utf-8")
        print(f"Results are in {output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--redis-url", help="a Redis that is there, with nothing else to do; default: the embedded one")
    parser.add_argument("--quick", action="store_true", help="100,000 rollouts instead of 1,000,000 to read pages from")
    parser.add_argument(
        "--smoke", action="store_true", help="see in seconds that everything runs; figures mean nothing"
    )
    parser.add_argument("--only", action="append", choices=PARTS, help="measure this part; can be given again")
    parser.add_argument(
        "--peer",
        action="append",
        choices=PEERS,
        help="measure this peer; can be given again; default: all, or none of a smoke run",
    )
    parser.add_argument("--output", type=Path, help="the page to write; default: results.md here, for full runs")
    return parser


def _command(options: argparse.Namespace) -> str:
    """The command that makes these results, without the URL, which may hold a password."""
    words = [f"--{name}" for name in ("quick", "smoke") if getattr(options, name)]
    words += [f"--only {part}" for part in options.only or ()]
    words += [f"--peer {peer}" for peer in options.peer or ()]
    words += ["--redis-url ..."] if options.redis_url else []
    return f'make bench ARGS="{" ".join(words)}"' if words else "make bench"


async def _measure(bench: Bench, names: Sequence[str], command: str) -> str:
    async with bench:
        parts: list[Part] = []
        for name in names:
            start = time.monotonic()
            measured = await PARTS[name](bench)
            parts += [measured] if isinstance(measured, Part) else measured
            await bench.clear()
            print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        return await render(bench, parts, command)


if __name__ == "__main__":
    sys.exit(main())
