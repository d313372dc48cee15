"""Memory of the server per rollout and per span."""

import asyncio
from collections.abc import Sequence
from statistics import median

from benchmarks.measuring import Figure, Goal, Part, Sample, check_once
from benchmarks.setting import INPUT_BYTES, LEASE_SECONDS, Bench, fill, used_memory
from benchmarks.spans import SPAN_BYTES, make_spans
from lightning_store.backends.redis import codec
from lightning_store.backends.redis.keys import Keys
from lightning_store.records import AttemptedRollout

SPANS_PER_ROLLOUT = 100

_PART = "memory"
_CLAIM_BULK = 500
_SAMPLED = 200
_LOOKED_AT = 20_000
_OF_QUEUED = ("rollout", "task"), ("rollouts", "status:queuing", "queue:default", "wake:default")
_OF_FINISHED = ("rollout", "task", "attempt"), ("rollouts", "status:succeeded", "completed")


async def measure_memory(bench: Bench) -> Part:
    """Memory of queued and finished rollouts and of spans: what the server uses more with them than without."""
    count = bench.sizes.rollouts
    # The event log is capped: it is full before anything is measured.
    await fill(bench.store(_PART), count)
    await _finish_all(bench, count)
    await _remove_tokens(bench)
    before = await used_memory(bench)
    ids = await fill(bench.store(_PART), count)
    queued = (await used_memory(bench) - before) / count
    queued_kinds = await _by_kind(bench, [(id, "") for id in ids], *_OF_QUEUED)
    claimed = await _finish_all(bench, count)
    check_once(ids, [rollout.rollout_id for rollout in claimed])
    with_tokens = await used_memory(bench)
    token = await _token(bench)
    await _remove_tokens(bench)
    finished = await used_memory(bench)
    pairs = [(rollout.rollout_id, rollout.attempt.attempt_id) for rollout in claimed]
    finished_kinds = await _by_kind(bench, pairs, *_OF_FINISHED)
    return Part(
        "Memory",
        "",
        f"Growth of the server's `used_memory` by {count:,} rollouts in a namespace that holds as many already, in one "
        "round, because it does not vary; below, the share of each kind of key as `MEMORY USAGE` tells it, which "
        "leaves out the server's own tables.",
        [
            _figure(f"queued rollout with {INPUT_BYTES} B of input", queued, Goal("store", 600)),
            *(_figure(f"... {kind}", size) for kind, size in queued_kinds),
            _figure("finished rollout with one attempt", (finished - before) / count, Goal("store", 900)),
            *(_figure(f"... {kind}", size) for kind, size in finished_kinds),
            _figure("besides, the tokens of its claim and its end, for 240 s", (with_tokens - finished) / count),
            _figure("... `ops:<token>` of its end", token),
            _figure(
                f"span of {SPAN_BYTES:,} B, over its bytes", await _span_overhead(bench, claimed), Goal("store", 90)
            ),
        ],
    )


async def _finish_all(bench: Bench, count: int) -> list[AttemptedRollout]:
    """Claim all rollouts that are queued and let them succeed."""
    store = bench.store(_PART)
    claimed: list[AttemptedRollout] = []
    for _ in range(0, count, _CLAIM_BULK):
        claimed += await store.dequeue_many_rollouts(
            limit=_CLAIM_BULK, worker_id="worker-1", lease_seconds=LEASE_SECONDS
        )
    waiting = iter(claimed)

    async def finish() -> None:
        for rollout in waiting:
            await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, status="succeeded")

    await asyncio.gather(*(finish() for _ in range(8)))
    return claimed


async def _span_overhead(bench: Bench, rollouts: Sequence[AttemptedRollout]) -> float:
    """Bytes per span that the server needs besides those of the spans."""
    store = bench.store(_PART)
    before, size, count = await used_memory(bench), 0, 0
    for rollout in rollouts[: len(rollouts) // SPANS_PER_ROLLOUT]:
        spans = make_spans(rollout, SPANS_PER_ROLLOUT)
        await store.add_many_spans(spans)
        size += sum(len(codec.span_payload(span)) for span in spans)
        count += len(spans)
    await _remove_tokens(bench)
    return (await used_memory(bench) - before - size) / count


async def _by_kind(
    bench: Bench, pairs: Sequence[tuple[str, str]], own: Sequence[str], shared: Sequence[str]
) -> list[tuple[str, float]]:
    """Bytes per rollout of the keys that each rollout has of its own, and of those that all share."""
    names = Keys(bench.namespace(_PART))
    sample = pairs[:: max(1, len(pairs) // _SAMPLED)]
    sizes: list[tuple[str, float]] = []
    for kind in own:
        ids = [f"{rollout}:{attempt}" if kind == "attempt" else rollout for rollout, attempt in sample]
        usage = await bench.bare.commands([("MEMORY", "USAGE", names.control(kind, id)) for id in ids])
        sizes.append((f"`{kind}:<id>`", sum(usage) / len(usage)))
    for kind in shared:
        name = names.control(kind)
        usage, type_ = await bench.bare.commands([("MEMORY", "USAGE", name, "SAMPLES", 0), ("TYPE", name)])
        counting = {b"list": "LLEN", b"zset": "ZCARD", b"stream": "XLEN"}[type_]
        sizes.append((f"`{kind}`", usage / await bench.bare.command(counting, name)))
    return sizes


async def _token(bench: Bench) -> float:
    """Bytes of the token of a usual call; a bulk claim has one too, which notes all that was claimed."""
    pattern = Keys(bench.namespace(_PART)).control("ops", "*")
    _, names = await bench.bare.command("SCAN", 0, "MATCH", pattern, "COUNT", _LOOKED_AT)
    return float(median(await bench.bare.commands([("MEMORY", "USAGE", name) for name in names[:_SAMPLED]])))


async def _remove_tokens(bench: Bench) -> None:
    await bench.remove(Keys(bench.namespace(_PART)).control("ops", "*"))


def _figure(name: str, size: float, goal: Goal | None = None) -> Figure:
    return Figure(name, "B", Sample((size,)), goal=goal)
