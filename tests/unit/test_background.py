"""A loop on a thread of its own runs what it is given, in a context of its own, and ends with all that runs on it."""

import asyncio
import contextvars
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from lightning_store.background import LoopThread

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="default")


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    context = contextvars.Context()
    context.run(VARIABLE.set, "of the thread")
    thread = LoopThread("test", context)
    yield thread
    thread.stop()


async def read() -> tuple[str, str]:
    return VARIABLE.get(), threading.current_thread().name


def test_work_runs_on_the_thread_in_the_threads_context(thread):
    VARIABLE.set("of the caller")
    assert thread.submit(read()).result(10) == ("of the thread", "test")


def test_error_of_the_work_is_its_result(thread):
    async def fail() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        thread.submit(fail()).result(10)


def test_cancelling_the_result_cancels_the_work(thread):
    cancelled = threading.Event()
    started = threading.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    result = thread.submit(work())
    assert started.wait(10)
    result.cancel()
    assert cancelled.wait(10)


def test_stop_cancels_what_runs(thread):
    result = thread.submit(asyncio.sleep(60))
    thread.stop()
    with pytest.raises(CancelledError):
        result.result(10)


def test_nothing_runs_after_stop(thread):
    thread.stop()
    called = threading.Event()
    thread.call(called.set)
    with pytest.raises(CancelledError):
        thread.submit(read()).result(10)
    assert not called.is_set()
