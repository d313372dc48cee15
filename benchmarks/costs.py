"""Measures what each kind of call costs the server, as `lightning-store capacity` reckons with it."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from benchmarks.curves import Cost, Growth
from benchmarks.growth import Extent
from benchmarks.measuring import Sample, check_once
from benchmarks.setting import LEASE_SECONDS, Bench, fill, task, used_memory
from benchmarks.spans import SPAN_BYTES, make_spans
from lightning_store.backends.redis.keys import Keys
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.records import AttemptedRollout
from lightning_store.runner.stats import RunnerStats

CLIENTS = 16
"""So many clients call at the same time, with a connection each: the server reads the calls of hosts one by one."""

BULK = 20
LARGE_BYTES = 20_000


@dataclass(frozen=True)
class _Once:
    """One round of one kind of call."""

    micros: float
    bytes_in: float
    bytes_out: float


async def measure_costs(bench: Bench, extent: Extent) -> Growth:
    """What calls cost, and what they leave."""
    return Growth(costs=await _costs(bench, extent), sizes=await _sizes(bench, extent))


async def _costs(bench: Bench, extent: Extent) -> dict[str, Cost]:
    """Processor time and bytes per call, of calls that carry one rollout, or spans of one attempt."""
    clients = [bench.store("costs") for _ in range(CLIENTS)]
    await asyncio.gather(*(client.statistics() for client in clients))
    found: defaultdict[str, list[_Once]] = defaultdict(list)
    for number in range(extent.rounds + 1):
        round_ = await _round(bench, clients, 3 * extent.calls)
        if number:  # the first only warms up
            for name, once in round_.items():
                found[name].append(once)
    return {
        name: Cost(
            Sample(tuple(once.micros for once in rounds)),
            Sample(tuple(once.bytes_in for once in rounds)).median,
            Sample(tuple(once.bytes_out for once in rounds)).median,
        )
        for name, rounds in found.items()
    }


async def _sizes(bench: Bench, extent: Extent) -> dict[str, float]:
    """Bytes of what each worker and each event leaves."""
    count, store, facts = 5 * extent.calls, bench.store("sizes"), RunnerStats(1).read()
    names = Keys(bench.namespace("sizes"))
    await store.renew("worker-first", [], facts)
    unused = await used_memory(bench)
    for number in range(count):
        await store.renew(f"runner-host-{number:04}-12345-1", [], facts)
    workers = await used_memory(bench) - unused
    await fill(store, count)
    await store.dequeue_many_rollouts(limit=count, lease_seconds=LEASE_SECONDS)
    events = names.control("events")
    usage, kept = await bench.bare.commands([("MEMORY", "USAGE", events, "SAMPLES", 0), ("XLEN", events)])
    return {
        "worker with its heartbeat, bytes": workers / count,
        "event, bytes": usage / kept,
    }


async def _round(bench: Bench, clients: Sequence[RedisLightningStore], count: int) -> dict[str, _Once]:
    """Bring rollouts from their queue to their end, one kind of call after the other."""
    put_in: list[str] = []
    claimed: list[AttemptedRollout] = []
    stats = RunnerStats(1)
    facts = stats.read()
    start = (await clients[0].completions("latest")).cursor

    async def enqueue(client: RedisLightningStore, number: int) -> None:
        put_in.append((await client.enqueue_rollout(task(number))).rollout_id)

    async def claim(client: RedisLightningStore, number: int) -> None:
        rollout = await client.dequeue_rollout(f"worker-{number % CLIENTS}", lease_seconds=LEASE_SECONDS)
        assert rollout is not None
        claimed.append(rollout)

    async def renew(client: RedisLightningStore, number: int) -> None:
        attempt = claimed[number].attempt
        states = await client.renew(attempt.worker_id or "", [(attempt.rollout_id, attempt.attempt_id)], facts)
        assert states == ["current"]

    async def succeed(client: RedisLightningStore, number: int) -> None:
        attempt = claimed[number].attempt
        await client.update_attempt(attempt.rollout_id, attempt.attempt_id, status="succeeded")

    async def measured(call: Callable[[RedisLightningStore, int], Awaitable[None]]) -> _Once:
        return await _measured(bench, clients, count, call)

    costs = {"enqueue": await measured(enqueue), "claim": await measured(claim)}
    check_once(put_in, [rollout.rollout_id for rollout in claimed])
    costs["heartbeat"] = await measured(renew)
    for name, per_call, size in (
        ("call with 1 span of 1 kB", 1, SPAN_BYTES),
        (f"call with {BULK} spans of 1 kB", BULK, SPAN_BYTES),
        (f"call with 1 span of {LARGE_BYTES // 1000} kB", 1, LARGE_BYTES),
    ):
        costs[name] = await _spans(bench, clients, claimed, per_call, size)
    costs["success"] = await measured(succeed)
    completions = (await clients[0].completions(start, limit=count + 1)).items
    check_once(put_in, [each.rollout_id for each in completions if each.status == "succeeded"])
    for rollout_id, spans in (await clients[0].query_many_spans(put_in)).items():
        assert len({span.span_id for span in spans}) == len(spans) == BULK + 2, rollout_id
    await _remove(clients[0], put_in)
    return costs


async def _spans(
    bench: Bench,
    clients: Sequence[RedisLightningStore],
    claimed: Sequence[AttemptedRollout],
    per_call: int,
    size: int,
) -> _Once:
    """Store spans, each kind under trace ids of its own rollouts, and look whether they are there once."""
    # Ids of spans go up with each kind, because those of one attempt are told apart by them.
    calls = [
        [span.model_copy(update={"span_id": f"{size:08x}{per_call:04x}{number:04x}"}) for number, span in numbered]
        for numbered in (enumerate(make_spans(rollout, per_call, size)) for rollout in claimed)
    ]

    async def store(client: RedisLightningStore, number: int) -> None:
        assert len(await client.add_many_spans(calls[number])) == per_call

    return await _measured(bench, clients, len(claimed), store)


async def _remove(store: RedisLightningStore, ids: Sequence[str]) -> None:
    for number in range(0, len(ids), 200):
        some = ids[number : number + 200]
        check_once(some, await store.delete_rollouts(some))


async def _measured(
    bench: Bench,
    clients: Sequence[RedisLightningStore],
    count: int,
    call: Callable[[RedisLightningStore, int], Awaitable[None]],
) -> _Once:
    """Calls 0, 1, ... `count` - 1 from all clients at once."""

    async def step(number: int) -> None:
        await call(clients[number % len(clients)], number)

    first = await _traffic(bench)
    await bench.timed(0, step)
    before = await _traffic(bench)
    spent = await bench.timed(count, step, coroutines=len(clients))
    # What the looks themselves take is taken off.
    bytes_in, bytes_out = (
        (after - then - (then - start)) / count
        for start, then, after in zip(first, before, await _traffic(bench), strict=True)
    )
    return _Once(spent.redis_micros, bytes_in, bytes_out)


async def _traffic(bench: Bench) -> tuple[int, int]:
    stats = await bench.info("stats")
    return int(stats["total_net_input_bytes"]), int(stats["total_net_output_bytes"])
