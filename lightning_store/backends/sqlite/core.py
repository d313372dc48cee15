"""What all operations of the SQLite store share: its settings, its transactions, and whoever waits on it."""

import asyncio
import math
import os
import shutil
import sqlite3
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

from lightning_store.admission import MaxQueued
from lightning_store.backends.sqlite.bell import ring
from lightning_store.backends.sqlite.board import Board
from lightning_store.backends.sqlite.connection import ConnectionSettings, Synchronous, check_sqlite
from lightning_store.backends.sqlite.engine import Engine, Lane
from lightning_store.backends.sqlite.job import Outcome, Work
from lightning_store.backends.sqlite.state import State
from lightning_store.backends.sqlite.transaction import News, Rules
from lightning_store.backends.sqlite.watcher import Watcher
from lightning_store.base import BaseStore
from lightning_store.clock import Clock, IdSource, SystemClock
from lightning_store.contract import Capabilities
from lightning_store.errors import InvalidRequestError, LightningStoreError
from lightning_store.memory_limits import MemoryThresholds
from lightning_store.payloads import DEFAULT_LIMITS, PayloadLimits
from lightning_store.requests import check_limit, check_positive, check_seconds

T = TypeVar("T")

_SETTLE_FIRST: Final = object()

_STORES: Final[weakref.WeakSet["SQLiteCore"]] = weakref.WeakSet()


