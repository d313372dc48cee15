"""How much memory a namespace takes in Redis: keys of which there are many are sampled, times their number."""

from collections.abc import Iterable, Sequence
from typing import Final

from lightning_store.backends.redis import codec
from lightning_store.backends.redis.core import CHUNK, RedisCore, chunks
from lightning_store.backends.redis.scripts import Argument
from lightning_store.errors import UnsupportedOperationError
from lightning_store.footprint import KINDS, Footprint
from lightning_store.status import ROLLOUT_STATUSES

SAMPLED: Final = 100
"""Most rollouts, workers and snapshots each that are looked at: some thousand short commands at most."""

_SPANS_PER_SET: Final = 512
_MOST_SETS: Final = 8
_MOST_ATTEMPTS: Final = 5

_INDEXES: Final = ("rollouts", "deadlines", "delayed", "workers", "resources", "stats", "meta", "consumers", "steps")
_LOGS: Final = ("completed", "events")

Sized = tuple[str, str, float]
"""A kind, a key of it, and for how many such keys it stands."""


class FootprintOperations(RedisCore):
    """Measuring the memory of a namespace."""

    async def footprint(self) -> Footprint:
        """The memory of the server and of the namespace; a bounded number of commands, in some round trips.

        Not counted: answers of recent calls, which expire within minutes, and the indexes of groups.

        Raises:
            UnsupportedOperationError: The server does not tell its memory.
            AccessDeniedError: The store's user may not ask.
        """
        reading = self._memory.note(await self._connections.info("memory"))
        if reading is None:
            raise UnsupportedOperationError("the server does not tell its memory")
        keys = [*self._singles(), *await self._of_rollouts(), *await self._of_others()]
        usages: list[int | None] = []
        for chunk in chunks(keys):
            usages += await self._connections.commands([("MEMORY", "USAGE", name) for _, name, _ in chunk])
        by_kind: dict[str, float] = dict.fromkeys(KINDS, 0.0)
        for (kind, _, factor), usage in zip(keys, usages, strict=True):
            by_kind[kind] += (usage or 0) * factor
        return Footprint(reading.used, reading.capacity, by_kind)

    def _singles(self) -> Iterable[Sized]:
        control = self._keys.control
        yield from (("indexes", control(kind), 1.0) for kind in _INDEXES)
        yield from (("indexes", control("status", status), 1.0) for status in ROLLOUT_STATUSES)
        yield from (("logs", control(kind), 1.0) for kind in _LOGS)

    async def _of_rollouts(self) -> list[Sized]:
        ids, factor = await self._sample("rollouts")
        control = self._keys.control
        found: list[Sized] = []
        for chunk in chunks(ids, CHUNK):
            questions: list[Sequence[Argument]] = []
            for id in chunk:
                questions.append(("HMGET", control("rollout", id), "latest", "stored"))
                questions.append(("LRANGE", control("attempts", id), -_MOST_ATTEMPTS, -1))
            answers = await self._connections.commands(questions)
            for id, (latest, stored), listed in zip(chunk, answers[::2], answers[1::2], strict=True):
                attempts = [codec.text(each) for each in codec.attempt_ids(listed, latest)]
                found += self._of_rollout(id, attempts, int(stored or 0), factor)
        return found

    def _of_rollout(self, id: str, attempts: Sequence[str], spans: int, factor: float) -> Iterable[Sized]:
        control = self._keys.control
        for kind in ("rollout", "task", "metadata"):
            yield "rollouts", control(kind, id), factor
        yield "attempts", control("attempts", id), factor
        for attempt in attempts:
            for kind in ("attempt", "attempt_metadata"):
                yield "attempts", control(kind, f"{id}:{attempt}"), factor
            sets = min(spans // _SPANS_PER_SET + 1, _MOST_SETS) if spans else 0
            for prefix in ("", "text:"):
                yield from (("spans", f"{self._keys.span_ids(id)}{attempt}:{prefix}{n}", factor) for n in range(sets))
        if spans:
            yield "spans", self._keys.spans(id), factor

    async def _of_others(self) -> list[Sized]:
        """Of workers and snapshots, and of queues, which are as many as users name."""
        control = self._keys.control
        found: list[Sized] = []
        for kind, names in (("workers", ("worker", "worker_stats")), ("resources", ("resources",))):
            ids, factor = await self._sample(kind)
            found += [(kind, control(name, id), factor) for id in ids for name in names]
        counters: list[bytes] = await self._connections.command("HKEYS", control("stats"))
        fields = [codec.text(field).partition(":") for field in counters]
        queues = [queue for kind, _, queue in fields if kind == "queue"]
        factor = max(1.0, len(queues) / SAMPLED)
        return found + [
            ("indexes", control(kind, queue), factor) for queue in queues[:SAMPLED] for kind in ("queue", "wake")
        ]

    async def _sample(self, index: str) -> tuple[list[str], float]:
        """Members of an index at random, and for how many each of them stands."""
        name = self._keys.control(index)
        members, total = await self._connections.commands([("ZRANDMEMBER", name, SAMPLED), ("ZCARD", name)])
        return [codec.text(member) for member in members], total / len(members) if members else 0.0
