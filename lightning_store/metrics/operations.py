"""Metrics of the calls that pass through one process: a wrapper of a store counts and times them."""

import asyncio
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from prometheus_client import CollectorRegistry

from lightning_store.contract import Capabilities, LightningStore
from lightning_store.errors import LightningStoreError
from lightning_store.forwarding import ForwardingStore, innermost
from lightning_store.metrics.families import FAMILIES
from lightning_store.metrics.labels import Bounded
from lightning_store.observer import StoreObserver
from lightning_store.operations import OPERATIONS, Operation
from lightning_store.records import AttemptedRollout

T = TypeVar("T")

OK: Final = "ok"
OTLP_TRACES: Final = "otlp_traces"
"""Under this name requests for traces by OTLP count, besides the calls of the store that they make."""

_WITHOUT_END: Final = frozenset({"wait_for_rollouts"})
"""Operations whose `timeout` waits without end when it is not given."""


def outcome_of(error: BaseException) -> str:
    """The label of a call that ended with this error."""
    if isinstance(error, LightningStoreError):
        return error.code.lower()
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    return "invalid_request" if isinstance(error, ValueError | TypeError) else "internal"


class _Children(dict[str, T]):
    """Metrics by label, made when first needed: histograms are large, and finding one costs more than using it."""

    def __init__(self, make: Callable[[str], T]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, label: str) -> T:
        child = self[label] = self._make(label)
        return child


class OperationMetrics:
    """Counts and times calls; may be told from any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register the metrics.

        Args:
            registry: Where they are told.
        """
        self._registry = registry
        self._ended = FAMILIES["operations_total"].counter(registry)
        durations = FAMILIES["operation_duration_seconds"].histogram(registry)
        waits = FAMILIES["wait_duration_seconds"].histogram(registry)
        waiting = FAMILIES["waits_in_progress"].gauge(registry)
        self._succeeded = _Children(lambda name: self._ended.labels(name, OK))
        for name in OPERATIONS:
            self._succeeded[name].inc(0)
        self._waiting = {name: waiting.labels(name) for name, row in OPERATIONS.items() if row.waits}
        self._durations = _Children(durations.labels)
        self._waits = _Children(waits.labels)
        self._claimed = FAMILIES["claimed_rollouts_total"].counter(registry)
        self._queues = Bounded()
        self._queue_wait = FAMILIES["queue_wait_seconds"].histogram(registry)
        self._last_claim = FAMILIES["last_claim_timestamp_seconds"].gauge(registry)
        self._spans = FAMILIES["stored_spans_total"].counter(registry)

    @contextmanager
    def counted(self, name: str, *, waits: bool = False) -> Generator[None, None, None]:
        """Counts and times what happens within as an operation, by what it raises.

        Args:
            name: Of the operation.
            waits: It was asked to wait if need be.
        """
        outcome = OK
        if waits:
            self._waiting[name].inc()
        began = time.perf_counter()
        try:
            yield
        except BaseException as error:
            outcome = outcome_of(error)
            raise
        finally:
            seconds = time.perf_counter() - began
            if waits:
                self._waiting[name].dec()
            (self._waits if waits else self._durations)[name].observe(seconds)
            if outcome == OK:
                self._succeeded[name].inc()
            else:
                self._ended.labels(name, outcome).inc()

    def claimed(self, answer: Any) -> None:
        """What a claim has brought."""
        rollouts: list[AttemptedRollout] = answer if isinstance(answer, list) else [answer] if answer else []
        if rollouts:
            self._last_claim.set(time.time())
        for rollout in rollouts:
            self._claimed.labels(self._queues.label(rollout.queue)).inc()
            if rollout.attempt.sequence_id == 1:
                self._queue_wait.observe(max(0.0, rollout.attempt.start_time - rollout.start_time))

    def stored(self, answer: Any) -> None:
        """What of the spans is stored."""
        self._spans.inc(len(answer) if isinstance(answer, list) else int(answer is not None))

    def observer(self) -> StoreObserver:
        """What a store of ours is to tell; its metrics exist from now on."""
        return _Observer(self._registry)


class _Observer(StoreObserver):
    """Counts what a store tells beside its answers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._retries = FAMILIES["retries_total"].counter(registry)
        self._bytes = FAMILIES["stored_span_bytes_total"].counter(registry)
        self._evicted = FAMILIES["evicted_rollouts_total"].counter(registry)

    def retried(self, error: Exception) -> None:
        self._retries.labels(outcome_of(error)).inc()

    def stored_spans(self, spans: int, size: int) -> None:
        self._bytes.inc(size)

    def evicted(self, rollouts: int) -> None:
        self._evicted.inc(rollouts)


class MeteredStore(ForwardingStore):
    """A store whose calls are counted and timed.

    Everything else is as with the wrapped store: what it can do, its answers and its errors.
    """

    def __init__(self, store: LightningStore, metrics: OperationMetrics) -> None:
        """Wrap a store. If it is one of ours that does its own work, it tells the metrics what answers do not.

        Args:
            store: The store; at most one for these metrics.
            metrics: Where calls are counted.
        """
        self._store = store
        self._metrics = metrics
        self._tell: dict[str, Callable[[Any], None]] = {
            "dequeue_rollout": metrics.claimed,
            "dequeue_many_rollouts": metrics.claimed,
            "add_span": metrics.stored,
            "add_many_spans": metrics.stored,
            "add_otel_span": metrics.stored,
        }
        observe = getattr(innermost(store), "observe", None)
        if observe is not None:
            observe(metrics.observer())

    @property
    def store(self) -> LightningStore:
        """The wrapped store."""
        return self._store

    @property
    def capabilities(self) -> Capabilities:
        """Those of the wrapped store."""
        return self._store.capabilities

    def otlp_traces_endpoint(self) -> str:
        """That of the wrapped store."""
        return self._store.otlp_traces_endpoint()

    async def invoke(self, operation: Operation, arguments: dict[str, Any]) -> Any:
        """Carry out one operation, and count it."""
        name = operation.name
        with self._metrics.counted(name, waits=operation.waits and _may_wait(name, arguments)):
            answer = await getattr(self._store, name)(**arguments)
        tell = self._tell.get(name)
        if tell is not None:
            tell(answer)
        return answer

    async def close(self) -> None:
        """Close the wrapped store, if it can be closed."""
        close = getattr(self._store, "close", None)
        if close is not None:
            await close()


def _may_wait(name: str, arguments: dict[str, Any]) -> bool:
    timeout = arguments.get("timeout", None if name in _WITHOUT_END else 0)
    return timeout is None or not isinstance(timeout, int | float) or timeout > 0