class SQLiteCore(BaseStore):
    """A store in one file, for any number of threads, event loops and processes of one host."""

    kind = "sqlite"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Clock | None = None,
        ids: IdSource | None = None,
        grace_seconds: float = 15.0,
        busy_seconds: float = 10.0,
        synchronous: Synchronous = "full",
        poll_seconds: float = 0.1,
        events_kept: int = 10_000,
        eviction_memory_threshold: float = 0.7,
        safe_memory_threshold: float | None = None,
        high_water_memory_threshold: float = 0.9,
        memory_capacity_bytes: int | None = None,
        max_queued: MaxQueued = None,
        max_task_bytes: int | None = DEFAULT_LIMITS.max_task_bytes,
        max_span_bytes: int | None = DEFAULT_LIMITS.max_span_bytes,
        max_resources_bytes: int | None = DEFAULT_LIMITS.max_resources_bytes,
        max_metadata_bytes: int | None = DEFAULT_LIMITS.max_metadata_bytes,
    ) -> None:
        """Note where the file is; it is opened, and made if need be, by the first operation.

        Args:
            path: The file, on a local file system; its directory has to exist. A file is one store.
            clock: The time; None = this machine's. Waits are measured in real time whatever it tells.
            ids: Where ids come from; None = random ones.
            grace_seconds: A gap between calls that is longer than this counts as an outage, after which silence is
                forgiven for as long.
            busy_seconds: How long a call waits for transactions of other processes before it fails.
            synchronous: `"full"`: what was acknowledged survives a loss of power. `"normal"`: a loss of power may undo
                the last calls, the crash of a process never does; several times faster on a slow disk.
            poll_seconds: How often waiters look for what other processes did, where the system has no inotify.
            events_kept: Events of `query_events` that are kept.
            eviction_memory_threshold: Spans are evicted beyond it: a float is a share of the capacity, an integer is
                bytes.
            safe_memory_threshold: They are evicted until this is reached; None = 80 % of `eviction_memory_threshold`.
            high_water_memory_threshold: Spans that would cross it are refused. Only spans are measured here, so
                rollouts and resources are never refused for it.
            memory_capacity_bytes: What shares are of; None = the space that the file system had left for the file, with
                what it took already, when this object was first used.
            max_queued: Most rollouts that may wait in a queue, see `enqueue_many_rollouts`: an integer for each queue,
                or a mapping by queue, others without a limit. None = no limits.
            max_task_bytes: Most bytes of an input, as JSON; None = no limit.
            max_span_bytes: The same of a span.
            max_resources_bytes: The same of a resources snapshot.
            max_metadata_bytes: The same of metadata of a rollout or attempt, and of heartbeat stats.

        Raises:
            InvalidRequestError: A setting is out of bounds.
            UnsupportedOperationError: This Python's SQLite is too old.
        """
        check_sqlite()
        payloads = PayloadLimits(max_task_bytes, max_span_bytes, max_resources_bytes, max_metadata_bytes)
        super().__init__(ids=ids, max_queued=max_queued, payloads=payloads)
        self._options = {
            "clock": clock, "ids": ids, "grace_seconds": grace_seconds, "busy_seconds": busy_seconds,
            "synchronous": synchronous, "poll_seconds": poll_seconds, "events_kept": events_kept,
            "eviction_memory_threshold": eviction_memory_threshold, "safe_memory_threshold": safe_memory_threshold,
            "high_water_memory_threshold": high_water_memory_threshold, "memory_capacity_bytes": memory_capacity_bytes,
            "max_queued": max_queued, "max_task_bytes": max_task_bytes, "max_span_bytes": max_span_bytes,
            "max_resources_bytes": max_resources_bytes, "max_metadata_bytes": max_metadata_bytes,
        }  # fmt: skip
        self.path: Path = _checked_path(path)
        if synchronous not in get_args(Synchronous):
            raise InvalidRequestError(f"synchronous: expected one of full, normal, got {synchronous!r:.200}")
        self._settings = ConnectionSettings(self.path, check_seconds(busy_seconds, "busy_seconds"), synchronous)
        self._rules = Rules(
            clock or SystemClock(),
            check_seconds(grace_seconds, "grace_seconds"),
            check_limit(events_kept, "events_kept", 1),
        )
        self._poll_seconds = check_positive(poll_seconds, "poll_seconds")
        self._thresholds = MemoryThresholds(
            eviction_memory_threshold, safe_memory_threshold, high_water_memory_threshold
        )
        self._capacity = (
            None if memory_capacity_bytes is None else check_limit(memory_capacity_bytes, "memory_capacity_bytes", 1)
        )
        self._engine = Engine(self._settings)
        self._board = Board()
        self._watcher_lock = threading.Lock()
        self._watcher: Watcher | None = None
        self._watcher_finalizer: weakref.finalize[..., Any] | None = None
        _STORES.add(self)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "options": self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        type(self).__init__(self, state["path"], **state["options"])

    @property
    def capabilities(self) -> Capabilities:
        """Any thread, loop and process of this host may use the file, each process by its own object or a copy."""
        return Capabilities(thread_safe=True, async_safe=True, zero_copy=True, otlp_traces=False)

    async def close(self) -> None:
        """End all waits, which answer with what there is, and close the file. A later call opens it again."""
        self._board.end_all()
        with self._watcher_lock:
            watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.stop()
            await asyncio.get_running_loop().run_in_executor(None, watcher.join)
        await self._engine.stop()

    # -- transactions ------------------------------------------------------------------------------------------------

    async def _write(self, work: Callable[[State], T], give_back: Callable[[T], None] | None = None) -> T:
        """Carry out an operation as one transaction."""
        return await self._engine.write(self._transaction(work), give_back)

    async def _read(self, work: Callable[[State], T]) -> T:
        """Read, and settle nothing."""
        return await self._engine.read(self._transaction(work))

    async def _settled(self, work: Callable[[State], T], rollout_ids: Sequence[str] | None = None) -> T:
        """Read after these rollouts (None = everything that is due) are settled; mostly nothing is to be done."""

        def look(state: State) -> Any:
            return _SETTLE_FIRST if state.needs_writing(rollout_ids) else work(state)

        def settle_and_look(state: State) -> T:
            state.settle_before_reading(rollout_ids)
            state.keep()
            return work(state)

        found = await self._read(look)
        return await self._write(settle_and_look) if found is _SETTLE_FIRST else found

    def _transaction(self, work: Callable[[State], T]) -> Work[T]:
        rules, tell = self._rules, self._tell

        def carry_out(connection: sqlite3.Connection) -> Outcome[T]:
            state = State(connection, rules)
            try:
                result = work(state)
            except LightningStoreError as error:
                if not state.is_marked:
                    raise
                state.undo()
                return Outcome(error=error, announce=lambda: tell(state.news))
            state.flush()
            return Outcome(result, announce=lambda: tell(state.news))

        return carry_out

    # -- waits -------------------------------------------------------------------------------------------------------

    def _tell(self, news: News) -> None:
        """A transaction was committed: tell who counts, and wake those who wait, here and in other processes."""
        if news.stored_spans:
            self._observer.stored_spans(news.stored_spans, news.stored_bytes)
        if news.evicted:
            self._observer.evicted(news.evicted)
        if not (news.pushed or news.room or news.finished or news.due < math.inf):
            return
        self._board.tell(news)
        watcher = self._watcher
        if watcher is not None:
            watcher.poke(news.due)
        if news.pushed or news.room or news.finished:
            ring(self.path)

    def _watch(self) -> None:
        """Have somebody look out for what other processes do and what comes due, now that somebody waits."""
        with self._watcher_lock:
            if self._watcher is not None and self._watcher.poke():
                return
            store = weakref.ref(self)  # a store that nobody has any more is not kept by its own thread
            self._watcher = Watcher(
                self._board,
                Lane(self._settings),
                self._rules.clock,
                settle=lambda: _settle(store()),
                poll_seconds=self._poll_seconds,
            )
            if self._watcher_finalizer is not None:
                self._watcher_finalizer.detach()
            self._watcher_finalizer = weakref.finalize(self, self._watcher.stop)
            self._watcher.start()

    def settle_now(self) -> None:
        """Settle all that is due, on the writing thread, and return when it is done; not from an event loop."""
        self._engine.submit(self._transaction(State.settle_noted)).outcome.result()

    def after_fork_in_child(self) -> None:
        """Those who wait, and the thread that looks out for them, are the parent's."""
        if self._watcher_finalizer is not None:
            self._watcher_finalizer.detach()
        if self._watcher is not None:
            self._watcher.drop()
        self._board = Board()
        self._watcher_lock = threading.Lock()
        self._watcher = self._watcher_finalizer = None

    def _capacity_bytes(self) -> int:
        if self._capacity is None:
            taken = self.path.stat().st_size if self.path.exists() else 0
            self._capacity = shutil.disk_usage(self.path.parent).free + taken
        return self._capacity


def _settle(store: SQLiteCore | None) -> None:
    if store is not None:
        store.settle_now()


def _checked_path(path: str | os.PathLike[str]) -> Path:
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "\x00" in text or text == ":memory:" or text.startswith("file:"):
        raise InvalidRequestError(f"path: expected the path of a file, got {text!r:.200}")
    return Path(text).absolute()


def _after_fork_in_child() -> None:
    for store in list(_STORES):
        store.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
