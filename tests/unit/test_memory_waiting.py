"""Waits of the memory store that need a look inside, or real time; the conformance suite has the rest."""

import asyncio
import pickle
import threading

import pytest

from lightning_store.backends.memory import InMemoryLightningStore
from lightning_store.errors import QueueFullError
from lightning_store.records import RolloutConfig
from tests.support.clock import SettableClock
from tests.support.factories import requests_for, span_of


async def waiting(store, count, **options):
    """Workers that wait, in order; each is known to wait when this returns."""
    tasks = []
    for number in range(count):
        tasks.append(asyncio.create_task(store.dequeue_many_rollouts(worker_id=f"w{number}", timeout=30, **options)))
        await asyncio.sleep(0)
    return tasks


async def turns(count=5):
    for _ in range(count):
        await asyncio.sleep(0)


def is_clean(store) -> bool:
    line = store._line
    return not (line._fresh or line._returned or line._called or store._alarm._waiting or store._alarm._timers)


async def test_work_goes_to_who_waits_longest():
    store = InMemoryLightningStore()
    tasks = await waiting(store, 20)
    rollouts = await store.enqueue_many_rollouts(requests_for(range(20)))
    claimed = [(await task)[0].rollout_id for task in tasks]
    assert claimed == [rollout.rollout_id for rollout in rollouts]
    assert is_clean(store)


async def test_one_entry_wakes_one_worker():
    store = InMemoryLightningStore()
    tasks = await waiting(store, 3)
    await store.enqueue_rollout("task")
    await turns()
    assert [task.done() for task in tasks] == [True, False, False]
    for task in tasks[1:]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert is_clean(store)


async def test_worker_whose_work_was_taken_keeps_its_place():
    store = InMemoryLightningStore()
    tasks = await waiting(store, 2)
    await store.enqueue_rollout("first")
    assert await store.dequeue_rollout() is not None
    await turns()
    assert not any(task.done() for task in tasks)

    await store.enqueue_rollout("second")
    await turns()

    assert [task.done() for task in tasks] == [True, False]
    tasks[1].cancel()


async def test_cancelled_worker_passes_its_hint_on():
    store = InMemoryLightningStore()
    tasks = await waiting(store, 3)
    rollout = await store.enqueue_rollout("task")
    tasks[0].cancel()
    assert [claimed.rollout_id for claimed in await tasks[1]] == [rollout.rollout_id]
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    tasks[2].cancel()


async def test_cancelled_workers_swallow_no_work():
    store = InMemoryLightningStore()
    for number in range(50):
        tasks = await waiting(store, 3)
        await store.enqueue_many_rollouts(requests_for([number, number]))
        tasks[number % 3].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(result, asyncio.CancelledError) for result in results].count(True) == 1
        assert [len(result) for result in results if isinstance(result, list)] == [1, 1]
    assert is_clean(store)


async def test_worker_of_several_queues_is_woken_by_any():
    store = InMemoryLightningStore()
    both, second = [
        asyncio.create_task(store.dequeue_rollout(queues=queues, timeout=30)) for queues in (["a", "b"], ["b"])
    ]
    await turns()
    await store.enqueue_many_rollouts(requests_for([1, 2], queue="b"))
    assert [(await task).input for task in (both, second)] == [1, 2]
    assert is_clean(store)


async def test_greedy_worker_leaves_the_others_waiting():
    store = InMemoryLightningStore()
    tasks = await waiting(store, 3, limit=10)
    await store.enqueue_many_rollouts(requests_for([1, 2, 3]))
    assert len(await tasks[0]) == 3
    await store.enqueue_rollout(4)
    assert [rollout.input for rollout in await tasks[1]] == [4]
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert is_clean(store)


async def test_time_outs_leave_nothing_behind():
    store = InMemoryLightningStore()
    answers = await asyncio.gather(*(store.dequeue_rollout(timeout=0.01) for _ in range(20)))
    assert answers == [None] * 20
    assert await store.wait_for_rollouts(rollout_ids=[(await store.enqueue_rollout(1)).rollout_id], timeout=0.01) == []
    assert (await store.completions(timeout=0.01)).items == []
    assert is_clean(store)
    assert not store._finish_waits._waits
    assert not store._completion_waits


async def test_deadline_that_passes_during_a_wait_ends_it():
    store = InMemoryLightningStore()
    config = RolloutConfig(timeout_seconds=0.05, max_attempts=2, retry_condition=["timeout"])
    started = await store.start_rollout("task", config=config)
    claimed = await store.dequeue_rollout(timeout=10)
    assert (claimed.rollout_id, claimed.attempt.sequence_id) == (started.rollout_id, 2)
    assert [rollout.status for rollout in await store.wait_for_rollouts(rollout_ids=[started.rollout_id])] == ["failed"]
    page = await store.completions(timeout=10)
    assert [item.rollout_id for item in page.items] == [started.rollout_id]


async def test_deadline_that_is_set_during_a_wait_is_noticed():
    store = InMemoryLightningStore()
    started = await store.start_rollout("task")
    finished = asyncio.create_task(store.wait_for_rollouts(rollout_ids=[started.rollout_id], timeout=10))
    await turns()
    await store.update_rollout(started.rollout_id, config=RolloutConfig(timeout_seconds=0.02))
    assert [rollout.status for rollout in await finished] == ["failed"]


async def test_delayed_retry_wakes_who_waits_when_it_is_ready():
    store = InMemoryLightningStore()
    config = RolloutConfig(max_attempts=2, retry_condition=["failed"], retry_delay_seconds=0.05)
    started = await store.start_rollout("task", config=config)
    failed = await store.update_attempt(started.rollout_id, "latest", status="failed")
    again = (await store.dequeue_rollout(timeout=10)).attempt
    assert again.sequence_id == 2
    assert again.start_time - failed.end_time >= 0.049


