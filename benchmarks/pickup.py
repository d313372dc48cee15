"""How fast an idle runner picks up work: one process waits, another enqueues."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from itertools import chain
from multiprocessing.connection import Connection

import redis.asyncio as aioredis

from benchmarks import limits
from benchmarks.idle_runner import idle_runner
from benchmarks.measuring import Figure, Goal, Part, Sample, check_once, in_turns, percentile
from benchmarks.setting import Bench, task

IDLE_SECONDS = 30.0
"""Longest time until a runner process has started and waits."""

Give = Callable[[int], Awaitable[str]]


async def measure_pickup(bench: Bench) -> Part:
    """Latency of a pickup beside a bare BLPOP, and beside the least that a safe claim could be."""
    tokens, queue, records = (bench.key("pickup", kind) for kind in ("tokens", "queue", "record:"))
    plain_queue = bench.key("pickup", "plain-queue")
    store = bench.store("pickup")
    client = aioredis.Redis.from_url(bench.url)

    async def enqueue(number: int) -> str:
        return (await store.enqueue_rollout(task(number))).rollout_id

    async def push_plainly(number: int) -> str:
        await client.rpush(plain_queue, str(number))
        return str(number)

    async def push(number: int) -> str:
        await bench.bare.command("RPUSH", queue, number)
        return str(number)

    async def offer(number: int) -> str:
        await bench.bare.run(limits.OFFER.call(queue=queue, tokens=tokens, id=number))
        return str(number)

    with ExitStack() as stack:
        runner = stack.enter_context(idle_runner("store", bench.url, bench.namespace("pickup")))
        plain = stack.enter_context(idle_runner("plain", bench.url, plain_queue))
        popper = stack.enter_context(idle_runner("pop", bench.url, queue))
        claimer = stack.enter_context(idle_runner("claim", bench.url, tokens, queue, records))
        taken = await in_turns(
            bench.sizes.rounds,
            store=lambda: _pickups(bench, runner, enqueue),
            plain=lambda: _pickups(bench, plain, push_plainly),
            pop=lambda: _pickups(bench, popper, push),
            claim=lambda: _pickups(bench, claimer, offer),
        )
    await client.aclose()
    figures = [
        *_figures("pickup by an idle runner", taken["store"], taken["plain"]),
        *_figures("... beside RPUSH and BLPOP on the store's own connections", taken["store"], taken["pop"]),
        *_figures(
            "... beside a safe claim: BLPOP of a hint, then LPOP + HSET",
            taken["store"],
            taken["claim"],
            (Goal("ratio", 1.15), Goal("ratio", 1.3)),
        ),
    ]
    return Part(
        "Pickup by an idle runner",
        "a bare BLPOP, fed by RPUSH, between two processes like those of the store, with redis-py as it comes",
        "The runner waits in `dequeue_rollout(timeout=..., lease_seconds=...)`, as `Runner` does, in a process of its "
        "own. The time runs from just before the enqueuing call to the return of the waiting one, so both calls are "
        "part of it. The store's connections take less time than redis-py's clients; a second limit is the same pair "
        "on those. A bare BLPOP loses what it popped when its process dies at that moment; the third limit is the "
        "least that a claim in two steps can take which loses nothing. p99 is taken over all rounds together.",
        figures,
    )


def _figures(
    name: str,
    ours: Sequence[Sequence[float]],
    limit: Sequence[Sequence[float]],
    goals: tuple[Goal | None, Goal | None] = (None, None),
) -> list[Figure]:
    """p50 of each round, and p99 of all pickups together, in milliseconds."""

    def p50(rounds: Sequence[Sequence[float]]) -> Sample:
        return Sample(tuple(1e3 * percentile(latencies, 50) for latencies in rounds))

    def p99(rounds: Sequence[Sequence[float]]) -> Sample:
        return Sample((1e3 * percentile([*chain.from_iterable(rounds)], 99),))

    return [
        Figure(f"{name}, p50", "ms", p50(ours), p50(limit), goals[0]),
        Figure(f"{name}, p99", "ms", p99(ours), p99(limit), goals[1]),
    ]


async def _pickups(bench: Bench, runner: Connection, give: Give) -> list[float]:
    """Give work to a runner that waits, so many times; the seconds that each pickup took."""
    others = await bench.blocked_clients()
    runner.send(bench.sizes.pickups)
    put_in: list[str] = []
    came_out: list[str] = []
    latencies: list[float] = []
    for number in range(bench.sizes.pickups):
        await asyncio.wait_for(_until_waiting(bench, others), IDLE_SECONDS)
        before = time.monotonic()
        put_in.append(await give(number))
        piece, had = runner.recv()  # blocks, for a thread that waited would take part in what is measured
        came_out.append(piece)
        latencies.append(had - before)
    check_once(put_in, came_out)
    return latencies


async def _until_waiting(bench: Bench, others: int) -> None:
    """Return when more clients than those of others wait in a blocking command, and a random while later.

    The while makes all three processes idle, as they are when work is rare; the server has long answered the last
    question by then.
    """
    while await bench.blocked_clients() <= others:  # noqa: ASYNC110 - the server tells nobody
        await asyncio.sleep(0.0005)
    await asyncio.sleep(random.uniform(0.01, 0.03))  # noqa: S311 - no secret
