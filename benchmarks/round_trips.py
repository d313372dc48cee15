"""How often one life of a rollout has to wait for the server."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from benchmarks.address import moved, plain_server
from benchmarks.measuring import Figure, Goal, NotMeasuredError, Part, Sample, check_once, in_turns
from benchmarks.relay import Relay, relay_to
from benchmarks.setting import LEASE_SECONDS, Bench, task
from benchmarks.spans import make_spans
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.records import AttemptedRollout
from lightning_store.spans import Span

SPANS = 10

_PART = "round-trips"

Count = Callable[[], Awaitable[int]]
End = Callable[[RedisLightningStore, AttemptedRollout, list[Span]], Awaitable[None]]


async def measure_round_trips(bench: Bench) -> Part:
    """Round trips of a life whose last two calls are made one after the other, and of one that makes them together."""
    figures: list[Figure] = []
    missing: list[str] = []
    direct = bench.store(_PART)
    reads = await _in_turns(bench, direct, partial(_server_reads, bench))
    try:
        async with relay_to(plain_server(bench.url).address) as (relay, address):
            store = bench.store(_PART, url=moved(bench.url, address))
            trips = await _in_turns(bench, store, partial(_round_trips, relay))
            await store.close()
    except NotMeasuredError as error:
        missing.append(f"round trips of one life: {error}")
    else:
        for name, key, most in (
            (f"a life: enqueue, claim, {SPANS} spans in one call, success", "apart", 4),
            ("... spans and success sent together", "together", 3),
        ):
            figures.append(Figure(name, "round trips", Sample(tuple(trips[key])), goal=Goal("store", most)))
    for name, key in (("a life, as the server reads it", "apart"), ("... sent together", "together")):
        figures.append(Figure(name, "reads", Sample(tuple(reads[key]))))
    return Part(
        "Round trips",
        "",
        "One coroutine lives life after life. A round trip begins when the store sends something while it awaits no "
        "answer, and ends when all that it has asked is answered; a relay between the store and the server counts "
        "them. So calls that are sent together wait once. The server counts otherwise, each time that it finds "
        "something to read: the first call of an idle connection leaves at once and the next one a turn of the event "
        "loop later, mostly too late to be read with it, but the client waits for both at the same time.",
        figures,
        missing=missing,
    )


async def _in_turns(bench: Bench, store: RedisLightningStore, counted: Count) -> Mapping[str, list[float]]:
    return await in_turns(
        bench.sizes.rounds,
        apart=partial(_per_life, bench, store, counted, _one_by_one),
        together=partial(_per_life, bench, store, counted, _together),
    )


async def _round_trips(relay: Relay) -> int:
    return relay.round_trips


async def _server_reads(bench: Bench) -> int:
    return int((await bench.info("stats"))["total_reads_processed"])


async def _one_by_one(store: RedisLightningStore, rollout: AttemptedRollout, spans: list[Span]) -> None:
    await store.add_many_spans(spans)
    await _succeed(store, rollout)


async def _together(store: RedisLightningStore, rollout: AttemptedRollout, spans: list[Span]) -> None:
    await asyncio.gather(store.add_many_spans(spans), _succeed(store, rollout))


async def _succeed(store: RedisLightningStore, rollout: AttemptedRollout) -> None:
    await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, status="succeeded")


async def _per_life(bench: Bench, store: RedisLightningStore, counted: Count, end: End) -> float:
    """How many were counted for each of some lives."""
    lives = max(1, bench.sizes.calls // 10)
    cursor = (await store.completions("latest")).cursor
    put_in: list[str] = []
    start, before = await counted(), await counted()
    for number in range(lives):
        put_in.append((await store.enqueue_rollout(task(number))).rollout_id)
        rollout = await store.dequeue_rollout("worker-1", lease_seconds=LEASE_SECONDS)
        assert rollout is not None
        await end(store, rollout, make_spans(rollout, SPANS))
    # What a look itself takes is taken off.
    found = await counted() - before - (before - start)
    completions = (await store.completions(cursor, limit=lives + 1)).items
    check_once(put_in, [each.rollout_id for each in completions if each.status == "succeeded"])
    for spans in (await store.query_many_spans(put_in)).values():
        assert len({span.span_id for span in spans}) == len(spans) == SPANS
    return found / lives
