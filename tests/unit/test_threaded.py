"""The wrapper that makes a store safe to call from any thread; it is tested with the memory store and with doubles."""

import asyncio
import contextvars
import gc
import multiprocessing
import pickle
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from lightning_store.backends.memory import InMemoryLightningStore
from lightning_store.contract import LightningStore
from lightning_store.errors import RolloutNotFoundError, StoreUnavailableError
from lightning_store.threaded import LightningStoreThreaded
from tests.support.factories import requests_for


class Picklable(LightningStore):
    """A store that can be pickled and copied into a forked process."""

    def __init__(self, answer: str = "here") -> None:
        self.answer = answer

    @property
    def capabilities(self):
        return {"zero_copy": True, "thread_safe": False}

    async def get_worker_by_id(self, worker_id):
        await asyncio.sleep(0)
        return (self.answer, worker_id, threading.current_thread().name)


class Gate(InMemoryLightningStore):
    """A store whose claims wait at a gate before and after their work."""

    def __init__(self) -> None:
        super().__init__()
        self.claimed = threading.Event()
        self.may_answer = asyncio.Event()

    async def dequeue_many_rollouts(self, **arguments):
        claimed = await super().dequeue_many_rollouts(**arguments)
        self.claimed.set()
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            return claimed
        return claimed


@pytest.fixture
async def store():
    wrapped = LightningStoreThreaded(InMemoryLightningStore())
    yield wrapped
    await wrapped.close()


async def test_calls_from_many_loops_and_threads_at_once(store):
    rollouts = await store.enqueue_many_rollouts(requests_for(range(200)))

    async def claim_all() -> list[str]:
        claimed = []
        while found := await store.dequeue_many_rollouts(limit=3):
            claimed += [rollout.rollout_id for rollout in found]
        return claimed

    with ThreadPoolExecutor(8) as threads:
        loop = asyncio.get_running_loop()
        shares = await asyncio.gather(
            claim_all(), *(loop.run_in_executor(threads, lambda: asyncio.run(claim_all())) for _ in range(7))
        )
    assert sorted(id for share in shares for id in share) == sorted(rollout.rollout_id for rollout in rollouts)


async def test_waiter_in_one_thread_is_woken_from_another(store):
    with ThreadPoolExecutor(1) as threads:
        waiting = asyncio.get_running_loop().run_in_executor(
            threads, lambda: asyncio.run(store.dequeue_rollout(timeout=30))
        )
        rollout = await store.enqueue_rollout("task")
        assert (await waiting).rollout_id == rollout.rollout_id


async def test_all_calls_run_in_one_thread_of_their_own():
    store = LightningStoreThreaded(Picklable())
    names = {(await store.get_worker_by_id("w"))[2] for _ in range(3)}
    assert names == {"lightning-store-owner"}
    await store.close()


async def test_errors_arrive_as_they_are(store):
    with pytest.raises(RolloutNotFoundError, match="Rollout ro-1 not found"):
        await store.start_attempt("ro-1")
    with pytest.raises(TypeError):
        await store.update_worker("w", None)
    with pytest.raises(TypeError):
        await store.get_rollout_by_id()


async def test_cancelling_the_caller_cancels_the_call(store):
    task = asyncio.create_task(store.dequeue_rollout(timeout=60))
    await store.statistics()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    rollout = await store.enqueue_rollout("task")
    assert (await store.dequeue_rollout()).rollout_id == rollout.rollout_id
    line = store.store._line
    assert not line._fresh
    assert not line._called


async def test_claim_whose_caller_is_gone_is_released():
    gate = Gate()
    store = LightningStoreThreaded(gate)
    rollout = await store.enqueue_rollout("task")
    task = asyncio.create_task(store.dequeue_many_rollouts(worker_id="w"))
    assert await asyncio.to_thread(gate.claimed.wait, 10)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    attempts = await released(store, rollout.rollout_id)
    assert [(attempt.status, attempt.cause) for attempt in attempts] == [("failed", "released")]
    assert (await store.get_rollout_by_id(rollout.rollout_id)).status == "requeuing"
    await store.close()


