"""What all operations of the memory store share: its state, its clock, and whoever waits on it."""

import math
from typing import Any

from lightning_store.admission import MaxQueued
from lightning_store.backends.memory.namespace_clock import NamespaceClock
from lightning_store.backends.memory.spans import SpanMemory, SpanSizeEstimator
from lightning_store.backends.memory.state import FEW, MemoryState
from lightning_store.base import BaseStore
from lightning_store.clock import Clock, IdSource, SystemClock
from lightning_store.contract import Capabilities
from lightning_store.memory_limits import MemoryThresholds
from lightning_store.payloads import DEFAULT_LIMITS, PayloadLimits
from lightning_store.requests import check_seconds
from lightning_store.waiting import Alarm, ClaimLine, FinishWaits, RoomLine, Wait


class MemoryCore(BaseStore):
    """A store in the memory of one process, for one event loop at a time."""

    kind = "memory"

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        ids: IdSource | None = None,
        grace_seconds: float = 15.0,
        eviction_memory_threshold: float = 0.7,
        safe_memory_threshold: float | None = None,
        high_water_memory_threshold: float = 0.9,
        span_size_estimator: SpanSizeEstimator | None = None,
        memory_capacity_bytes: int | None = None,
        max_queued: MaxQueued = None,
        max_task_bytes: int | None = DEFAULT_LIMITS.max_task_bytes,
        max_span_bytes: int | None = DEFAULT_LIMITS.max_span_bytes,
        max_resources_bytes: int | None = DEFAULT_LIMITS.max_resources_bytes,
        max_metadata_bytes: int | None = DEFAULT_LIMITS.max_metadata_bytes,
    ) -> None:
        """Make an empty store.

        Args:
            clock: The time; None = this machine's. Waits are measured in real time whatever it tells.
            ids: Where ids come from; None = random ones.
            grace_seconds: A gap between calls that is longer than this counts as an outage, after which silence is
                forgiven for as long.
            eviction_memory_threshold: Spans are evicted beyond it: a float is a share of the capacity, an integer is
                bytes.
            safe_memory_threshold: They are evicted until this is reached; None = 80 % of `eviction_memory_threshold`.
            high_water_memory_threshold: Spans that would cross it are refused. Only spans are measured here, so
                rollouts and resources are never refused.
            span_size_estimator: Estimates the bytes that a span takes; None = from its JSON.
            memory_capacity_bytes: What shares are of; None = the memory of this machine.
            max_queued: Most rollouts that may wait in a queue, see `enqueue_many_rollouts`: an integer for each queue,
                or a mapping by queue, others without a limit. None = no limits.
            max_task_bytes: Most bytes of an input, as JSON; None = no limit.
            max_span_bytes: The same of a span.
            max_resources_bytes: The same of a resources snapshot.
            max_metadata_bytes: The same of metadata of a rollout or attempt, and of heartbeat stats.

        Raises:
            InvalidRequestError: A threshold or limit is out of bounds, or thresholds do not rise in this order: safe,
                eviction, high water.
        """
        payloads = PayloadLimits(max_task_bytes, max_span_bytes, max_resources_bytes, max_metadata_bytes)
        super().__init__(ids=ids, max_queued=max_queued, payloads=payloads)
        self._clock = clock or SystemClock()
        grace_seconds = check_seconds(grace_seconds, "grace_seconds")
        self._time = NamespaceClock(self._clock.now, grace_seconds)
        self._line = ClaimLine()
        self._room = RoomLine()
        self._finish_waits = FinishWaits()
        self._completion_waits: set[Wait] = set()
        self._state = MemoryState(
            self._time, grace_seconds, on_push=self._line.call, on_room=self._room.call, on_finish=self._on_finish
        )
        self._alarm = Alarm(self._seconds_left, self._settle_on_time)
        self._span_memory = SpanMemory(
            MemoryThresholds(eviction_memory_threshold, safe_memory_threshold, high_water_memory_threshold),
            estimator=span_size_estimator,
            capacity_bytes=memory_capacity_bytes,
            on_evict=self._on_evict,
        )
        self._is_closed = False

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("an in-memory store lives in one process; a pickled one would be another store")

    @property
    def capabilities(self) -> Capabilities:
        """Coroutines of one loop may call it at once; other threads and processes may not."""
        return Capabilities(thread_safe=False, async_safe=True, zero_copy=False, otlp_traces=False)

    async def statistics(self) -> dict[str, Any]:
        """See the contract."""
        state = self._state
        return {
            "name": type(self).__name__,
            "total_rollouts": len(state.rollouts),
            "total_attempts": state.attempt_count,
            "total_spans": self._span_memory.count,
            "total_resources": len(state.resources),
            "total_workers": len(state.workers),
            "uptime": self._uptime(),
            "rollouts_by_status": {status: len(index) for status, index in state.by_status.items()},
            "span_bytes": self._span_memory.used,
        }

    async def close(self) -> None:
        """End all waits: they answer with what there is. The store can still be read and written."""
        self._is_closed = True
        self._line.call_all()
        self._room.call_all()
        self._finish_waits.wake_all()
        for wait in self._completion_waits:
            wait.wake()

    def _begin(self, *spared: str) -> float:
        """Begin a call that writes: note the time, and settle a few rollouts in passing, but not those spared."""
        now = self._time.note()
        self._state.settle_due(now, FEW, spared)
        return now

    def _seconds_left(self) -> float:
        soonest = self._state.soonest()
        return soonest - self._time.peek() if soonest < math.inf else math.inf

    def _settle_on_time(self) -> None:
        """Settle what came due while somebody waits; no trace if nothing did, as when a clock stands still."""
        if self._seconds_left() <= 0:
            self._state.settle_all(self._time.note())

    def _on_evict(self, rollouts: int) -> None:
        self._observer.evicted(rollouts)

    def _on_finish(self, rollout_id: str) -> None:
        self._finish_waits.finished(rollout_id)
        for wait in self._completion_waits:
            wait.wake()
