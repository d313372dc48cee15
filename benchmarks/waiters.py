"""Measures many runners that wait for work: how fast one of them has it, and what the waiting costs."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from benchmarks.curves import Curve, Growth, Panel
from benchmarks.growth import Extent, open_more
from benchmarks.measuring import Sample, check_once, percentile
from benchmarks.setting import LEASE_SECONDS, Bench, task, used_memory
from lightning_store.backends.redis.store import RedisLightningStore

WAIT_SECONDS = 10.0
"""How long a claim of `Runner` waits by default."""

_STARTED_AT_ONCE = 50
_START_SECONDS = 60.0
_PICKUP_SECONDS = 30.0
_SHARE = 0.5
"""At least so many of the waiters are seen waiting at once: from time to time each looks for itself."""


class Waiter:
    """A runner that waits for work, with connections of its own."""

    def __init__(self, store: RedisLightningStore, name: str, had: "asyncio.Queue[tuple[str, float]]") -> None:
        self._store = store
        self._name = name
        self._had = had

    async def run(self) -> None:
        """Claim, and tell at once what was claimed and when."""
        while True:
            rollout = await self._store.dequeue_rollout(self._name, timeout=WAIT_SECONDS, lease_seconds=LEASE_SECONDS)
            if rollout is not None:
                self._had.put_nowait((rollout.rollout_id, time.perf_counter()))


@asynccontextmanager
async def waiting(
    bench: Bench, stores: Sequence[RedisLightningStore]
) -> "AsyncGenerator[asyncio.Queue[tuple[str, float]], None]":
    """Let all wait; what they claim comes out of the queue."""
    had: asyncio.Queue[tuple[str, float]] = asyncio.Queue()
    tasks: list[asyncio.Task[None]] = []
    try:
        for number, store in enumerate(stores, 1):
            tasks.append(asyncio.create_task(Waiter(store, f"worker-{number}", had).run()))
            if number % _STARTED_AT_ONCE == 0 or number == len(stores):
                await asyncio.wait_for(_until_waiting(bench, number), _START_SECONDS)
        yield had
    finally:
        for each in tasks:
            each.cancel()
        for each in tasks:
            with suppress(asyncio.CancelledError):
                await each


async def measure_waiters(bench: Bench, extent: Extent) -> Growth:
    """Pickups among so many waiting runners; and what each of the most that were waiting costs the server."""
    p50: dict[float, Sample] = {}
    p99: dict[float, Sample] = {}
    load: dict[float, Sample] = {}
    idle: list[Idle] = []
    producer = bench.store("waiters")
    await producer.statistics()
    unused = await used_memory(bench)
    stores: list[RedisLightningStore] = []
    for number in extent.waiters:
        await open_more(bench, "waiters", stores, number)
        async with waiting(bench, stores) as had:
            rounds = [await _pickups(producer, had, extent.pickups) for _ in range(extent.rounds)]
            p50[number] = Sample(tuple(1e3 * percentile(latencies, 50) for latencies in rounds))
            p99[number] = Sample(tuple(1e3 * percentile(latencies, 99) for latencies in rounds))
            idle = [await _idle(bench, extent.idle_seconds / extent.rounds) for _ in range(extent.rounds)]
            load[number] = Sample(tuple(100 * each.processor for each in idle))
            memory = await used_memory(bench) - unused
    curve = Curve(
        "waiters",
        "Runners that wait for work",
        "runners that wait",
        [
            Panel("latency", "ms", {"pickup, p50": p50, "pickup, p99": p99}, is_log=True),
            Panel("processor", "% of a core", {"Redis, while nothing happens": load}),
        ],
    )
    seconds = len(idle) * len(stores)
    sizes = {
        "waiting runner with two connections, bytes": memory / len(stores),
        "waiting runner, commands per second": sum(each.commands for each in idle) / seconds,
        "waiting runner, µs of Redis CPU per second": 1e6 * sum(each.processor for each in idle) / seconds,
    }
    return Growth(curves=[curve], sizes=sizes)


@dataclass(frozen=True)
class Idle:
    """What the server did per second: a share of a core, and commands that clients sent."""

    processor: float
    commands: float


async def _idle(bench: Bench, seconds: float) -> Idle:
    """Watch for so long. A waiting runner sends a blocking pop and a claim."""
    processor, commands, before = await bench.redis_cpu(), await bench.client_commands(), time.perf_counter()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - before
    return Idle((await bench.redis_cpu() - processor) / took, (await bench.client_commands() - commands) / took)


async def _pickups(
    producer: RedisLightningStore, had: "asyncio.Queue[tuple[str, float]]", count: int
) -> Sequence[float]:
    """Enqueue one rollout at a time; the seconds until somebody had it."""
    latencies: list[float] = []
    put_in: list[str] = []
    came_out: list[str] = []
    for number in range(count):
        await asyncio.sleep(random.uniform(0.02, 0.04))  # noqa: S311 - who had the last one waits again, and no secret
        before = time.perf_counter()
        put_in.append((await producer.enqueue_rollout(task(number))).rollout_id)
        rollout_id, when = await asyncio.wait_for(had.get(), _PICKUP_SECONDS)
        came_out.append(rollout_id)
        latencies.append(when - before)
    assert had.empty()
    check_once(put_in, came_out)
    return latencies


async def _until_waiting(bench: Bench, number: int) -> None:
    while await bench.blocked_clients() < _SHARE * number:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.05)
