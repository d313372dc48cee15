"""Waiting for many rollouts at once, and reading many spans."""

import asyncio
import time

from benchmarks.measuring import Figure, Goal, Part, Sample, check_once, in_turns
from benchmarks.setting import LEASE_SECONDS, Bench, fill
from benchmarks.spans import SPAN_BYTES, make_spans
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.records import AttemptedRollout

_PART = "waits"
_ENDED_AT_ONCE = 16
_SPANS = 1_000
_READS = 5


async def measure_waits(bench: Bench) -> Part:
    """A wait for thousands of rollouts, a look at as many, and a query of a thousand spans."""
    store = bench.store(_PART)
    count = bench.sizes.waited
    looks: list[float] = []
    waits: list[float] = []
    for _ in range(bench.sizes.rounds):
        ids = await fill(store, count)
        *others, last = await store.dequeue_many_rollouts(limit=count, lease_seconds=LEASE_SECONDS)
        looks.append(await _look(store, ids))
        waits.append(await _wait(store, ids, others, last))
    rates = await in_turns(bench.sizes.rounds, read=lambda: _read(bench, store, last))
    return Part(
        "Waits and queries",
        "",
        f"`wait_for_rollouts` on {count:,} ids is called, all but one of them end, then the last one does. The time "
        "runs from just before the call that ends it to the return of the wait, in one process.",
        [
            Figure(
                f"a wait for {count:,} rollouts returns after the last end in",
                "ms",
                Sample(tuple(waits)),
                goal=Goal("store", 5.0),
            ),
            Figure(
                f"a look at {count:,} rollouts, timeout=0",
                "ms",
                Sample(tuple(looks)),
                goal=Goal("store", 30.0),
            ),
            Figure(
                f"query of {_SPANS:,} spans of {SPAN_BYTES:,} B",
                "spans per second",
                Sample(tuple(rates["read"])),
                goal=Goal("store", least=50_000),
            ),
        ],
    )


async def _look(store: RedisLightningStore, ids: list[str]) -> float:
    """Milliseconds that it takes to see that nothing has ended."""
    before = time.perf_counter()
    assert await store.wait_for_rollouts(rollout_ids=ids, timeout=0) == []
    return 1e3 * (time.perf_counter() - before)


async def _wait(
    store: RedisLightningStore, ids: list[str], others: list[AttemptedRollout], last: AttemptedRollout
) -> float:
    """Milliseconds from before the last end to the return of the wait."""
    waiting = asyncio.ensure_future(store.wait_for_rollouts(rollout_ids=ids, timeout=600))
    for start in range(0, len(others), _ENDED_AT_ONCE):
        await asyncio.gather(*(_end(store, each) for each in others[start : start + _ENDED_AT_ONCE]))
    await asyncio.sleep(0.2)  # what was to be read of these ends is read
    assert not waiting.done()
    before = time.perf_counter()
    ending = asyncio.ensure_future(_end(store, last))
    done = await waiting
    millis = 1e3 * (time.perf_counter() - before)
    await ending
    check_once(ids, [each.rollout_id for each in done])
    return millis


async def _end(store: RedisLightningStore, claimed: AttemptedRollout) -> None:
    await store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status="succeeded")


async def _read(bench: Bench, store: RedisLightningStore, rollout: AttemptedRollout) -> float:
    """Spans per second; the first time they are stored."""
    if not await store.query_spans(rollout.rollout_id, limit=1):
        await store.add_many_spans(make_spans(rollout, _SPANS))
    spent = await bench.timed(_READS, lambda _: store.query_spans(rollout.rollout_id))
    spans = await store.query_spans(rollout.rollout_id)
    check_once([each.span_id for each in make_spans(rollout, _SPANS)], [each.span_id for each in spans])
    return _SPANS * spent.rate
