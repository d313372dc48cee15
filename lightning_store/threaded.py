"""A wrapper that makes any store safe to call from any thread and event loop: its calls run on one loop of its own."""

import asyncio
import concurrent.futures
import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from lightning_store.contract import Capabilities, LightningStore
from lightning_store.errors import StoreUnavailableError
from lightning_store.forwarding import ForwardingStore
from lightning_store.operations import Operation

_WRAPPERS: Final[weakref.WeakSet["LightningStoreThreaded"]] = weakref.WeakSet()

_LEFT_TO_PARENT: Final[list["_OwnerLoop | None"]] = []
"""Owner loops of the parent of this forked process; collecting them would disturb it."""

_CLOSED: Final = "the store was closed during the call"


class _Call:
    """One call on its way to the owner loop and its outcome on the way back."""

    def __init__(self, work: Callable[[], Awaitable[Any]], give_back: Callable[[Any], Awaitable[None]]) -> None:
        """Note what is to be done.

        Args:
            work: Starts the call; called on the owner loop.
            give_back: Takes back the outcome of a call whose caller is gone; called on the owner loop.
        """
        self.outcome: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._work = work
        self._give_back = give_back
        self._task: asyncio.Task[None] | None = None
        self._has_returned = False

    def launch(self) -> None:
        """Start the call. On the owner loop."""
        if not self.outcome.cancelled():
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(self._end)

    def abandon(self) -> None:
        """The caller is gone: end the call, or give back what it has brought already. On the owner loop."""
        if self._has_returned:
            return
        if self._task is not None and not self._task.done():
            self._task.cancel()
        elif self.outcome.done() and not self.outcome.cancelled() and self.outcome.exception() is None:
            self._task = asyncio.get_running_loop().create_task(self._return(self.outcome.result()))

    async def _run(self) -> None:
        try:
            result = await self._work()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller, in another thread
            self._fail(error)
        else:
            # Setting the outcome and cancelling it exclude each other, so that exactly one side has the result.
            try:
                self.outcome.set_result(result)
            except concurrent.futures.InvalidStateError:
                await self._return(result)

    def _end(self, _task: "asyncio.Task[None]") -> None:
        """A call that was cancelled, perhaps before its first step, has no outcome yet."""
        self._fail(StoreUnavailableError(_CLOSED))

    def _fail(self, error: BaseException) -> None:
        with suppress(concurrent.futures.InvalidStateError):  # the caller is gone
            self.outcome.set_exception(error)

    async def _return(self, result: Any) -> None:
        self._has_returned = True
        await self._give_back(result)


class _OwnerLoop:
    """An event loop on a daemon thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._is_ending = False
        self._thread = threading.Thread(target=self._run, name="lightning-store-owner", daemon=True)
        self._thread.start()

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run a callback on the loop, from any thread.

        Raises:
            StoreUnavailableError: The loop is being ended.
        """
        with self._lock:
            if self._is_ending:
                raise StoreUnavailableError(_CLOSED)
            self.loop.call_soon_threadsafe(callback)

    def stop(self) -> None:
        """End the loop; what runs on it is cancelled. From any thread."""
        with self._lock:
            if not self._is_ending:
                self._is_ending = True
                self.loop.call_soon_threadsafe(self.loop.stop)

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            while tasks := asyncio.all_tasks(self.loop):
                for task in tasks:
                    task.cancel()
                self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            self.loop.close()


class LightningStoreThreaded(ForwardingStore):
    """Any store, callable from any number of threads and event loops at once.

    Every call runs on one owner loop in a daemon thread, which starts with the first call; no thread lock is held while
    a call waits. A caller that is cancelled ends its call there; a claim that was made all the same is released.

    A forked child starts an owner loop of its own. What it sees there is up to the wrapped store: with `zero_copy` the
    same data; the in-memory store becomes a copy of its own, and must not be forked in the middle of a call.
    Pickling works where it works for the wrapped store.
    """

    def __init__(self, store: LightningStore) -> None:
        """Wrap a store, which nobody else may use from now on unless it is safe to share by itself."""
        self._store = store
        self._reset()
        _WRAPPERS.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._owner: _OwnerLoop | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"store": self._store}

    def __setstate__(self, state: dict[str, Any]) -> None:
        LightningStoreThreaded.__init__(self, state["store"])

    @property
    def store(self) -> LightningStore:
        """The wrapped store."""
        return self._store

    @property
    def capabilities(self) -> Capabilities:
        """Those of the wrapped store, and safe to call from any thread."""
        capabilities = self._store.capabilities.copy()
        capabilities["thread_safe"] = capabilities["async_safe"] = True
        return capabilities

    def otlp_traces_endpoint(self) -> str:
        """That of the wrapped store."""
        return self._store.otlp_traces_endpoint()

    async def invoke(self, operation: Operation, arguments: dict[str, Any]) -> Any:
        """Carry out one operation on the owner loop."""
        method = getattr(self._store, operation.name)
        return await self._run_on_owner(lambda: method(**arguments), self._release if operation.claims else _keep)

    async def close(self) -> None:
        """Close the wrapped store, if it can be closed, and end the thread. A later call starts another."""
        close = getattr(self._store, "close", None)
        if close is not None:
            await self._run_on_owner(close, _keep)
        with self._lock:
            owner, self._owner = self._owner, None
        if owner is not None:
            owner.stop()
            await asyncio.get_running_loop().run_in_executor(None, owner.join)

    async def _run_on_owner(
        self, work: Callable[[], Awaitable[Any]], give_back: Callable[[Any], Awaitable[None]]
    ) -> Any:
        owner = self._owner_loop()
        if asyncio.get_running_loop() is owner.loop:
            return await work()
        call = _Call(work, give_back)
        owner.call_soon(call.launch)
        try:
            return await asyncio.wrap_future(call.outcome)
        except asyncio.CancelledError:
            call.outcome.cancel()
            with suppress(StoreUnavailableError):  # everything on the loop is cancelled then
                owner.call_soon(call.abandon)
            raise

    async def _release(self, claimed: Any) -> None:
        """Hand back rollouts whose claimer is gone."""
        for rollout in claimed if isinstance(claimed, list) else [claimed]:
            if rollout is not None:
                await self._store.release_attempt(rollout.rollout_id, rollout.attempt.attempt_id)

    def _owner_loop(self) -> _OwnerLoop:
        with self._lock:
            if self._owner is None:
                self._owner = _OwnerLoop()
                if self._finalizer is not None:
                    self._finalizer.detach()
                self._finalizer = weakref.finalize(self, _OwnerLoop.stop, self._owner)
            return self._owner

    def after_fork(self) -> None:
        """Leave the owner loop alone: in a forked child its thread does not exist, and its sockets are the parent's."""
        if self._finalizer is not None:
            self._finalizer.detach()
        _LEFT_TO_PARENT.append(self._owner)
        self._reset()


async def _keep(_result: Any) -> None:
    """What most calls bring needs no giving back."""


def _after_fork() -> None:
    for wrapper in list(_WRAPPERS):
        wrapper.after_fork()


os.register_at_fork(after_in_child=_after_fork)
