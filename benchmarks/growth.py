"""Measures what more runners, longer queues, more rollouts and larger spans do to throughput and latency."""

import asyncio
import itertools
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.curves import Curve, Panel, Taken, busy, latency, samples, take
from benchmarks.measuring import Sample, check_once, in_turns
from benchmarks.setting import LEASE_SECONDS, Bench, fill, task
from benchmarks.spans import bare_bytes, make_spans
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.records import AttemptedRollout

MANY = 64
PAGE = 50
SPANS_PER_CALL = 10

_CANCEL_BULK = 1000
_OPENED_AT_ONCE = 50


@dataclass(frozen=True)
class Extent:
    """How far everything grows, and how much is measured at each point.

    Attributes:
        rounds: Counted rounds per point; one more warms up.
        calls: Calls per round, one at a time; five times as many from many coroutines.
        span_bytes: Most bytes of spans per round.
        runners: Numbers of runners.
        counts: Lengths of the queue, and numbers of rollouts kept.
        texts: Bytes of text in a span.
        waiters: Numbers of runners that wait for work.
        pickups: Pickups per round.
        idle_seconds: For how long waiting runners are watched.
    """

    rounds: int = 3
    calls: int = 200
    span_bytes: int = 10_000_000
    runners: Sequence[int] = (1, 3, 10, 30, 100, 300, 1000, 2000)
    counts: Sequence[int] = (100, 1_000, 10_000, 100_000, 1_000_000)
    texts: Sequence[int] = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
    waiters: Sequence[int] = (1, 10, 100, 500, 1000, 2000)
    pickups: int = 30
    idle_seconds: float = 6.0


FULL = Extent()
SMOKE = Extent(
    rounds=1, calls=10, span_bytes=100_000, runners=(1, 8), counts=(100, 300), texts=(100, 3_000), waiters=(1, 8),
    pickups=3, idle_seconds=1.0,
)  # fmt: skip

Rounds = dict[float, Sequence[Taken]]


# -- runners -----------------------------------------------------------------------------------------------------------


async def runners_curve(bench: Bench, extent: Extent) -> Curve:
    """Claims by so many claimers at once, that all have a connection or share one."""
    own: Rounds = {}
    shared: Rounds = {}
    stores: list[RedisLightningStore] = []
    for number in extent.runners:
        await open_more(bench, "runners", stores, number)
        count = max(5 * extent.calls, 2 * number)
        taken = await in_turns(
            extent.rounds, own=partial(_claims, stores, bench, count), shared=partial(_shared, stores, bench, count)
        )
        own[number], shared[number] = taken["own"], taken["shared"]
    lines: Mapping[str, Rounds] = {"a connection each": own, "one connection": shared}
    return Curve(
        "runners",
        "Claims by many claimers at once",
        "claimers",
        [_rates("claims per second", lines), latency(lines), busy(lines)],
    )


async def open_more(bench: Bench, part: str, stores: list[RedisLightningStore], number: int) -> None:
    """Have so many stores with a connection each, opened a few at a time: one process has no time for all at once."""
    while len(stores) < number:
        some = [bench.store(part) for _ in range(min(_OPENED_AT_ONCE, number - len(stores)))]
        await asyncio.gather(*(store.query_workers(limit=1) for store in some))
        stores += some


async def _shared(stores: Sequence[RedisLightningStore], bench: Bench, count: int) -> Taken:
    return await _claims([stores[0]] * len(stores), bench, count)


async def _claims(stores: Sequence[RedisLightningStore], bench: Bench, count: int) -> Taken:
    put_in = await fill(stores[0], count)
    got: list[str] = []
    free = deque(range(len(stores)))

    async def claim(_: int) -> None:
        number = free.popleft()
        rollout = await stores[number].dequeue_rollout(f"worker-{number}", lease_seconds=LEASE_SECONDS)
        got.append(rollout.rollout_id if rollout else "")
        free.append(number)

    taken = await take(bench, count, claim, coroutines=len(stores))
    check_once(put_in, got)
    return taken


