"""A thread with an event loop of its own, for work that must go on whatever the caller's loop is doing."""

import asyncio
import concurrent.futures
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from lightning_store.contract import LightningStore

JOIN_SECONDS: Final = 5.0

T = TypeVar("T")


class LoopThread:
    """One daemon thread that runs one event loop until `stop`.

    Everything on it runs in copies of the given context, not in that of whoever submits it: an agent's current span is
    no parent of what the store's driver does.
    """

    def __init__(self, name: str, context: contextvars.Context) -> None:
        """Start the thread.

        Args:
            name: Name of the thread.
            context: What runs on the loop begins with a copy of it.
        """
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Have a function called soon on the loop; does nothing when the loop has ended."""
        try:
            self._loop.call_soon_threadsafe(function, *args, context=self._context.copy())
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def submit(self, work: Coroutine[Any, Any, T]) -> "concurrent.futures.Future[T]":
        """Run a coroutine on the loop.

        Returns:
            Its result; cancelled when the loop has ended. Cancelling it cancels the coroutine.
        """
        result: concurrent.futures.Future[T] = concurrent.futures.Future()

        def begin() -> None:
            task = self._loop.create_task(work)
            task.add_done_callback(lambda done: _hand_over(done, result))
            result.add_done_callback(lambda done: self.call(task.cancel) if done.cancelled() else None)

        if self._loop.is_closed():
            work.close()
            result.cancel()
        else:
            self.call(begin)
        return result

    def stop(self) -> None:
        """Cancel what runs, end the loop, and wait some seconds for the thread; the loop cannot be used afterwards."""
        self.call(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()


def callable_from_any_thread(store: LightningStore) -> LightningStore:
    """The store itself, or a wrapper around it when it must not be called from several threads."""
    if store.capabilities.get("thread_safe"):
        return store
    from lightning_store.threaded import LightningStoreThreaded  # noqa: PLC0415 - rarely needed

    return LightningStoreThreaded(store)


def _hand_over(task: "asyncio.Task[T]", result: "concurrent.futures.Future[T]") -> None:
    if task.cancelled():
        result.cancel()
    elif result.set_running_or_notify_cancel():
        error = task.exception()
        if error is None:
            result.set_result(task.result())
        else:
            result.set_exception(error)
