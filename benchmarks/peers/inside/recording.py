"""What every contender has in common in its own environment: settings, a record of the jobs that ran, a feeder.

Only the standard library is imported here, because the environments hold nothing but one contender each.
"""

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

URL = os.environ.get("BENCH_REDIS_URL", "")
RESULTS = os.environ.get("BENCH_RESULTS") == "stored"
"""Whether results of jobs are to be stored."""

WARM_UP = 0.1
"""Share of the jobs that run, and are enqueued, before the clock starts."""

PICKUP_GAP_SECONDS = 0.02

Give = tuple[Callable[[int], Awaitable[object]], Callable[[int, float], Awaitable[object]]]
"""How to enqueue job number n, and pickup number n with the time of its enqueuing."""


class Record:
    """The jobs that this worker process ran; a file is written when all that are expected were there."""

    def __init__(self) -> None:
        self._folder = Path(os.environ["BENCH_FOLDER"])
        self._expected_jobs = int(os.environ["BENCH_JOBS"])
        self._untimed = warm_up(self._expected_jobs)
        self._expected_pickups = int(os.environ["BENCH_PICKUPS"])
        self._lock = threading.Lock()  # some workers have threads
        self._jobs: list[int] = []
        self._pickups: list[int] = []
        self._latencies: list[float] = []
        self._first = self._first_cpu = 0.0

    def job(self, number: int) -> None:
        """Note a job that begins now."""
        now = time.monotonic()
        with self._lock:
            self._jobs.append(number)
            if len(self._jobs) == self._untimed:
                self._first, self._first_cpu = now, time.process_time()
            if len(self._jobs) == self._expected_jobs:
                found = {
                    "ids": self._jobs,
                    "timed": self._expected_jobs - self._untimed,
                    "seconds": now - self._first,
                    "cpu_seconds": time.process_time() - self._first_cpu,
                }
                self._write("jobs", found)

    def pickup(self, number: int, sent: float) -> None:
        """Note a pickup that begins now; `sent` is by the clock that all processes of a machine share."""
        now = time.monotonic()
        with self._lock:
            self._pickups.append(number)
            self._latencies.append(now - sent)
            if len(self._pickups) == self._expected_pickups:
                found = {"ids": self._pickups, "latencies": self._latencies, "jobs": len(self._jobs)}
                self._write("pickups", found)

    def _write(self, name: str, found: dict[str, object]) -> None:
        """Under its name the file is whole."""
        unfinished = self._folder / f"{name}.unfinished"
        unfinished.write_text(json.dumps(found), encoding="utf-8")
        unfinished.rename(self._folder / f"{name}.json")


async def feed(give: Give) -> None:
    """Enqueue what the lines of the input ask for, `jobs 100` or `pickups 50`, one at a time."""
    job, pickup = give
    for line in sys.stdin:
        kind, count = line.split()
        started, untimed = 0.0, warm_up(int(count))
        for number in range(int(count)):
            if kind == "jobs":
                await job(number)
            else:
                await asyncio.sleep(PICKUP_GAP_SECONDS)
                await pickup(number, time.monotonic())
            if number + 1 == untimed:
                started = time.perf_counter()
        answer({"timed": int(count) - untimed, "seconds": time.perf_counter() - started})


def warm_up(count: int) -> int:
    """How many of so many are not timed."""
    return max(1, int(WARM_UP * count))


def answer(value: object) -> None:
    """Tell the benchmark; lines without the mark are what libraries print."""
    print(f"@{json.dumps(value)}", flush=True)
