"""What an import and the start of the command line take beyond the interpreter."""

import asyncio
import subprocess
import sys
import time

from benchmarks.measuring import Figure, Goal, Part, Sample, in_turns
from benchmarks.setting import Bench


async def measure_starting(bench: Bench) -> Part:
    """Import and `--help`, each beside an interpreter that does nothing."""
    seconds = await in_turns(
        bench.sizes.rounds,
        nothing=lambda: _run("-c", "pass"),
        imported=lambda: _run("-c", "import lightning_store"),
        command=lambda: _run("-m", "lightning_store", "--help"),
    )

    def beyond(name: str) -> Sample:
        pairs = zip(seconds[name], seconds["nothing"], strict=True)
        return Sample(tuple(1e3 * (each - nothing) for each, nothing in pairs))

    return Part(
        "Starting",
        "",
        "Wall time of a fresh process, beyond that of an interpreter that does nothing, in turns.",
        [
            Figure("`import lightning_store`", "ms", beyond("imported"), goal=Goal("store", 150)),
            Figure("`lightning-store --help`", "ms", beyond("command"), goal=Goal("store", 250)),
        ],
    )


async def _run(*arguments: str) -> float:
    before = time.perf_counter()
    await asyncio.to_thread(subprocess.run, [sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - before