# -- length of the queue -----------------------------------------------------------------------------------------------


async def queue_curve(bench: Bench, extent: Extent) -> Curve:
    """Claims and enqueues when so many rollouts wait."""
    store = bench.store("queue")
    waiting: deque[str] = deque()
    alone: defaultdict[str, Rounds] = defaultdict(dict)
    many: defaultdict[str, Rounds] = defaultdict(dict)
    for count in extent.counts:
        waiting += await fill(store, count - len(waiting))
        for lines, calls, coroutines in ((alone, extent.calls, 1), (many, 5 * extent.calls, MANY)):
            taken = await in_turns(
                extent.rounds,
                enqueue=partial(_enqueue, bench, store, waiting, calls, coroutines),
                claim=partial(_claim_oldest, bench, store, waiting, calls, coroutines),
            )
            for name, rounds in taken.items():
                lines[name][count] = rounds
    return Curve(
        "queue",
        "A queue that grows",
        "rollouts that wait",
        [_rates("per second, 64 coroutines", many), latency(alone), busy(many)],
    )


async def _enqueue(bench: Bench, store: RedisLightningStore, waiting: deque[str], calls: int, coroutines: int) -> Taken:
    async def enqueue(number: int) -> None:
        waiting.append((await store.enqueue_rollout(task(number))).rollout_id)

    return await take(bench, calls, enqueue, coroutines=coroutines)


async def _claim_oldest(
    bench: Bench, store: RedisLightningStore, waiting: deque[str], calls: int, coroutines: int
) -> Taken:
    """Claim as many as were enqueued before; of those that were enqueued at the same time, any may be the oldest."""
    got: list[str] = []

    async def claim(_: int) -> None:
        rollout = await store.dequeue_rollout("worker-1", lease_seconds=LEASE_SECONDS)
        got.append(rollout.rollout_id if rollout else "")

    taken = await take(bench, calls, claim, coroutines=coroutines)
    expected = set(got)
    check_once(got, list(expected))
    left = [id for id in itertools.islice(waiting, 0, calls + MANY) if id not in expected]
    ahead = min(len(waiting), calls + MANY)
    assert len(left) == ahead - calls, "something was claimed that was not among the oldest"
    for _ in range(ahead):
        waiting.popleft()
    waiting.extendleft(reversed(left))
    return taken


# -- rollouts kept -----------------------------------------------------------------------------------------------------


async def kept_curve(bench: Bench, extent: Extent) -> Curve:
    """Whole lives, claims and pages when so many finished rollouts are kept."""
    store = bench.store("kept")
    kept = 0
    many: defaultdict[str, Rounds] = defaultdict(dict)
    alone: defaultdict[str, Rounds] = defaultdict(dict)
    for count in extent.counts[1:] if len(extent.counts) > 2 else extent.counts:
        kept += await _keep(store, count - kept)
        taken = await in_turns(extent.rounds, lives=partial(_lives, bench, store, 5 * extent.calls))
        many["lives"][count] = taken["lives"]
        taken = await in_turns(
            extent.rounds,
            life=partial(_lives, bench, store, extent.calls, 1),
            page=partial(_pages, bench, store, extent.calls // 2),
        )
        alone["whole life"][count], alone[f"page of {PAGE}"][count] = taken["life"], taken["page"]
        kept = (await store.statistics())["total_rollouts"] or 0
    return Curve(
        "kept",
        "Rollouts that are kept",
        "finished rollouts kept",
        [_rates("lives per second, 64 coroutines", many), latency(alone), busy(many)],
    )


async def _keep(store: RedisLightningStore, count: int) -> int:
    """Enqueue and cancel so many rollouts, the fastest way to have them finished."""
    for start in range(0, count, _CANCEL_BULK):
        ids = await fill(store, min(_CANCEL_BULK, count - start))
        check_once(ids, await store.cancel_rollouts(ids))
    return max(0, count)


async def _lives(bench: Bench, store: RedisLightningStore, count: int, coroutines: int = MANY) -> Taken:
    start = (await store.completions("latest")).cursor
    put_in: list[str] = []

    async def live(number: int) -> None:
        put_in.append((await store.enqueue_rollout(task(number))).rollout_id)
        rollout = await store.dequeue_rollout("worker-1", lease_seconds=LEASE_SECONDS)
        assert rollout is not None
        await store.add_many_spans(make_spans(rollout, 1))
        await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, status="succeeded")

    taken = await take(bench, count, live, coroutines=coroutines)
    completions = (await store.completions(start, limit=count + 1)).items
    check_once(put_in, [each.rollout_id for each in completions if each.status == "succeeded"])
    return taken


