"""Spans on their way to the store: a bounded buffer, batches per attempt, retries, and a count of every loss."""

import asyncio
import concurrent.futures
import logging
import os
import threading
import weakref
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from lightning_store.background import LoopThread, callable_from_any_thread
from lightning_store.contract import LightningStore
from lightning_store.conversion import Identity, identity_of
from lightning_store.delivery import BUFFER_FULL, REFUSED, UNATTRIBUTED, UNAVAILABLE, Loss, approximate_bytes, deliver
from lightning_store.scope import detached_context

logger = logging.getLogger("lightning_store")

REMEMBERED_LOSSES: Final = 10_000


@dataclass(eq=False)
class _Channel:
    """The spans of one attempt, in order.

    Attributes:
        unsettled: Accepted spans that are neither stored nor lost yet.
        is_drained: Whether somebody is sending them; nobody else may, so that they stay in order.
        waiters: To be told when nothing is unsettled.
    """

    identity: Identity
    queue: deque[tuple[ReadableSpan, int]] = field(default_factory=deque[tuple[ReadableSpan, int]])
    unsettled: int = 0
    is_drained: bool = False
    waiters: list["concurrent.futures.Future[None]"] = field(default_factory=list["concurrent.futures.Future[None]"])


class LightningSpanExporter(SpanExporter):
    """Writes finished spans to a store, from a thread of its own; `export` never waits.

    It batches by itself, so `SimpleSpanProcessor` is the processor to use it with; `BatchSpanProcessor` works too, but
    drops spans by itself when its queue is full. Which rollout and attempt a span belongs to is read from the
    attributes `agentlightning.rollout_id` and `agentlightning.attempt_id` of the span, else of its resource; a span
    without them is lost. Every lost span is logged and counted by reason:

    `buffer_full`: spans came faster than the store took them. `refused`: the store does not take it, for instance
    because its rollout is unknown. `unavailable`: the store was out of reach, or full, for too long.
    `unattributed`: it names no rollout or no attempt.
    """

    def __init__(
        self,
        store: LightningStore,
        *,
        max_buffered: int = 20_000,
        max_buffered_bytes: int = 128 << 20,
        max_batch: int = 256,
        max_batch_bytes: int = 1 << 20,
        linger_seconds: float = 0.2,
        retry_seconds: float = 120.0,
    ) -> None:
        """Set up; the thread starts with the first span, also in a process that was forked from this one.

        Args:
            store: Where spans go. If it is not safe to call from any thread, this makes a wrapper for it; then use
                that wrapper (`LightningStoreThreaded`) everywhere.
            max_buffered: Most spans that wait, of all attempts together; further ones are lost.
            max_buffered_bytes: The same in bytes, roughly.
            max_batch: Most spans that are sent in one call.
            max_batch_bytes: Most bytes that are sent in one call, roughly; one larger span goes alone.
            linger_seconds: How long the first span of a batch waits for company at most.
            retry_seconds: How long a batch is sent again while the store is out of reach.
        """
        self._store = callable_from_any_thread(store)
        self._max_buffered = max_buffered
        self._max_buffered_bytes = max_buffered_bytes
        self._max_batch = max_batch
        self._max_batch_bytes = max_batch_bytes
        self._linger_seconds = linger_seconds
        self._retry_seconds = retry_seconds
        self._begin()
        begin_again = weakref.WeakMethod(self._begin)

        def after_fork() -> None:
            begin = begin_again()
            if begin is not None:
                begin()

        os.register_at_fork(after_in_child=after_fork)

    def _begin(self) -> None:
        """Start empty. In a forked child the parent's thread does not exist, and its spans are the parent's to send."""
        self._lock = threading.Lock()
        self._thread: LoopThread | None = None
        self._is_sweeping = False
        self._closed = False
        self._channels: dict[Identity, _Channel] = {}
        self._buffered = 0
        self._buffered_bytes = 0
        self._lost: OrderedDict[Identity | None, Counter[str]] = OrderedDict()
        self._lost_in_all: Counter[str] = Counter()

    # -- what OpenTelemetry calls ------------------------------------------------------------------------------------

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Take over finished spans.

        Returns:
            FAILURE if one was lost at once; losses later on are logged and counted only.
        """
        taken = [self._export_one(span) for span in spans]
        return SpanExportResult.SUCCESS if all(taken) else SpanExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until every span taken so far is stored or lost; False when time is up."""
        with self._lock:
            identities = list(self._channels)
        results = [self.flushed(identity) for identity in identities]
        _, waiting = concurrent.futures.wait(results, timeout_millis / 1000)
        return not waiting

    def shutdown(self, timeout_millis: int = 30_000) -> None:
        """Send what is left, as long as time allows, and end the thread; the rest is lost, and so are later spans."""
        self.force_flush(timeout_millis)
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()
        with self._lock:
            channels = list(self._channels.values())
            self._channels.clear()
        for channel in channels:
            loss = Loss(channel.unsettled, UNAVAILABLE, "the exporter was shut down before they were stored")
            self._settle(channel, channel.unsettled, 0, [loss])
        if channels or self._lost_in_all:
            logger.warning("spans lost in all: %s", self.lost_in_all)

    # -- what the runner calls ---------------------------------------------------------------------------------------

    def offer(self, identity: Identity, span: ReadableSpan) -> bool:
        """Take over one finished span of an attempt; False if it is lost."""
        size = approximate_bytes(span)
        with self._lock:
            loss = self._refusal(size)
            if loss is None:
                self._enqueue(identity, span, size)
        if loss is not None:
            self._lose(identity, [loss])
        return loss is None

    def flushed(self, identity: Identity) -> "concurrent.futures.Future[None]":
        """Done when every span that the attempt has handed over so far is stored or lost."""
        result: concurrent.futures.Future[None] = concurrent.futures.Future()
        with self._lock:
            channel = self._channels.get(identity)
            if channel is not None and not channel.unsettled:
                channel = None  # it is about to be forgotten, and would take along whoever waits for it
            if channel is not None:
                channel.waiters.append(result)
            thread = self._thread
        if channel is None:
            result.set_result(None)
        elif thread is not None:
            thread.submit(self._drain(channel))
        return result

    async def settled(self, identity: Identity) -> None:
        """Return when every span that the attempt has handed over so far is stored or lost.

        What nobody is sending is sent from here, which spares the way to the thread and back. To be given up by not
        waiting for it, and not cancelled: then the spans that are on their way would be neither stored nor lost.
        """
        with self._lock:
            channel = self._channels.get(identity)
        if channel is not None and not await self._drain(channel):
            await asyncio.wrap_future(self.flushed(identity))

    def flush(self, rollout_id: str, attempt_id: str, timeout: float | None = None) -> bool:
        """Wait until every span of the attempt is stored or lost; blocks the caller.

        Args:
            rollout_id: The rollout.
            attempt_id: Its attempt.
            timeout: Seconds to wait; None = until then, which the time of retries bounds.

        Returns:
            False when time is up.
        """
        done, _ = concurrent.futures.wait([self.flushed((rollout_id, attempt_id))], timeout)
        return bool(done)

    def lost_spans(self, rollout_id: str, attempt_id: str) -> dict[str, int]:
        """Number of lost spans of an attempt by reason; of the latest attempts that lost any."""
        with self._lock:
            return dict(self._lost.get((rollout_id, attempt_id), {}))

    def unsettled(self, identity: Identity) -> int:
        """How many spans of an attempt are neither stored nor lost yet."""
        with self._lock:
            channel = self._channels.get(identity)
            return 0 if channel is None else channel.unsettled

    @property
    def lost_in_all(self) -> dict[str, int]:
        """Number of lost spans by reason, of all attempts since the start."""
        with self._lock:
            return dict(self._lost_in_all)

    @property
    def buffered(self) -> int:
        """How many spans are neither stored nor lost yet."""
        return self._buffered

    # -- taking spans ------------------------------------------------------------------------------------------------

    def _export_one(self, span: ReadableSpan) -> bool:
        identity = identity_of(span.attributes, span.resource.attributes)
        if identity is None:
            self._lose(None, [Loss(1, UNATTRIBUTED, f"span {span.name!r} names no rollout or no attempt")])
            return False
        return self.offer(identity, span)

    def _refusal(self, size: int) -> Loss | None:
        if self._closed:
            return Loss(1, UNAVAILABLE, "the exporter was shut down")
        if self._buffered >= self._max_buffered or (
            self._buffered and self._buffered_bytes + size > self._max_buffered_bytes
        ):
            return Loss(1, BUFFER_FULL, "spans come faster than the store takes them")
        return None

    def _enqueue(self, identity: Identity, span: ReadableSpan, size: int) -> None:
        """Called with the lock held. The thread is told only when it has to know, because that is a system call."""
        channel = self._channels.get(identity)
        if channel is None:
            channel = self._channels[identity] = _Channel(identity)
        channel.queue.append((span, size))
        channel.unsettled += 1
        self._buffered += 1
        self._buffered_bytes += size
        if self._thread is None:
            self._thread = LoopThread("lightning-store-spans", detached_context())
        if not self._is_sweeping:
            self._is_sweeping = True
            self._thread.submit(self._sweep())
        if len(channel.queue) == self._max_batch:
            self._thread.submit(self._drain(channel))

    def _settle(self, channel: _Channel, count: int, size: int, losses: Iterable[Loss]) -> None:
        """Spans of a channel are stored or lost; whoever waits for the last of them is told."""
        self._lose(channel.identity, losses)
        waiters: list[concurrent.futures.Future[None]] = []
        with self._lock:
            count = min(count, channel.unsettled)  # they count as lost already if the exporter was shut down meanwhile
            channel.unsettled -= count
            self._buffered -= count
            self._buffered_bytes -= size
            if not channel.unsettled:
                waiters, channel.waiters = channel.waiters, []
        for waiter in waiters:
            with suppress(concurrent.futures.InvalidStateError):  # who waited has given up
                waiter.set_result(None)

    def _lose(self, identity: Identity | None, losses: Iterable[Loss]) -> None:
        for loss in losses:
            with self._lock:
                counts = self._lost.setdefault(identity, Counter())
                is_first = not counts[loss.reason]
                counts[loss.reason] += loss.count
                self._lost_in_all[loss.reason] += loss.count
                if len(self._lost) > REMEMBERED_LOSSES:
                    self._lost.popitem(last=False)
            if is_first:
                rollout_id, attempt_id = identity or (None, None)
                logger.log(
                    logging.ERROR if loss.reason == REFUSED else logging.WARNING,
                    "span lost rollout=%s attempt=%s count=%d reason=%s detail=%s (further ones are counted only)",
                    rollout_id, attempt_id, loss.count, loss.reason, loss.detail,
                )  # fmt: skip

    # -- sending spans -----------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        """Have sent what waits, time after time, until there is nothing; the next span starts this again."""
        draining: set[asyncio.Task[bool]] = set()
        while True:
            await asyncio.sleep(self._linger_seconds)
            with self._lock:
                channels = list(self._channels.values())
                self._is_sweeping = bool(channels)
            if not channels:
                return
            for channel in channels:
                if not channel.is_drained:
                    task = asyncio.ensure_future(self._drain(channel))
                    draining.add(task)
                    task.add_done_callback(draining.discard)

    async def _drain(self, channel: _Channel) -> bool:
        """Send what waits, batch after batch, until nothing does; False if somebody else is sending it."""
        with self._lock:
            if channel.is_drained:
                return False
            channel.is_drained = True
        while True:
            batch, size = self._take(channel)
            if not batch:
                return True
            losses = await deliver(self._store, channel.identity, batch, self._retry_seconds)
            self._settle(channel, len(batch), size, losses)

    def _take(self, channel: _Channel) -> tuple[list[ReadableSpan], int]:
        """The next batch and its size; when there is none, sending ends and the channel is forgotten."""
        batch: list[ReadableSpan] = []
        total = 0
        with self._lock:
            while channel.queue and len(batch) < self._max_batch:
                span, size = channel.queue[0]
                if batch and total + size > self._max_batch_bytes:
                    break
                channel.queue.popleft()
                batch.append(span)
                total += size
            if not batch:
                channel.is_drained = False
                if self._channels.get(channel.identity) is channel:  # and not one that began after it was forgotten
                    del self._channels[channel.identity]
        return batch, total
