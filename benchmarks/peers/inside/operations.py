"""The same calls on any store with the interface of Agent Lightning 0.3; only the standard library is imported here."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from recording import answer

PAGE = 10
SPANS = 100

_WORKERS = 16
_FILL = 500
_SCANS = 10
_TEXT = "x" * 600


async def answer_calls(kit: Any) -> None:
    """Do what the lines of the input ask for.

    - `serve`: a new store behind a new server, which takes the place of the last one; its URL.
    - `memory CALLS BULKS MANY`: calls per second of each kind on a new store in memory.
    - `http CALLS BULKS MANY URL CLIENTS`: the same through so many clients at once.

    Args:
        kit: Module with the classes of one implementation.
    """
    stop: Callable[[], Awaitable[None]] | None = None
    for line in sys.stdin:
        kind, *words = line.split()
        if kind == "serve":
            if stop is not None:
                await stop()
            url, stop = await kit.serve()
            answer(url)
        elif kind == "memory":
            answer(await _rates(kit, [kit.new_store()], *map(int, words), scans=True))
        else:
            url, clients = words[3:]
            stores = [kit.new_client(url) for _ in range(int(clients))]
            answer(await _rates(kit, stores, *map(int, words[:3]), scans=False))
            for store in stores:
                await store.close()


class _Calls:
    """Calls of each kind on stores that are one: the same store, or its clients.

    Each kind is measured as calls per second of all stores together, each of which calls one after the other.
    """

    def __init__(self, kit: Any, stores: Sequence[Any], calls: int, bulks: int) -> None:
        self._kit = kit
        self._stores = stores
        self._calls = calls
        self._bulk_calls = bulks
        self._enqueued: list[str] = []
        self._claimed: list[Any] = []
        self._single: list[Any] = []
        self._bulks: list[list[Any]] = []
        self._first: list[str] = []

    async def connect(self) -> None:
        """So that this is not measured."""
        for store in self._stores:
            await store.query_rollouts(limit=1)

    async def enqueue(self) -> float:
        async def call(store: Any, number: int) -> None:
            self._enqueued.append((await store.enqueue_rollout({"task": number})).rollout_id)

        return await self._rate(self._calls, call)

    async def dequeue(self) -> float:
        async def call(store: Any, number: int) -> None:
            self._claimed.append(await store.dequeue_rollout(worker_id=f"worker-{number % _WORKERS}"))

        rate = await self._rate(self._calls, call)
        assert sorted(self._enqueued) == sorted(rollout.rollout_id for rollout in self._claimed)
        self._single = [_span(self._kit, rollout, 0) for rollout in self._claimed]
        self._bulks = [
            [_span(self._kit, rollout, number) for number in range(1, 1 + SPANS)]
            for rollout in self._claimed[: self._bulk_calls]
        ]
        return rate

    async def add_span(self) -> float:
        async def call(store: Any, number: int) -> None:
            assert await store.add_span(self._single[number]) is not None

        return await self._rate(len(self._single), call)

    async def add_many_spans(self) -> float:
        """Spans per second."""

        async def call(store: Any, number: int) -> None:
            assert len(await store.add_many_spans(self._bulks[number])) == SPANS

        rate = SPANS * await self._rate(len(self._bulks), call)
        for single, bulk in zip(self._single, self._bulks, strict=False):
            stored = await self._stores[0].query_spans(single.rollout_id)
            assert sorted(each.span_id for each in stored) == sorted(each.span_id for each in [single, *bulk])
        return rate

    async def update_attempt(self) -> float:
        async def call(store: Any, number: int) -> None:
            rollout = self._claimed[number]
            await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, status="succeeded")

        rate = await self._rate(self._calls, call)
        ended = await self._stores[0].query_rollouts(status_in=["succeeded"], limit=-1)
        assert sorted(rollout.rollout_id for rollout in ended) == sorted(self._enqueued)
        return rate

    async def page(self, many: int) -> float:
        """Pages of the status `queuing`, which so many rollouts have."""
        queued: set[str] = set()
        for start in range(0, many, _FILL):
            requests = [_request(self._kit, number) for number in range(start, min(many, start + _FILL))]
            queued |= {each.rollout_id for each in await self._stores[0].enqueue_many_rollouts(requests)}

        async def call(store: Any, _: int) -> None:
            rollouts = await store.query_rollouts(status_in=["queuing"], limit=PAGE)
            assert len({each.rollout_id for each in rollouts} & queued) == PAGE

        return await self._rate(self._calls, call)

    async def health_scan(self, many: int) -> float:
        """Scans that find nothing, over so many attempts with a limit of silence."""
        store = self._stores[0]
        assert len(await store.dequeue_many_rollouts(limit=many)) == many
        scan = self._kit.scanner(store)
        rate = await self._rate(_SCANS, lambda _store, _number: scan())
        assert len(await store.query_rollouts(status_in=["preparing"], limit=-1)) == many
        return rate

    async def _rate(self, count: int, call: Callable[[Any, int], Awaitable[object]]) -> float:
        numbers = iter(range(count))

        async def work(store: Any) -> None:
            for number in numbers:
                await call(store, number)

        before = time.perf_counter()
        await asyncio.gather(*map(work, self._stores))
        return count / (time.perf_counter() - before)


async def _rates(
    kit: Any, stores: Sequence[Any], calls: int, bulks: int, many: int, *, scans: bool
) -> dict[str, float]:
    """Calls per second of each kind, checked."""
    measured = _Calls(kit, stores, calls, bulks)
    await measured.connect()
    rates = {
        kind.__name__: await kind()
        for kind in (
            measured.enqueue,
            measured.dequeue,
            measured.add_span,
            measured.add_many_spans,
            measured.update_attempt,
        )
    }
    rates["page"] = await measured.page(many)
    if scans:
        rates["health_scan"] = await measured.health_scan(many)
    return rates


def _request(kit: Any, number: int) -> Any:
    return kit.EnqueueRolloutRequest(input={"task": number}, config=kit.RolloutConfig(unresponsive_seconds=3600))


def _span(kit: Any, rollout: Any, number: int) -> Any:
    return kit.Span.model_validate(
        {
            "rollout_id": rollout.rollout_id,
            "attempt_id": rollout.attempt.attempt_id,
            "sequence_id": number,
            "trace_id": f"{1:032x}",
            "span_id": f"{number + 1:016x}",
            "parent_id": None,
            "name": "llm.call",
            "status": {"status_code": "OK"},
            "attributes": {"completion": _TEXT},
            "events": [],
            "links": [],
            "start_time": 1_700_000_000.25,
            "end_time": 1_700_000_001.5,
            "context": None,
            "parent": None,
            "resource": {"attributes": {}, "schema_url": ""},
        }
    )