async def _pages(bench: Bench, store: RedisLightningStore, count: int) -> Taken:
    async def read(_: int) -> None:
        page = await store.query_rollouts(status_in=["cancelled"], limit=PAGE)
        assert len({rollout.rollout_id for rollout in page}) == PAGE

    return await take(bench, count, read)


# -- size of spans -----------------------------------------------------------------------------------------------------


async def spans_curve(bench: Bench, extent: Extent) -> Curve:
    """Storing spans with so many bytes of text."""
    alone: Rounds = {}
    many: Rounds = {}
    for text in extent.texts:
        taken = await in_turns(
            extent.rounds,
            alone=partial(_spans, bench, extent, text, 1),
            many=partial(_spans, bench, extent, text, SPANS_PER_CALL),
        )
        alone[text], many[text] = taken["alone"], taken["many"]
    each = {f"{SPANS_PER_CALL} a call": many, "one a call": alone}

    def spans_of(name: str) -> int:
        return SPANS_PER_CALL if each[name] is many else 1

    def megabytes(name: str) -> Mapping[float, Sample]:
        return {
            text: Sample(tuple(taken.spent.rate * spans_of(name) * (text + bare_bytes()) / 1e6 for taken in rounds))
            for text, rounds in each[name].items()
        }

    rates = {name: samples(each[name], lambda taken, name=name: taken.spent.rate * spans_of(name)) for name in each}  # type: ignore[misc]
    return Curve(
        "spans",
        "Spans that grow",
        f"bytes of text in a span, besides {bare_bytes()} of JSON",
        [
            Panel("throughput", "spans per second", rates, is_log=True),
            Panel("throughput", "MB of JSON per second", {name: megabytes(name) for name in each}, is_log=True),
            latency(each),
            busy(each),
        ],
    )


async def _spans(bench: Bench, extent: Extent, text: int, per_call: int) -> Taken:
    size = text + bare_bytes()
    count = max(2, min(extent.calls, extent.span_bytes // (size * per_call)))
    store = bench.store("spans")
    await fill(store, count)
    claimed = await store.dequeue_many_rollouts(limit=count, lease_seconds=LEASE_SECONDS)
    calls = [make_spans(rollout, per_call, size) for rollout in claimed]
    taken = await take(bench, count, lambda number: store.add_many_spans(calls[number]))
    await _check_spans(store, calls, claimed)
    return taken


async def _check_spans(
    store: RedisLightningStore, calls: Sequence[Sequence[object]], claimed: Sequence[AttemptedRollout]
) -> None:
    """Each rollout has exactly its spans, as they were sent; then they are removed."""
    for spans, rollout in zip(calls, claimed, strict=True):
        assert list(await store.query_spans(rollout.rollout_id)) == list(spans)
    ids = await store.cancel_rollouts([rollout.rollout_id for rollout in claimed])
    check_once(ids, await store.delete_rollouts(ids))


def _rates(unit: str, lines: Mapping[str, Rounds]) -> Panel:
    return Panel(
        "throughput", unit, {name: samples(rounds, lambda taken: taken.spent.rate) for name, rounds in lines.items()}
    )
