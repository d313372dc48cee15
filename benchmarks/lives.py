"""Whole lives of rollouts: how many per second, and what one costs the server and the process of the runners."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks import limits
from benchmarks.measuring import Figure, Goal, Part, Sample, check_once, in_turns
from benchmarks.setting import LEASE_SECONDS, Bench, Spent, fill
from benchmarks.spans import make_spans
from benchmarks.throughput import BULK, MANY_COROUTINES, rate_figures


@dataclass(frozen=True)
class _Round:
    """Some lives.

    Attributes:
        spent: What they took from their claim on.
        enqueue_seconds: CPU time of the server for their enqueues.
    """

    spent: Spent
    enqueue_seconds: float = 0.0


async def measure_lives(bench: Bench) -> Part:
    """Whole lives of rollouts that do nothing."""
    figures: list[Figure] = []
    for name, coroutines, count in (
        ("lives (claim, one span, success), one at a time", 1, bench.sizes.calls // 2),
        (f"lives, {MANY_COROUTINES} coroutines", MANY_COROUTINES, 2 * bench.sizes.calls),
    ):
        rounds = await in_turns(
            bench.sizes.rounds,
            store=partial(_lives, bench, count, coroutines),
            limit=partial(_bare_lives, bench, count, coroutines),
        )
        figures += rate_figures(name, {who: [each.spent for each in taken] for who, taken in rounds.items()})
        if coroutines > 1:
            figures += _costs(name, rounds["store"])
    return Part(
        "Whole lives",
        "three EVALSHAs of LPOP + HSET one after the other",
        "The rates and the CPU beside the limit are of what a runner does; the last two lines are a life from its "
        f"enqueue, {BULK} a call, to its completion, where another process than that of the runners enqueues.",
        figures,
    )


def _costs(name: str, rounds: Sequence[_Round]) -> list[Figure]:
    redis = Sample(tuple(each.spent.redis_micros + 1e6 * each.enqueue_seconds / each.spent.calls for each in rounds))
    runners = Sample(tuple(each.spent.client_micros for each in rounds))
    return [
        Figure(f"{name}, Redis CPU of one with its enqueue", "µs", redis, goal=Goal("store", 70)),
        Figure(f"{name}, CPU of the runners' process for one", "µs", runners, goal=Goal("store", 150)),
    ]


async def _lives(bench: Bench, count: int, coroutines: int) -> _Round:
    store = bench.store("lives")
    before = await bench.redis_cpu()
    put_in = await fill(store, count, bulk=BULK)
    enqueue_seconds = await bench.redis_cpu() - before
    start = (await store.completions("latest")).cursor

    async def live(number: int) -> None:
        rollout = await store.dequeue_rollout(worker_id=f"worker-{number % coroutines}", lease_seconds=LEASE_SECONDS)
        assert rollout is not None
        await store.add_many_spans(make_spans(rollout, 1))
        await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, status="succeeded")

    spent = await bench.timed(count, live, coroutines=coroutines)
    completions = (await store.completions(start, limit=count + 1)).items
    check_once(put_in, [each.rollout_id for each in completions if each.status == "succeeded"])
    return _Round(spent, enqueue_seconds)


async def _bare_lives(bench: Bench, count: int, coroutines: int) -> _Round:
    queue, records = bench.key("lives", "queue"), bench.key("lives", "record:")
    await bench.bare.command("RPUSH", queue, *range(3 * count))
    call = limits.CLAIM.call(queue=queue, records=records, worker_id="worker-1")
    got: list[str] = []

    async def live(_: int) -> None:
        for _ in range(3):
            got.append((await bench.bare.run(call)).decode())  # noqa: PERF401 - three calls, one after the other

    spent = await bench.timed(count, live, coroutines=coroutines)
    check_once([str(number) for number in range(3 * count)], got)
    return _Round(spent)
