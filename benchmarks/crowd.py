"""What waiting for work costs the server: one idle runner, and ten thousand claimers that wait at once."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from benchmarks.measuring import Figure, Goal, Part, Sample, check_once
from benchmarks.setting import LEASE_SECONDS, Bench, task
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.records import AttemptedRollout
from lightning_store.runner.runner import Runner

STORES = 8
"""So many stores share the claimers, each with one connection that waits for all of its own."""

_PART = "crowd"
_WAIT_SECONDS = 600.0
_START_SECONDS = 60.0
_LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class _Crowd:
    """What the claimers did.

    Attributes:
        started: Commands until all of them waited.
        commands: Commands from then on, enqueues left out.
        seconds: From the first enqueue to the last claim.
    """

    started: int
    commands: int
    seconds: float


async def measure_crowd(bench: Bench) -> Part:
    """Commands of an idle runner, and per claim of a crowd that waits."""
    idle = await _idle_runner(bench)
    count = bench.sizes.claimers
    stores = [bench.store(_PART) for _ in range(STORES)]
    producer = bench.store(_PART)
    crowd = await _crowd(bench, stores, producer)
    return Part(
        "Waiting for work",
        "",
        f"A `Runner` without work is watched for {bench.sizes.idle_seconds:g} s. Then {count:,} coroutines of one "
        f"process, which share {STORES} stores, call `dequeue_rollout(timeout=..., lease_seconds=...)`; once all of "
        f"them wait, {count:,} rollouts are enqueued one at a time by the same process, in one round, because what is "
        "counted does not vary. Each claimer claims once and each rollout is claimed once. Counted are the commands "
        "that clients send, scripts and blocking reads, without the enqueues. A claim takes two: the blocking read "
        "that is woken and the script sent along with it; a herd would take more for each claimer that is woken in "
        "vain. A store waits on one connection, however many of its claimers wait, so open files are no limit.",
        [
            Figure("an idle runner", "commands per second", Sample((idle,)), goal=Goal("store", 1)),
            Figure(
                f"{count:,} waiting claimers, {count:,} rollouts enqueued singly",
                "commands per claim",
                Sample((crowd.commands / count,)),
                goal=Goal("store", 2.2),
            ),
            Figure("... to begin to wait, all at once", "commands per claimer", Sample((crowd.started / count,))),
            Figure("... enqueued and claimed by one process", "per second", Sample((count / crowd.seconds,))),
        ],
    )


async def _idle_runner(bench: Bench) -> float:
    """Commands per second of a runner that has no work."""
    runner = Runner(bench.store("idle"), _no_agent)
    others = await bench.blocked_clients()
    running = asyncio.ensure_future(runner.run())
    try:
        await asyncio.wait_for(_until_blocked(bench, others + 1), _START_SECONDS)
        commands, before = await bench.client_commands(), time.perf_counter()
        await asyncio.sleep(bench.sizes.idle_seconds)
        return (await bench.client_commands() - commands) / (time.perf_counter() - before)
    finally:
        runner.stop()
        await running


async def _no_agent(*_: object) -> None:
    raise AssertionError("there is no work")


async def _crowd(bench: Bench, stores: Sequence[RedisLightningStore], producer: RedisLightningStore) -> _Crowd:
    count = bench.sizes.claimers
    others, before = await bench.blocked_clients(), await bench.client_commands()
    claimers = [
        asyncio.ensure_future(
            stores[number % len(stores)].dequeue_rollout(
                f"worker-{number}", timeout=_WAIT_SECONDS, lease_seconds=LEASE_SECONDS
            )
        )
        for number in range(count)
    ]
    try:
        waiting = await asyncio.wait_for(_until_all_wait(bench, others + len(stores)), _START_SECONDS)
        started = time.perf_counter()
        put_in = [(await producer.enqueue_rollout(task(number))).rollout_id for number in range(count)]
        claimed = await asyncio.gather(*claimers)
        seconds = time.perf_counter() - started
        commands = await bench.client_commands() - waiting - count
    finally:
        await _end(claimers)
    check_once(put_in, [each.rollout_id if each else "" for each in claimed])
    return _Crowd(waiting - before, commands, seconds)


async def _until_all_wait(bench: Bench, blocked: int) -> int:
    """Return when each store waits and nobody looks for work any more; the commands that the server has had then."""
    await _until_blocked(bench, blocked)
    before = -1
    while (commands := await bench.client_commands()) != before:
        before = commands
        await asyncio.sleep(_LOOK_SECONDS)
    assert await bench.blocked_clients() <= blocked
    return commands


async def _until_blocked(bench: Bench, number: int) -> None:
    while await bench.blocked_clients() < number:  # noqa: ASYNC110 - the server tells nobody
        await asyncio.sleep(_LOOK_SECONDS)


async def _end(claimers: "Sequence[asyncio.Future[AttemptedRollout | None]]") -> None:
    for each in claimers:
        each.cancel()
    for each in claimers:
        with suppress(asyncio.CancelledError):
            await each
