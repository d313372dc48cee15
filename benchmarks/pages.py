"""A page by status costs the same among few rollouts and among many."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from benchmarks.measuring import Figure, Goal, Part, Sample, in_turns
from benchmarks.setting import Bench, Spent, fill
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.records import RolloutStatus

PAGE = 50

_CALLS = 30
_QUEUED: Sequence[RolloutStatus] = ("queuing",)
_TWO: Sequence[RolloutStatus] = ("queuing", "preparing")


class _Crowd:
    """So many rollouts in a namespace, all queued but the first, which is claimed.

    A page of the status `queuing` comes from one index; one of both statuses is merged from two.
    """

    def __init__(self, bench: Bench, count: int) -> None:
        self.store: RedisLightningStore = bench.store(f"pages-{count}")
        self.count = count
        self.ids: list[str] = []

    async def gather(self) -> None:
        self.ids = await fill(self.store, self.count)
        await self.store.dequeue_rollout()

    async def read(self, statuses: Sequence[RolloutStatus], share: float) -> None:
        """Read and check the page that starts behind this share of the rollouts; 1 is the last page."""
        claimed = 0 if statuses is _TWO else 1
        total = self.count - claimed
        offset = min(int(share * total), total - PAGE)
        page = await self.store.query_rollouts(status_in=statuses, limit=PAGE, offset=offset)
        assert page.total == total
        assert [rollout.rollout_id for rollout in page] == self.ids[claimed + offset : claimed + offset + PAGE]


async def measure_pages(bench: Bench) -> Part:
    """Time of pages from the start, the middle and the end, among few rollouts and among many."""
    few, many = _Crowd(bench, bench.sizes.few), _Crowd(bench, bench.sizes.many)
    for crowd in (few, many):
        await crowd.gather()
    figures: list[Figure] = []
    for name, statuses, share in (
        ("first page", _QUEUED, 0.0),
        ("page from the middle", _QUEUED, 0.5),
        ("last page", _QUEUED, 1.0),
        ("page of two statuses from the middle", _TWO, 0.5),
    ):
        spent = await in_turns(
            bench.sizes.rounds,
            store=partial(_pages, bench, many, statuses, share),
            limit=partial(_pages, bench, few, statuses, share),
        )
        figures += _figures(name, spent)
    return Part(
        "Pages",
        f"the same page among {few.count:,} rollouts",
        f"`query_rollouts(status_in=..., limit={PAGE}, offset=...)` among {many.count:,} rollouts, records included.",
        figures,
    )


async def _pages(bench: Bench, crowd: _Crowd, statuses: Sequence[RolloutStatus], share: float) -> Spent:
    return await bench.timed(min(_CALLS, bench.sizes.calls), lambda _: crowd.read(statuses, share))


def _figures(name: str, spent: Mapping[str, Sequence[Spent]]) -> list[Figure]:
    def figure(label: str, unit: str, value: Callable[[Spent], float], goal: Goal | None = None) -> Figure:
        many, few = (Sample(tuple(map(value, spent[who]))) for who in ("store", "limit"))
        return Figure(label, unit, many, few, goal)

    return [
        figure(name, "ms", lambda each: 1e3 * each.seconds / each.calls, Goal("ratio", 1.3)),
        figure("... Redis CPU each", "µs", lambda each: each.redis_micros),
    ]
