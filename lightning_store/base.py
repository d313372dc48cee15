"""One-item operations written once in terms of the bulk ones, and what all stores of ours hold."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from lightning_store.addresses import StoreKind
from lightning_store.admission import MaxQueued, QueueLimits
from lightning_store.clock import IdSource, RandomIds
from lightning_store.contract import DEFAULT_QUEUES, LightningStore
from lightning_store.errors import UnsupportedOperationError
from lightning_store.eventlog import EventPage
from lightning_store.footprint import Footprint
from lightning_store.observer import UNOBSERVED, StoreObserver
from lightning_store.payloads import PayloadLimits
from lightning_store.records import (
    DEFAULT_QUEUE,
    AttemptedRollout,
    EnqueueRolloutRequest,
    Rollout,
    RolloutConfig,
    RolloutMode,
)
from lightning_store.spans import Span

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

logger = logging.getLogger("lightning_store")


class BaseStore(LightningStore):
    """What the backends share. A backend implements the bulk operations and every operation not found here.

    Attributes:
        kind: What the store lies on.
    """

    kind: ClassVar[StoreKind]

    _observer: StoreObserver = UNOBSERVED

    def __init__(self, *, ids: IdSource | None, max_queued: MaxQueued, payloads: PayloadLimits) -> None:
        self.ids: IdSource = ids or RandomIds()
        self._queue_limits = QueueLimits.of(max_queued)
        self._payloads = payloads
        self._made_at = time.monotonic()
        self._last_uptime = 0.0

    def observe(self, observer: StoreObserver) -> None:
        """Tell an observer from now on, and no other; copies in other processes tell nobody."""
        self._observer = observer

    async def events_after(self, cursor: str | None, *, limit: int = 1000) -> EventPage:
        """What `query_events` tells, read as it grows: every transition once, and how many were missed.

        Args:
            cursor: Where to go on, from an earlier page; None = the end of the log.
            limit: Most transitions to return, at least 1.

        Raises:
            UnsupportedOperationError: This store cannot tell.
            InvalidRequestError: The cursor is none.
        """
        raise UnsupportedOperationError(f"{type(self).__name__} does not tell what happens in it")

    async def footprint(self) -> Footprint:
        """How much memory the store takes, of how much.

        Raises:
            UnsupportedOperationError: This store cannot tell.
        """
        raise UnsupportedOperationError(f"{type(self).__name__} does not tell its memory")

    async def file_sizes(self) -> Mapping[str, int]:
        """Bytes of the files that the store is in, by what they hold; empty when it is in none."""
        return {}

    def _uptime(self) -> float:
        """Seconds since the object was made; grows with every call, however coarse the clock."""
        self._last_uptime = max(time.monotonic() - self._made_at, self._last_uptime + 1e-6)
        return self._last_uptime

    async def enqueue_rollout(
        self,
        input: Any,
        mode: RolloutMode | None = None,
        resources_id: str | None = None,
        config: RolloutConfig | None = None,
        metadata: dict[str, Any] | None = None,
        *,
        rollout_id: str | None = None,
        group_id: str | None = None,
        queue: str = DEFAULT_QUEUE,
        timeout: float = 0,
    ) -> Rollout:
        """See the contract."""
        request = EnqueueRolloutRequest(
            input=input,
            mode=mode,
            resources_id=resources_id,
            config=config,
            metadata=metadata,
            rollout_id=rollout_id,
            group_id=group_id,
            queue=queue,
        )
        return (await self.enqueue_many_rollouts([request], timeout=timeout))[0]

    async def dequeue_rollout(
        self,
        worker_id: str | None = None,
        *,
        queues: Sequence[str] = DEFAULT_QUEUES,
        timeout: float = 0,
        lease_seconds: float | None = None,
    ) -> AttemptedRollout | None:
        """See the contract."""
        claimed = await self.dequeue_many_rollouts(
            limit=1, worker_id=worker_id, queues=queues, timeout=timeout, lease_seconds=lease_seconds
        )
        return claimed[0] if claimed else None

    async def add_span(self, span: Span) -> Span | None:
        """See the contract."""
        return span if await self.add_many_spans([span]) else None

    async def add_otel_span(
        self, rollout_id: str, attempt_id: str, readable_span: "ReadableSpan", sequence_id: int | None = None
    ) -> Span | None:
        """See the contract."""
        span = Span.from_opentelemetry(readable_span, rollout_id, attempt_id, sequence_id or 0)
        stored = await self.add_many_spans([span], renumber=sequence_id is None)
        return stored[0] if stored else None

    async def get_next_span_sequence_id(self, rollout_id: str, attempt_id: str) -> int:
        """See the contract."""
        return (await self.get_many_span_sequence_ids([(rollout_id, attempt_id)]))[0]

    def _report_duplicates(self, spans: Sequence[Span]) -> None:
        """Log spans that were skipped because they are stored already."""
        for span in spans:
            logger.error(
                "Duplicated span added: rollout %s, attempt %s, span %s", span.rollout_id, span.attempt_id, span.span_id
            )