async def test_waits_are_in_real_time_when_the_clock_stands_still():
    clock = SettableClock()
    store = InMemoryLightningStore(clock=clock)
    started = await store.start_rollout("task", config=RolloutConfig(timeout_seconds=1e-9))
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await store.dequeue_rollout(timeout=0.05) is None
    assert await store.wait_for_rollouts(rollout_ids=[started.rollout_id], timeout=0.05) == []
    assert loop.time() - began > 0.09


async def test_closing_ends_all_waits():
    store = InMemoryLightningStore()
    rollout = await store.start_rollout("task")
    calls = [store.dequeue_rollout(timeout=60), store.wait_for_rollouts(rollout_ids=[rollout.rollout_id]),
             store.completions(timeout=60)]  # fmt: skip
    tasks = [asyncio.create_task(call) for call in calls]
    await turns()
    await store.close()
    claimed, finished, page = await asyncio.wait_for(asyncio.gather(*tasks), 30)
    assert (claimed, finished, page.items) == (None, [], [])
    assert await store.dequeue_rollout(timeout=60) is None


async def test_reopened_rollout_is_waited_for_again():
    store = InMemoryLightningStore()
    ids = [(await store.start_rollout(number)).rollout_id for number in range(2)]
    task = asyncio.create_task(store.wait_for_rollouts(rollout_ids=ids, timeout=30))
    await turns()
    await store.update_rollout(ids[0], status="succeeded")
    await store.update_rollout(ids[0], status="queuing")
    await store.update_rollout(ids[1], status="succeeded")
    await turns()
    assert not task.done()
    await store.update_rollout(ids[0], status="failed")
    assert [rollout.status for rollout in await task] == ["failed", "succeeded"]


async def test_deleted_rollout_is_waited_for_no_more():
    store = InMemoryLightningStore()
    ids = [(await store.start_rollout(number)).rollout_id for number in range(2)]
    task = asyncio.create_task(store.wait_for_rollouts(rollout_ids=ids, timeout=30))
    await turns()
    await store.update_rollout(ids[0], status="succeeded")
    await store.delete_rollouts([ids[0]])
    await store.update_rollout(ids[1], status="succeeded")
    assert [rollout.rollout_id for rollout in await task] == [ids[1]]


def test_wait_on_a_closed_loop_hinders_nobody():
    store = InMemoryLightningStore()
    loop = asyncio.new_event_loop()
    forgotten = loop.create_task(store.dequeue_rollout(timeout=60))
    loop.run_until_complete(asyncio.sleep(0))
    forgotten._log_destroy_pending = False
    for timer in list(store._alarm._timers.values()):
        timer.cancel()
    loop.close()

    async def work_for_another():
        task = asyncio.create_task(store.dequeue_rollout(timeout=30))
        await turns()
        await store.enqueue_rollout("task")
        return (await task).input

    assert asyncio.run(work_for_another()) == "task"


def test_wake_up_reaches_a_loop_in_another_thread():
    store = InMemoryLightningStore()
    waits = threading.Event()
    found = []

    async def wait():
        task = asyncio.create_task(store.dequeue_rollout(timeout=30))
        await turns()
        waits.set()
        found.append((await task).input)

    thread = threading.Thread(target=lambda: asyncio.run(wait()))
    thread.start()
    waits.wait(10)
    asyncio.run(store.enqueue_rollout("task"))
    thread.join(10)
    assert found == ["task"]


async def test_answers_share_nothing_with_the_store():
    store = InMemoryLightningStore()
    task, metadata = {"deep": [1]}, {"tags": ["a"]}
    config = RolloutConfig(retry_condition=["failed"])
    started = await store.start_rollout(task, metadata=metadata, config=config)
    span = span_of(started, attributes={"list": [1]}, extra={"kept": [1]})
    await store.add_span(span)
    before = await store.get_rollout_by_id(started.rollout_id)
    spans_before = (await store.query_spans(started.rollout_id)).items

    for shared in (task["deep"], metadata["tags"], config.retry_condition, started.input["deep"], span.extra["kept"]):
        shared.append("changed")
    answer = await store.get_rollout_by_id(started.rollout_id)
    answer.input["deep"].clear()
    answer.config.retry_condition.clear()
    answer.attempt.status = "failed"
    (await store.query_spans(started.rollout_id))[0].attributes["list"].clear()

    assert await store.get_rollout_by_id(started.rollout_id) == before
    assert (await store.query_spans(started.rollout_id)).items == spans_before


def test_pickling_is_refused():
    with pytest.raises(TypeError, match="one process"):
        pickle.dumps(InMemoryLightningStore())


async def test_producers_that_wait_are_refused_when_the_store_is_closed_and_leave_no_trace():
    store = InMemoryLightningStore(max_queued=1)
    await store.enqueue_rollout("first")
    tasks = [asyncio.create_task(store.enqueue_rollout(number, timeout=60)) for number in range(3)]
    await turns()

    await store.close()

    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [QueueFullError] * 3
    assert not store._room._waits


def test_producer_whose_event_loop_was_closed_does_not_hold_up_the_next_one():
    store = InMemoryLightningStore(max_queued=1)

    async def begin_to_wait():
        await store.enqueue_rollout("first")
        store._room.join(("default",), 60)  # as a coroutine does that never gets on, because its loop ends

    asyncio.run(begin_to_wait())

    async def wait_behind():
        task = asyncio.create_task(store.enqueue_rollout("second", timeout=60))
        await turns()
        await store.dequeue_rollout()
        return await asyncio.wait_for(task, 20)

    assert asyncio.run(wait_behind()).input == "second"
