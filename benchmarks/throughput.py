"""Calls per second: claims, enqueues, spans, and what declared keys cost."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from benchmarks import limits
from benchmarks.measuring import Figure, Goal, Part, Sample, check_once, in_turns
from benchmarks.setting import LEASE_SECONDS, Bench, Spent, fill, task
from benchmarks.spans import make_spans
from lightning_store.backends.redis import codec
from lightning_store.backends.redis.keys import Keys
from lightning_store.backends.redis.scripts import Call, Settings, load_script
from lightning_store.records import EnqueueRolloutRequest

MANY_COROUTINES = 64
BULK = 100

_SPANS_SINGLY = 10


async def measure_claims(bench: Bench) -> Part:
    """Claims one at a time and from many coroutines."""
    figures: list[Figure] = []
    for name, coroutines, count in (
        ("claims, one at a time", 1, bench.sizes.calls),
        (f"claims, {MANY_COROUTINES} coroutines", MANY_COROUTINES, 4 * bench.sizes.calls),
    ):
        spent = await in_turns(
            bench.sizes.rounds,
            store=partial(timed_claims, bench, count, coroutines),
            limit=partial(_bare_claims, bench, count, coroutines),
        )
        goal = Goal("ratio", least=0.65) if coroutines == 1 else None
        figures += rate_figures(name, spent, goal=goal)
    return Part(
        "Claims",
        "an EVALSHA of LPOP + HSET through the same connections",
        "A claim pops, checks, starts an attempt, moves the rollout through its indexes, sets its deadline, notes the "
        "worker, logs the event, remembers its token, and returns the whole record with its input.",
        figures,
    )


async def timed_claims(bench: Bench, count: int, coroutines: int) -> Spent:
    """Claims of a queue of so many rollouts, from so many coroutines."""
    store = bench.store("claims")
    put_in = await fill(store, count)
    got: list[str] = []

    async def claim(number: int) -> None:
        rollout = await store.dequeue_rollout(worker_id=f"worker-{number % coroutines}", lease_seconds=LEASE_SECONDS)
        got.append(rollout.rollout_id if rollout else "")

    spent = await bench.timed(count, claim, coroutines=coroutines)
    check_once(put_in, got)
    assert await store.dequeue_rollout() is None
    return spent


async def _bare_claims(bench: Bench, count: int, coroutines: int) -> Spent:
    queue, records = bench.key("claims", "queue"), bench.key("claims", "record:")
    put_in = [f"ro-{number:024x}" for number in range(count)]
    await bench.bare.command("RPUSH", queue, *put_in)
    got: list[str] = []

    async def claim(number: int) -> None:
        call = limits.CLAIM.call(queue=queue, records=records, worker_id=f"worker-{number % coroutines}")
        got.append((await bench.bare.run(call)).decode())

    spent = await bench.timed(count, claim, coroutines=coroutines)
    check_once(put_in, got)
    return spent


async def measure_enqueues(bench: Bench) -> Part:
    """Enqueues one at a time and in bulks."""
    figures: list[Figure] = []
    for name, bulk, count in (
        ("rollouts enqueued, one at a time", 1, bench.sizes.calls),
        (f"rollouts enqueued, {BULK} a call", BULK, bench.sizes.bulks),
    ):
        spent = await in_turns(
            bench.sizes.rounds,
            store=partial(_enqueues, bench, count, bulk),
            limit=partial(_bare_enqueues, bench, count, bulk),
        )
        goal = Goal("ratio", least=0.7) if bulk == 1 else Goal("store", least=60_000)
        figures += rate_figures(name, spent, per_call=bulk, goal=goal)
    return Part("Enqueue", "an EVALSHA of SET + RPUSH per rollout, inputs as JSON made in the loop", "", figures)


async def _enqueues(bench: Bench, count: int, bulk: int) -> Spent:
    store = bench.store("enqueues")
    numbers = itertools.count()
    put_in: list[str] = []

    async def enqueue(_: int) -> None:
        requests = [EnqueueRolloutRequest(input=task(next(numbers))) for _ in range(bulk)]
        put_in.extend(rollout.rollout_id for rollout in await store.enqueue_many_rollouts(requests))

    spent = await bench.timed(count, enqueue)
    claimed = await store.dequeue_many_rollouts(limit=count * bulk + 1)
    check_once(put_in, [rollout.rollout_id for rollout in claimed])
    assert [rollout.input for rollout in claimed] == [task(number) for number in range(count * bulk)]
    return spent


async def _bare_enqueues(bench: Bench, count: int, bulk: int) -> Spent:
    queue, records = bench.key("enqueues", "queue"), bench.key("enqueues", "record:")
    numbers = itertools.count()
    put_in: list[str] = []

    async def enqueue(_: int) -> None:
        items: list[str] = []
        for number in itertools.islice(numbers, bulk):
            put_in.append(f"ro-{number:024x}")
            items += [put_in[-1], json.dumps(task(number))]
        await bench.bare.run(limits.ENQUEUE.call(queue=queue, records=records, items=items))

    spent = await bench.timed(count, enqueue)
    check_once(put_in, [id.decode() for id in await bench.bare.command("LPOP", queue, count * bulk + 1)])
    return spent


async def measure_spans(bench: Bench) -> Part:
    """Spans one at a time and in bulks."""
    singly = await in_turns(
        bench.sizes.rounds,
        store=partial(_single_spans, bench),
        limit=partial(_bare_claims, bench, bench.sizes.calls, 1),
    )
    bulks = await in_turns(bench.sizes.rounds, store=partial(_spans, bench), limit=partial(_bare_spans, bench))
    return Part(
        "Spans",
        f"for {BULK} a call, an EVALSHA of one XADD per span, with payloads made before; for one at a time, one of "
        "LPOP + HSET",
        "Each call stores spans of one attempt; the store turns them into JSON, finds rewards, drops duplicates, "
        f"notes the heartbeat. One at a time each attempt has {_SPANS_SINGLY}, of which the first makes it `running`.",
        [
            *rate_figures("spans of 1 kB stored, one at a time", singly, goal=Goal("ratio", least=0.7)),
            *rate_figures(f"spans of 1 kB stored, {BULK} a call", bulks, per_call=BULK, goal=Goal("ratio", least=0.4)),
        ],
    )


async def _single_spans(bench: Bench) -> Spent:
    store = bench.store("spans")
    count = max(1, bench.sizes.calls // _SPANS_SINGLY)
    await fill(store, count)
    claimed = await store.dequeue_many_rollouts(limit=count, lease_seconds=LEASE_SECONDS)
    spans = [span for rollout in claimed for span in make_spans(rollout, _SPANS_SINGLY)]
    spent = await bench.timed(len(spans), lambda number: store.add_span(spans[number]))
    stored = await store.query_many_spans([rollout.rollout_id for rollout in claimed])
    check_once([span.span_id for span in spans], [span.span_id for each in stored.values() for span in each])
    return spent


async def _spans(bench: Bench) -> Spent:
    store = bench.store("spans")
    await fill(store, bench.sizes.bulks)
    claimed = await store.dequeue_many_rollouts(limit=bench.sizes.bulks, lease_seconds=LEASE_SECONDS)
    bulks = [make_spans(rollout, BULK) for rollout in claimed]
    spent = await bench.timed(len(bulks), lambda number: store.add_many_spans(bulks[number]))
    for spans in bulks:
        stored = await store.query_spans(spans[0].rollout_id)
        check_once([span.span_id for span in spans], [span.span_id for span in stored])
    return spent


async def _bare_spans(bench: Bench) -> Spent:
    store = bench.store("spans")
    await fill(store, 1)
    claimed = await store.dequeue_many_rollouts()
    payloads = [codec.span_payload(span) for span in make_spans(claimed[0], BULK)]
    streams = [bench.key("spans", f"stream:{number}") for number in range(bench.sizes.bulks)]
    spent = await bench.timed(
        len(streams), lambda number: bench.bare.run(limits.SPANS.call(stream=streams[number], payloads=payloads))
    )
    for stream in streams:
        entries = await bench.bare.command("XRANGE", stream, "-", "+")
        check_once([str(p) for p in payloads], [str(flat[1]) for _, flat in entries])
        await bench.bare.command("UNLINK", stream)
    return spent


async def measure_declared_keys(bench: Bench) -> Part:
    """The claim script with the one key that it declares, and with fifteen."""
    spent = await in_turns(
        bench.sizes.rounds,
        store=partial(_declared, bench, 1),
        limit=partial(_declared, bench, 15),
    )
    return Part(
        "Declared keys",
        "the same claim script with 15 declared keys",
        "Scripts declare the namespace's meta key only and derive the rest of the control plane from it, within its "
        "hash tag. A claim touches about 15 keys, most of them named after the rollout that it pops, so that nobody "
        "can declare them beforehand; and declaring keys does not make a claim cheaper.",
        rate_figures("claims with the meta key alone", spent),
    )


async def _declared(bench: Bench, keys: int) -> Spent:
    names = Keys(bench.namespace("declared"))
    store = bench.store("declared")
    put_in = await fill(store, bench.sizes.calls)
    got: list[str] = []

    async def claim(number: int) -> None:
        # Built anew for each call, as a store would have to.
        more = [names.control("rollout", f"ro-{number:012x}{kind:012x}") for kind in range(keys - 1)]
        call = claim_call(names.meta, store.ids.token(), store.ids.attempt_id())
        _, meta, *arguments = call.tail
        reply = await bench.bare.run(Call(call.script, (keys, meta, *more, *arguments)))
        got.append(reply[2][0][0].decode())

    spent = await bench.timed(len(put_in), claim)
    check_once(put_in, got)
    return spent


def claim_call(meta: str, token: str, attempt_id: str) -> Call:
    """A claim of one rollout as a store sends it."""
    return load_script("dequeue_many_rollouts", Settings()).call(
        meta=meta,
        now="",
        token=token,
        call="",
        worker_id="worker-1",
        lease=repr(LEASE_SECONDS),
        again="",
        queue_count=1,
        wanted=["default", attempt_id],
    )


def rate_figures(
    name: str, spent: Mapping[str, Sequence[Spent]], *, per_call: int = 1, goal: Goal | None = None
) -> list[Figure]:
    """Rate, server CPU and client CPU of calls that carry `per_call` items each.

    Args:
        goal: Of the rate.
    """

    def figure(label: str, unit: str, value: Callable[[Spent], float], goal: Goal | None = None) -> Figure:
        store, limit = (Sample(tuple(map(value, spent[who]))) for who in ("store", "limit"))
        return Figure(label, unit, store, limit, goal)

    return [
        figure(name, "per second", lambda each: each.rate * per_call, goal),
        figure("... Redis CPU each", "µs", lambda each: each.redis_micros / per_call),
        figure("... client CPU each", "µs", lambda each: each.client_micros / per_call),
    ]
