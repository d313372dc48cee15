"""The store that Agent Lightning's Trainer, runners, tracers, algorithms and server take in place of their own."""

import inspect
import os
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import Any

from agentlightning.store.base import LightningStore as TheirStore
from agentlightning.store.base import LightningStoreCapabilities as TheirCapabilities
from agentlightning.store.base import Unset as TheirUnset
from agentlightning.types import Span as TheirSpan

from lightning_store.addresses import DEFAULT_NAMESPACE, NAMESPACE_VARIABLE, URL_VARIABLE
from lightning_store.connect import open_store
from lightning_store.contract import LightningStore, Unset
from lightning_store.errors import InvalidRequestError
from lightning_store.integrations.agentlightning.records import answer_to_theirs, argument_to_ours, span_to_ours
from lightning_store.integrations.agentlightning.scans import DEFAULT_SECONDS, SCANNING, Debounce
from lightning_store.threaded import LightningStoreThreaded


class AgentLightningStore(TheirStore):
    """Any store of ours as an `agentlightning.LightningStore`: takes and returns Agent Lightning's own records.

    Every method has upstream's signature and the meaning of our contract. The extensions of our stores, such as
    blocking dequeues, leases, completions and deletion, are reached through `store`.

    May be used from any thread and event loop. Forked and pickled copies work on the same data if the store behind says
    so (`zero_copy`); one that is not safe to call from any thread, such as the one in memory, is run on a loop of its
    own by `LightningStoreThreaded`.
    """

    def __init__(
        self,
        store: LightningStore | None = None,
        *,
        url: str | None = None,
        namespace: str | None = None,
        scan_debounce_seconds: float = DEFAULT_SECONDS,
        **settings: Any,
    ) -> None:
        """Wrap a store, or open the one of the environment; nothing is sent before the first call.

        Args:
            store: The store; None = the one behind `url`.
            url: As `open_store` takes it; None = the variable LIGHTNING_STORE_URL.
            namespace: Which store there; None = LIGHTNING_STORE_NAMESPACE, else `default`.
            scan_debounce_seconds: In calls in which upstream looks for late attempts, ask the store to settle all of
                them first, at most once per so many seconds; 0 = every time. Our stores settle by themselves what a
                call is about, so answers do not depend on it.
            settings: Further arguments of the store behind `url`.

        Raises:
            InvalidRequestError: There is no URL, it cannot be read, or a store was given besides it.
            TypeError: `store` is none of ours.
        """
        if store is None:
            store = _open(url, namespace, settings)
        elif url is not None or namespace is not None or settings:
            raise InvalidRequestError("store: expected either a store or url, namespace and settings, got both")
        if not isinstance(store, LightningStore):
            raise TypeError(f"store: expected a lightning_store.LightningStore, got {type(store).__name__}")
        self._store = store if store.capabilities.get("thread_safe") else LightningStoreThreaded(store)
        self._scans = Debounce(scan_debounce_seconds)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._store!r})"

    @property
    def store(self) -> LightningStore:
        """The store behind, with its extensions and its own records; safe to call from any thread."""
        return self._store

    @property
    def capabilities(self) -> TheirCapabilities:
        """Those of the store behind."""
        return TheirCapabilities(**self._store.capabilities)

    def otlp_traces_endpoint(self) -> str:
        """That of the store behind.

        Raises:
            UnsupportedOperationError: It has none (`capabilities["otlp_traces"]` is false); a NotImplementedError.
        """
        return self._store.otlp_traces_endpoint()

    async def invoke(self, method: str, arguments: dict[str, Any]) -> Any:
        """Carry out one call of the interface on the store behind, and answer in Agent Lightning's records.

        Args:
            method: Its name.
            arguments: What the caller gave, by name; values that are `UNSET`, theirs or ours, are left out.
        """
        if method in SCANNING and self._scans.passes():
            while (await self._store.expire_attempts()).more:
                pass
        given = {
            name: argument_to_ours(name, value)
            for name, value in arguments.items()
            if not isinstance(value, TheirUnset | Unset)
        }
        return answer_to_theirs(await getattr(self._store, method)(**given))

    async def statistics(self) -> dict[str, Any]:
        """The counts of the store behind, under this class's name as upstream expects it."""
        return {**await self._store.statistics(), "name": type(self).__name__}

    async def add_span(self, span: TheirSpan) -> TheirSpan | None:
        """Store one span; answers the very object that was passed, or None for a duplicate."""
        return span if await self._store.add_span(span_to_ours(span)) else None

    async def add_many_spans(self, spans: Sequence[TheirSpan]) -> Sequence[TheirSpan]:
        """Store spans; answers those of the objects passed that were stored, in their order."""
        passed = {(span.rollout_id, span.attempt_id, span.span_id): span for span in reversed(spans)}
        stored = await self._store.add_many_spans([span_to_ours(span) for span in spans])
        return [passed[span.rollout_id, span.attempt_id, span.span_id] for span in stored]

    async def add_otel_span(
        self, rollout_id: str, attempt_id: str, readable_span: Any, sequence_id: int | None = None
    ) -> TheirSpan | None:
        """Convert an OpenTelemetry span as upstream does, and store it.

        Without a number it gets the rollout's next one in the same atomic step, so that a duplicate uses up none.
        """
        span = TheirSpan.from_opentelemetry(readable_span, rollout_id, attempt_id, sequence_id or 0)
        stored = await self._store.add_many_spans([span_to_ours(span)], renumber=sequence_id is None)
        return answer_to_theirs(stored[0]) if stored else None

    async def close(self) -> None:
        """Close the connections of the store behind, if it has any. Upstream never calls it; a later call opens new."""
        close = getattr(self._store, "close", None)
        if close is not None:
            await close()


def _open(url: str | None, namespace: str | None, settings: dict[str, Any]) -> LightningStore:
    url = url or os.environ.get(URL_VARIABLE)
    if not url:
        raise InvalidRequestError(f"url: expected the store's URL; pass store= or url=, or set {URL_VARIABLE}")
    return open_store(url, namespace or os.environ.get(NAMESPACE_VARIABLE) or DEFAULT_NAMESPACE, **settings)


def _forward(name: str, declared: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    signature = inspect.signature(declared)

    @wraps(declared)
    async def method(*args: Any, **kwargs: Any) -> Any:
        arguments = signature.bind(*args, **kwargs).arguments
        return await arguments.pop("self").invoke(name, arguments)

    return method


for _name, _declared in vars(TheirStore).items():
    if inspect.iscoroutinefunction(_declared) and _name not in vars(AgentLightningStore):
        setattr(AgentLightningStore, _name, _forward(_name, _declared))
