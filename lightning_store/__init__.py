"""A rollout store for agent reinforcement learning; every public name is imported from its module on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from lightning_store.backends.memory import InMemoryLightningStore
    from lightning_store.backends.redis.store import RedisLightningStore
    from lightning_store.backends.sqlite import SQLiteLightningStore
    from lightning_store.clock import Clock, IdSource
    from lightning_store.contract import UNSET, Capabilities, LightningStore, Unset
    from lightning_store.embedded import EmbeddedRedis
    from lightning_store.errors import (
        AccessDeniedError,
        AttemptNotFoundError,
        InternalStoreError,
        InvalidRequestError,
        LightningStoreError,
        NotFoundError,
        NotReplicatedError,
        QueueFullError,
        ResourcesNotFoundError,
        RolloutNotFoundError,
        SchemaMismatchError,
        ServerBusyError,
        SpansEvictedError,
        StoreFullError,
        StoreUnavailableError,
        UnsupportedOperationError,
    )
    from lightning_store.exporter import LightningSpanExporter
    from lightning_store.forwarding import ForwardingStore
    from lightning_store.http.client import LightningStoreClient
    from lightning_store.http.server import LightningStoreServer
    from lightning_store.operations import OPERATIONS, Operation
    from lightning_store.records import (
        LLM,
        Attempt,
        AttemptCause,
        AttemptedRollout,
        AttemptStatus,
        AuditExample,
        AuditFinding,
        AuditReport,
        AuditRule,
        Completion,
        CompletionPage,
        Consumer,
        EnqueueRolloutRequest,
        EventCause,
        ExpiryReport,
        FilterLogic,
        LeaseState,
        NamedResources,
        PaginatedResult,
        PromptTemplate,
        ProxyLLM,
        QueueStats,
        ResourcesUpdate,
        ResourceUnion,
        Rollout,
        RolloutConfig,
        RolloutEvent,
        RolloutMode,
        RolloutStatus,
        SortOrder,
        Transition,
        Worker,
        WorkerStatus,
    )
    from lightning_store.rewards import reward_of
    from lightning_store.runner import Runner
    from lightning_store.spans import Event, Link, OtelResource, Span, SpanContext, TraceStatus
    from lightning_store.threaded import LightningStoreThreaded
    from lightning_store.tracing import emit_reward

__all__ = [
    "LLM",
    "OPERATIONS",
    "UNSET",
    "AccessDeniedError",
    "Attempt",
    "AttemptCause",
    "AttemptNotFoundError",
    "AttemptStatus",
    "AttemptedRollout",
    "AuditExample",
    "AuditFinding",
    "AuditReport",
    "AuditRule",
    "Capabilities",
    "Clock",
    "Completion",
    "CompletionPage",
    "Consumer",
    "EmbeddedRedis",
    "EnqueueRolloutRequest",
    "Event",
    "EventCause",
    "ExpiryReport",
    "FilterLogic",
    "ForwardingStore",
    "IdSource",
    "InMemoryLightningStore",
    "InternalStoreError",
    "InvalidRequestError",
    "LeaseState",
    "LightningSpanExporter",
    "LightningStore",
    "LightningStoreClient",
    "LightningStoreError",
    "LightningStoreServer",
    "LightningStoreThreaded",
    "Link",
    "NamedResources",
    "NotFoundError",
    "NotReplicatedError",
    "Operation",
    "OtelResource",
    "PaginatedResult",
    "PromptTemplate",
    "ProxyLLM",
    "QueueFullError",
    "QueueStats",
    "RedisLightningStore",
    "ResourceUnion",
    "ResourcesNotFoundError",
    "ResourcesUpdate",
    "Rollout",
    "RolloutConfig",
    "RolloutEvent",
    "RolloutMode",
    "RolloutNotFoundError",
    "RolloutStatus",
    "Runner",
    "SQLiteLightningStore",
    "SchemaMismatchError",
    "ServerBusyError",
    "SortOrder",
    "Span",
    "SpanContext",
    "SpansEvictedError",
    "StoreFullError",
    "StoreUnavailableError",
    "TraceStatus",
    "Transition",
    "Unset",
    "UnsupportedOperationError",
    "Worker",
    "WorkerStatus",
    "emit_reward",
    "reward_of",
]

_NAMES: Final = {
    "backends.memory": "InMemoryLightningStore",
    "backends.redis.store": "RedisLightningStore",
    "backends.sqlite": "SQLiteLightningStore",
    "clock": "Clock IdSource",
    "contract": "UNSET Capabilities LightningStore Unset",
    "embedded": "EmbeddedRedis",
    "errors": (
        "AccessDeniedError AttemptNotFoundError InternalStoreError InvalidRequestError LightningStoreError "
        "NotFoundError NotReplicatedError QueueFullError ResourcesNotFoundError RolloutNotFoundError "
        "SchemaMismatchError ServerBusyError SpansEvictedError StoreFullError StoreUnavailableError "
        "UnsupportedOperationError"
    ),
    "exporter": "LightningSpanExporter",
    "forwarding": "ForwardingStore",
    "http.client": "LightningStoreClient",
    "http.server": "LightningStoreServer",
    "operations": "OPERATIONS Operation",
    "records": (
        "LLM Attempt AttemptCause AttemptedRollout AttemptStatus AuditExample AuditFinding AuditReport AuditRule "
        "Completion CompletionPage Consumer EnqueueRolloutRequest EventCause ExpiryReport FilterLogic LeaseState "
        "NamedResources PaginatedResult PromptTemplate ProxyLLM "
        "QueueStats ResourcesUpdate ResourceUnion Rollout RolloutConfig RolloutEvent RolloutMode RolloutStatus "
        "SortOrder Transition Worker WorkerStatus"
    ),
    "rewards": "reward_of",
    "runner": "Runner",
    "spans": "Event Link OtelResource Span SpanContext TraceStatus",
    "threaded": "LightningStoreThreaded",
    "tracing": "emit_reward",
}

_MODULES: Final = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