async def test_claim_that_was_answered_to_nobody_is_released():
    gate = Gate()
    store = LightningStoreThreaded(gate)
    rollout = await store.enqueue_rollout("task")
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(store.dequeue_many_rollouts(worker_id="w"))
    assert await asyncio.to_thread(gate.claimed.wait, 10)

    def answer_and_cancel() -> None:
        """The answer is on its way to this loop, which is busy with this, when the caller is cancelled."""
        store._owner.loop.call_soon_threadsafe(gate.may_answer.set)
        answered = threading.Event()
        for _ in range(3):
            store._owner.loop.call_soon_threadsafe(answered.set)
            answered.wait(10)
            answered.clear()
        task.cancel()

    loop.call_soon(answer_and_cancel)
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [attempt.cause for attempt in await released(store, rollout.rollout_id)] == ["released"]
    await store.close()


async def released(store, rollout_id):
    """Attempts of a rollout once none is live; the release runs behind the cancelled call."""
    for _ in range(1000):
        attempts = (await store.query_attempts(rollout_id)).items
        if all(attempt.cause for attempt in attempts):
            return attempts
    raise AssertionError("not released")


async def test_calls_during_the_close_end_with_an_error():
    class Endless(Picklable):
        async def get_worker_by_id(self, worker_id):
            await asyncio.Event().wait()

    store = LightningStoreThreaded(Endless())
    tasks = [asyncio.create_task(store.get_worker_by_id("w")) for _ in range(3)]
    await asyncio.sleep(0)
    await store.close()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailableError] * 3


async def test_closed_store_starts_again_with_the_next_call(store):
    await store.enqueue_rollout("task")
    await store.close()
    assert (await store.statistics())["total_rollouts"] == 1


async def test_no_thread_before_the_first_call_and_none_after_the_close():
    before = set(threading.enumerate())  # those of other tests may end meanwhile
    store = LightningStoreThreaded(InMemoryLightningStore())
    assert set(threading.enumerate()) <= before
    await store.statistics()
    await store.statistics()
    owner = store._owner
    assert set(threading.enumerate()) - before == {owner._thread}
    await store.close()
    assert not owner._thread.is_alive()
    assert owner.loop.is_closed()


async def test_forgotten_store_ends_its_thread():
    store = LightningStoreThreaded(InMemoryLightningStore())
    await store.statistics()
    thread, reference = store._owner._thread, weakref.ref(store)
    del store
    gc.collect()
    assert reference() is None
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()


def test_capabilities_are_those_of_the_wrapped_store_and_thread_safe():
    assert LightningStoreThreaded(InMemoryLightningStore()).capabilities == {
        "thread_safe": True, "async_safe": True, "zero_copy": False, "otlp_traces": False,
    }  # fmt: skip
    assert LightningStoreThreaded(Picklable()).capabilities["zero_copy"]


def test_pickling_works_where_it_works_for_the_wrapped_store():
    store = LightningStoreThreaded(Picklable("there"))
    asyncio.run(store.get_worker_by_id("w"))
    copy = pickle.loads(pickle.dumps(store))  # noqa: S301 - made one line before
    assert asyncio.run(copy.get_worker_by_id("w"))[:2] == ("there", "w")
    asyncio.run(copy.close())
    asyncio.run(store.close())
    with pytest.raises(TypeError):
        pickle.dumps(LightningStoreThreaded(InMemoryLightningStore()))


def _call_in_child(store, pipe) -> None:
    pipe.send(asyncio.run(store.get_worker_by_id("child")))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # the very thing that is tested
def test_forked_child_and_parent_both_go_on():
    store = LightningStoreThreaded(Picklable())
    asyncio.run(store.get_worker_by_id("w"))
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe()
    child = context.Process(target=_call_in_child, args=(store, sender))
    child.start()
    assert receiver.poll(20)
    assert receiver.recv()[:2] == ("here", "child")
    child.join(20)
    assert child.exitcode == 0
    assert asyncio.run(store.get_worker_by_id("parent"))[:2] == ("here", "parent")
    asyncio.run(store.close())


async def test_context_variables_of_the_caller_are_seen():
    variable = contextvars.ContextVar("variable", default="none")

    class Reader(Picklable):
        async def get_worker_by_id(self, worker_id):
            return variable.get()

    store = LightningStoreThreaded(Reader())
    variable.set("caller's")
    assert await store.get_worker_by_id("w") == "caller's"
    await store.close()
