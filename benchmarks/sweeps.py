"""The health check: sweeps over many active attempts of which none is due, and many that come due at once."""

import time
from collections.abc import Awaitable, Callable

from benchmarks import limits
from benchmarks.measuring import Figure, Goal, Part, Sample, check_once, in_turns
from benchmarks.setting import LEASE_SECONDS, Bench, fill
from lightning_store.backends.redis.keys import Keys
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.records import RolloutConfig

_PART = "sweeps"
_FEW = "sweeps-few"
_CALLS = 100
_CLAIM_BULK = 1000
_SHORT_LEASE_SECONDS = 5.0
_STEP_SECONDS = 6.0  # past the short leases, but no outage, which would extend them


class _SteppedClock:
    """Real time plus what it was moved by."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return time.time() + self.ahead


async def measure_sweeps(bench: Bench) -> Part:
    """Server time per sweep with nothing due, and the time to settle many at once."""
    clock = _SteppedClock()
    few, store = (bench.store(part, clock=clock) for part in (_FEW, _PART))
    for each, count in ((few, bench.sizes.few_active), (store, bench.sizes.active)):
        await fill(each, count)
        await _claim(each, count, LEASE_SECONDS)
    idle = await in_turns(
        bench.sizes.rounds,
        store=lambda: _sweep_micros(bench, store, bench.sizes.active),
        limit=lambda: _look_micros(bench),
        few=lambda: _sweep_micros(bench, few, bench.sizes.few_active),
    )
    among_many, look, among_few = (Sample(tuple(idle[who])) for who in ("store", "limit", "few"))
    # Requeued rollouts are claimed again in the next round.
    config = RolloutConfig(max_attempts=100, retry_condition=["unresponsive"])
    due = await fill(store, bench.sizes.due, config=config)
    settled = await in_turns(bench.sizes.rounds, settle=lambda: _settle(bench, store, clock, due))
    wall, longest = (Sample(tuple(each[i] for each in settled["settle"])) for i in (0, 1))
    return Part(
        "Health checks",
        "an EVALSHA of one ZRANGEBYSCORE on an index of the same size",
        f"{bench.sizes.active:,} active attempts, each with a lease. The server's time for one sweep is what it counts "
        f"for EVALSHA; a sweep over {bench.sizes.few_active:,}, in the same turns, shows how little it grows. Then "
        "further ones come due at once and are settled, and requeued, by `expire_attempts()` until nothing is due.",
        [
            Figure("a sweep with none due, server time", "µs", among_many, look, Goal("store", 1000)),
            Figure(f"... beside a sweep over {bench.sizes.few_active:,}", "µs", among_many, among_few),
            Figure(f"{bench.sizes.due:,} due at once, settled in", "ms", wall, goal=Goal("store", 1000)),
            Figure("... the server is busy at a time for", "ms", longest),
        ],
    )


async def _claim(store: RedisLightningStore, count: int, lease_seconds: float) -> list[str]:
    claimed: list[str] = []
    while len(claimed) < count:
        limit = min(_CLAIM_BULK, count - len(claimed))
        rollouts = await store.dequeue_many_rollouts(limit=limit, lease_seconds=lease_seconds)
        assert rollouts
        claimed += [rollout.rollout_id for rollout in rollouts]
    return claimed


async def _script_micros(bench: Bench, call: Callable[[], Awaitable[object]]) -> float:
    """The server's time per call, averaged."""
    calls_before, seconds_before = await bench.script_time()
    for _ in range(min(_CALLS, bench.sizes.calls)):
        await call()
    calls, seconds = await bench.script_time()
    return 1e6 * (seconds - seconds_before) / (calls - calls_before)


async def _sweep_micros(bench: Bench, store: RedisLightningStore, active: int) -> float:
    async def sweep() -> None:
        report = await store.expire_attempts()
        assert not report.transitions
        assert not report.more

    micros = await _script_micros(bench, sweep)
    assert (await store.statistics())["rollouts_by_status"]["preparing"] == active
    return micros


async def _look_micros(bench: Bench) -> float:
    index = Keys(bench.namespace(_PART)).control("deadlines")
    return await _script_micros(bench, lambda: bench.bare.run(limits.LOOK.call(index=index)))


async def _settle(
    bench: Bench, store: RedisLightningStore, clock: _SteppedClock, due: list[str]
) -> tuple[float, float]:
    """Let attempts come due at once and settle them; milliseconds until done, and of the server's time per call."""
    check_once(due, await _claim(store, len(due), _SHORT_LEASE_SECONDS))
    clock.ahead += _STEP_SECONDS
    settled: list[str] = []
    calls_before, seconds_before = await bench.script_time()
    before = time.perf_counter()
    more = True
    while more:
        report = await store.expire_attempts()
        settled += [transition.rollout_id for transition in report.transitions]
        more = report.more
    wall = time.perf_counter() - before
    calls, seconds = await bench.script_time()
    check_once(due, settled)
    return 1e3 * wall, 1e3 * (seconds - seconds_before) / (calls - calls_before)
