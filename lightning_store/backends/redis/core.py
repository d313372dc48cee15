"""What all operations of the Redis store need: connections, scripts, names of keys, and the time."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

from lightning_store.admission import MaxQueued
from lightning_store.backends.redis.connection import Connections
from lightning_store.backends.redis.keys import Keys
from lightning_store.backends.redis.memory_watch import MemorySettings, MemoryWatch
from lightning_store.backends.redis.scripts import Argument, Call, Scripts, Settings
from lightning_store.backends.redis.settings import settings_for
from lightning_store.backends.redis.turns import Turns
from lightning_store.backends.redis.waiting import CompletionFeed, WakeLine
from lightning_store.base import BaseStore
from lightning_store.clock import Clock, IdSource
from lightning_store.contract import Capabilities
from lightning_store.errors import InvalidRequestError
from lightning_store.loops import PerLoop
from lightning_store.memory_limits import MemoryThresholds
from lightning_store.observer import StoreObserver
from lightning_store.payloads import DEFAULT_LIMITS, PayloadLimits
from lightning_store.requests import check_limit, check_positive, check_seconds, is_name

T = TypeVar("T")

CHUNK: Final = 200
"""Most records that one script reads or changes, so that no script holds up the server for long."""


class LoopState:
    """What waits on one event loop."""

    def __init__(self) -> None:
        self.lines: defaultdict[tuple[str, ...], WakeLine] = defaultdict(WakeLine)
        self.producers: defaultdict[tuple[str, ...], Turns] = defaultdict(lambda: Turns(at_once=1))
        self.feed: CompletionFeed | None = None
        self.background: set[asyncio.Future[Any]] = set()
        self.memory_care: asyncio.Task[None] | None = None


class RedisCore(BaseStore):
    """Base of the parts of RedisLightningStore."""

    kind = "redis"

    def __init__(
        self,
        url_or_client: Any,
        *,
        namespace: str = "default",
        clock: Clock | None = None,
        ids: IdSource | None = None,
        grace_seconds: float = 15.0,
        token_seconds: int = 240,
        events_kept: int = 10_000,
        max_connections: int = 32,
        socket_seconds: float = 10.0,
        retry_seconds: float = 30.0,
        max_queued: MaxQueued = None,
        max_task_bytes: int | None = DEFAULT_LIMITS.max_task_bytes,
        max_span_bytes: int | None = DEFAULT_LIMITS.max_span_bytes,
        max_resources_bytes: int | None = DEFAULT_LIMITS.max_resources_bytes,
        max_metadata_bytes: int | None = DEFAULT_LIMITS.max_metadata_bytes,
        min_replicas: int | None = None,
        replication_seconds: float | None = None,
        eviction_memory_threshold: float = 0.7,
        safe_memory_threshold: float | None = None,
        high_water_memory_threshold: float = 0.9,
        memory_check_seconds: float | None = 5.0,
    ) -> None:
        """Make a store; connections are opened when first used.

        Args:
            url_or_client: `redis://`, `rediss://`, `unix://`, `redis+sentinel://` or `redis+cluster://` URL, with TLS
                `rediss+sentinel://` or `rediss+cluster://`; or a redis-py client, whose connection settings are used on
                connections of our own (fakeredis included, clients of a Cluster not).
            namespace: Stores of different namespaces share nothing; `[A-Za-z0-9._-]{1,128}`.
            clock: Where scripts take the time from; None = the server's clock.
            ids: Where ids and tokens come from; None = random ones.
            grace_seconds: After an outage longer than this, leases that come due are extended by it once. All clients
                of a namespace must agree on it.
            token_seconds: How long answers are kept for calls that are sent again; at least twice the longer of
                `retry_seconds` and `socket_seconds`. A call that arrives later than that is taken for a new one.
            events_kept: About how many events are kept.
            max_connections: Most connections per event loop, on a Cluster to each node, of calls that need one each
                because they wait for replicas (`min_replicas`); further ones wait. All others share one.
            socket_seconds: Longest time for one command, connecting included.
            retry_seconds: For how long a call is repeated before StoreUnavailableError; its first try alone may take
                `socket_seconds` if that is longer. Waiting calls raise it when both and their own limit are over.
            max_queued: Most rollouts that this store lets wait in a queue, see `enqueue_many_rollouts`: an integer for
                each queue, or a mapping by queue, others without a limit. None = no limits.
            max_task_bytes: Most bytes of JSON of an input, before compression; None = what Redis takes.
            max_span_bytes: The same of a span.
            max_resources_bytes: The same of a resources snapshot.
            max_metadata_bytes: The same of metadata of a rollout or attempt, and of heartbeat stats.
            min_replicas: How many replicas have to confirm a write before it is acknowledged. Until they do, the call
                is repeated as in an outage, and raises NotReplicatedError in the end. None = what the URL says, else 0.
            replication_seconds: For how long each try waits for them. None = what the URL says, else 1.
            eviction_memory_threshold: When the server uses more, spans of finished rollouts are evicted: a float is a
                share of its `maxmemory`, or of its machine's memory if there is none; an integer is bytes.
            safe_memory_threshold: They are evicted until this is reached; None = 80 % of `eviction_memory_threshold`.
            high_water_memory_threshold: When the server uses more, new rollouts, attempts started by hand, spans and
                resources are refused with StoreFullError.
            memory_check_seconds: How often writers look at the server's memory, in the background; None = never: then
                spans are evicted by `evict_spans` only, and only the server itself refuses.

        Raises:
            InvalidRequestError: An argument cannot be accepted.
        """
        payloads = PayloadLimits(max_task_bytes, max_span_bytes, max_resources_bytes, max_metadata_bytes)
        super().__init__(ids=ids, max_queued=max_queued, payloads=payloads)
        self._keys = Keys(namespace)
        self._clock = clock
        longest = max(check_seconds(retry_seconds, "retry_seconds"), check_positive(socket_seconds, "socket_seconds"))
        if check_seconds(token_seconds, "token_seconds") < 2 * longest:
            raise InvalidRequestError(
                f"token_seconds: expected at least {2 * longest:g}, twice the longer of retry_seconds and "
                f"socket_seconds, got {token_seconds:g}; or a call that is sent again could take effect twice"
            )
        self._scripts = Scripts(
            Settings(
                check_seconds(grace_seconds, "grace_seconds"),
                math.ceil(token_seconds),
                check_limit(events_kept, "events_kept", 0),
            )
        )
        self._connection_settings = settings_for(
            url_or_client,
            min_replicas=min_replicas,
            replication_seconds=replication_seconds,
            max_connections=check_limit(max_connections, "max_connections", 1),
            socket_seconds=socket_seconds,
            retry_seconds=retry_seconds,
        )
        self._memory_settings = MemorySettings(
            MemoryThresholds(eviction_memory_threshold, safe_memory_threshold, high_water_memory_threshold),
            None if memory_check_seconds is None else check_seconds(memory_check_seconds, "memory_check_seconds"),
        )
        self._connect()

    def _connect(self) -> None:
        self._memory = MemoryWatch(self._memory_settings)
        self._connections = Connections(self._connection_settings)
        self._loops = PerLoop(LoopState)

    @property
    def namespace(self) -> str:
        """The namespace."""
        return self._keys.namespace

    @property
    def capabilities(self) -> Capabilities:
        """Callable from any thread, event loop and process; no OTLP endpoint."""
        return Capabilities(thread_safe=True, async_safe=True, zero_copy=True, otlp_traces=False)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(namespace={self.namespace!r})"

    def observe(self, observer: StoreObserver) -> None:
        """See BaseStore."""
        super().observe(observer)
        self._connections.observer = observer

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for connected in ("_connections", "_loops", "_memory"):
            state.pop(connected)
        state.pop("_observer", None)
        return state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._connect()

    async def close(self) -> None:
        """Close the connections of the running event loop, once what cancelled calls began is ended or handed back.

        The store can be used again, and opens new ones then; calls that wait meanwhile go on on new ones.
        """
        state = self._loops.pop()
        if state is not None and state.memory_care is not None:
            state.memory_care.cancel()
            await asyncio.wait({state.memory_care})
        if state is not None and state.background:
            await asyncio.wait(state.background)
        await self._connections.close()

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Do what takes several steps; a caller who is cancelled leaves nothing half done, and `close` waits for it."""
        background = self._loops.get().background
        background.add(task := asyncio.ensure_future(work))
        task.add_done_callback(background.discard)
        return await asyncio.shield(task)

    def _now(self) -> str:
        """The time to pass to a script; "" = the server's."""
        return "" if self._clock is None else repr(self._clock.now())

    def _call(self, script: str, **values: Argument | Sequence[Argument]) -> Call:
        return self._scripts[script].call(meta=self._keys.meta, **values)

    def _run(self, script: str, **values: Argument | Sequence[Argument]) -> Awaitable[Any]:
        return self._connections.run(self._call(script, **values))


def names_only(ids: Sequence[str]) -> list[str]:
    """Those of the ids that can name a rollout at all; others are unknown without asking."""
    return [id for id in ids if is_name(id)]


def chunks(items: Sequence[Any], size: int = CHUNK) -> list[Sequence[Any]]:
    """The items in runs of at most `size`."""
    return [items[i : i + size] for i in range(0, len(items), size)]
