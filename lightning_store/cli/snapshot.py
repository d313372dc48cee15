"""What `lightning-store status` shows: gathered once, then told as tables or as JSON."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, get_args

from lightning_store.base import BaseStore
from lightning_store.cli.output import Table, duration, size
from lightning_store.connect import kind_of, redact
from lightning_store.contract import LightningStore
from lightning_store.reachable import read_place
from lightning_store.records import QueueStats, RolloutStatus, Worker, WorkerStatus
from lightning_store.serverinfo import Memory
from lightning_store.status import ROLLOUT_STATUSES

WORKER_STATUSES: Final[tuple[WorkerStatus, ...]] = get_args(WorkerStatus)


@dataclass(frozen=True)
class Snapshot:
    """The state of a namespace at one time.

    Attributes:
        time: By the server's clock if it tells, else by ours; seconds since the epoch.
        workers: Those heard of last, not all.
        span_bytes: What spans take, as the store counts it; None where it does not.
        memory: Of the whole Redis server; None when it does not tell, and where there is none.
        files: Bytes of the files that the store is in, by what they hold; empty when it is in none that we could see.
    """

    url: str
    namespace: str
    time: float
    queues: list[QueueStats]
    rollouts_by_status: dict[RolloutStatus, int]
    attempts: int
    spans: int
    workers_by_status: dict[WorkerStatus, int]
    workers: list[Worker]
    span_bytes: int | None
    memory: Memory | None
    files: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        """The snapshot as JSON values; the URL has no secrets."""
        capacity = self.memory.capacity_bytes if self.memory else None
        return {
            "url": redact(self.url),
            "namespace": self.namespace,
            "time": self.time,
            "queues": [queue.model_dump() for queue in self.queues],
            "rollouts_by_status": self.rollouts_by_status,
            "attempts": self.attempts,
            "spans": self.spans,
            "workers_by_status": self.workers_by_status,
            "workers": [worker.model_dump() for worker in self.workers],
            "span_bytes": self.span_bytes,
            "memory": {**asdict(self.memory), "capacity_bytes": capacity} if self.memory else None,
            "files": dict(self.files),
        }

    def as_tables(self) -> list[Table]:
        """The snapshot for people."""
        queues = [(queue.queue, queue.depth, duration(queue.oldest_seconds), queue.delayed) for queue in self.queues]
        counts = [(status, self.rollouts_by_status.get(status, 0)) for status in ROLLOUT_STATUSES]
        tables = [
            Table("queues", ("queue", "depth", "oldest", "delayed"), list(queues)),
            Table("rollouts", ("status", "count"), list(counts)),
            Table("workers", ("status", "count"), list(self.workers_by_status.items())),
        ]
        if self.workers:
            headings = ("worker", "status", "rollout", "heard of", "dequeued")
            tables.append(Table("workers heard of last", headings, [self._worker(worker) for worker in self.workers]))
        return [*tables, Table("totals", (), list(self._totals()))]

    def _totals(self) -> Iterator[tuple[str, object]]:
        yield "attempts", self.attempts
        yield "spans", self.spans
        if self.span_bytes is not None:
            yield "bytes of spans", size(self.span_bytes)
        if kind_of(self.url) == "redis":
            yield "memory of the server", self._memory()
        yield from ((f"size of the {content}", size(taken)) for content, taken in self.files.items())

    def _worker(self, worker: Worker) -> tuple[object, ...]:
        ago = [
            None if moment is None else self.time - moment for moment in (last_sign(worker), worker.last_dequeue_time)
        ]
        return (worker.worker_id, worker.status, worker.current_rollout_id, *(duration(age) for age in ago))

    def _memory(self) -> str:
        if self.memory is None:
            return "unknown"
        capacity = self.memory.capacity_bytes
        used = size(self.memory.used_bytes)
        if capacity is None:
            return used
        limit = "maxmemory" if self.memory.limit_bytes else "its machine"
        return f"{used} of {size(capacity)} ({limit}), {self.memory.used_bytes / capacity:.0%}"


def last_sign(worker: Worker) -> float | None:
    """When a worker was last heard of; None if never."""
    times = (worker.last_heartbeat_time, worker.last_dequeue_time, worker.last_busy_time, worker.last_idle_time)
    return max((moment for moment in times if moment is not None), default=None)


async def take_snapshot(store: LightningStore, url: str, namespace: str, *, most_workers: int) -> Snapshot:
    """Ask the store and what it lies on.

    Args:
        store: The store.
        url: Its URL, for the figures of the server.
        namespace: Its namespace, for show.
        most_workers: How many workers to list; -1 = all.

    Raises:
        StoreUnavailableError: The server cannot be reached.
    """
    # Asked first, because it fails at once where the store would try again for long.
    memory, server_time = await asyncio.to_thread(read_place, url)
    # Asking for workers settles all deadlines that are due, so that the counts read after it are true.
    workers = sorted(await store.query_workers(), key=lambda worker: last_sign(worker) or 0.0, reverse=True)
    counts = Counter(worker.status for worker in workers)
    statistics = await store.statistics()
    queues = await store.query_queues()
    return Snapshot(
        url=url,
        namespace=namespace,
        time=time.time() if server_time is None else server_time,
        queues=sorted(queues, key=lambda queue: queue.queue),
        rollouts_by_status=statistics["rollouts_by_status"],
        attempts=statistics["total_attempts"],
        spans=statistics["total_spans"],
        workers_by_status={status: counts[status] for status in WORKER_STATUSES},
        workers=workers if most_workers < 0 else workers[:most_workers],
        span_bytes=statistics.get("span_bytes"),
        memory=memory,
        files=await store.file_sizes() if isinstance(store, BaseStore) else {},
    )
