"""Waiting on Redis beyond what every store promises: what blocked readers do when reading goes wrong."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine

import fakeredis
import pytest

from lightning_store.backends.redis.keys import Keys
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.backends.redis.waiting import Watcher, is_earlier, last_entry
from lightning_store.errors import InternalStoreError, StoreUnavailableError
from tests.support.until import AT_ONCE, until


@pytest.fixture
def server() -> fakeredis.FakeServer:
    return fakeredis.FakeServer()


@pytest.fixture
async def store(server: fakeredis.FakeServer, namespace: str) -> AsyncIterator[RedisLightningStore]:
    store = RedisLightningStore(fakeredis.FakeAsyncRedis(server=server), namespace=namespace, retry_seconds=0.2)
    yield store
    server.connected = True
    await store.close()


@pytest.fixture
def raw(server: fakeredis.FakeServer) -> fakeredis.FakeRedis:
    return fakeredis.FakeRedis(server=server, decode_responses=True)


def key(store: RedisLightningStore, kind: str, id: str | None = None) -> str:
    return Keys(store.namespace).control(kind, id)


async def waiting(store: RedisLightningStore, **options: object) -> "asyncio.Task[object]":
    """A dequeue that stands in line."""
    options = {"timeout": 30, "queues": ("default",)} | options
    lines = store._loops.get().lines
    before = len(lines.get(options["queues"], ()))
    task = asyncio.create_task(store.dequeue_rollout(**options))
    await until(lambda: len(lines.get(options["queues"], ())) > before)
    return task


async def watching(
    store: RedisLightningStore, *calls: Coroutine[object, object, object]
) -> "list[asyncio.Task[object]]":
    """Waits for completions that the feed serves."""
    state = store._loops.get()
    tasks = [asyncio.create_task(call) for call in calls]
    await until(
        lambda: (
            state.feed is not None
            and len(state.feed._watchers) == len(calls)
            and state.feed._positioned is not None
            and state.feed._positioned.done()
        )
    )
    return tasks


async def test_time_that_ends_in_an_outage_is_no_empty_answer(store, server):
    task = await waiting(store, timeout=2)
    server.connected = False

    with pytest.raises(StoreUnavailableError):
        await task


async def test_completions_that_end_in_an_outage_are_no_empty_page(store, server):
    [task] = await watching(store, store.completions(timeout=2))
    server.connected = False

    with pytest.raises(StoreUnavailableError):
        await task


async def test_wait_that_ends_in_an_outage_is_no_empty_answer(store, server):
    queued = await store.enqueue_rollout("task")
    [task] = await watching(store, store.wait_for_rollouts(rollout_ids=[queued.rollout_id], timeout=2))
    server.connected = False

    with pytest.raises(StoreUnavailableError):
        await task


async def test_hint_that_was_lost_costs_no_work_at_the_end_of_the_time(store, raw):
    task = await waiting(store, timeout=2)
    # The entry comes without a token, as if a cancelled reader had taken it along.
    queued = await store.enqueue_rollout("task", queue="elsewhere")
    raw.rename(key(store, "queue", "elsewhere"), key(store, "queue", "default"))

    claimed = await task
    assert claimed is not None
    assert claimed.rollout_id == queued.rollout_id


async def test_reader_that_fails_fails_its_waiters(store, raw):
    first, second = await waiting(store), await waiting(store)
    raw.set(key(store, "wake", "broken"), "no list")
    third = asyncio.create_task(store.dequeue_rollout(queues=["broken"], timeout=30))

    with pytest.raises(InternalStoreError):
        await asyncio.wait_for(third, AT_ONCE)
    for task in (first, second):
        assert not task.done()
        task.cancel()


async def test_waiters_are_failed_by_a_reader_that_fails_later(store, raw):
    tasks = [await waiting(store, queues=("first", "second")) for _ in range(3)]
    line = store._loops.get().lines["first", "second"]
    raw.set(key(store, "wake", "second"), "no list")
    raw.rpush(key(store, "wake", "first"), "1")  # wakes one; the reader meets the other key when it reads on

    done, _ = await asyncio.wait(tasks, timeout=AT_ONCE)
    assert len(done) == 3
    for task in done:
        assert isinstance(task.exception(), InternalStoreError)
    assert not len(line)


async def test_watchers_are_failed_by_a_feed_that_fails(store, raw):
    queued = await store.enqueue_rollout("task")
    tasks = await watching(
        store, store.wait_for_rollouts(rollout_ids=[queued.rollout_id]), store.completions(timeout=30)
    )
    raw.xadd(key(store, "completed"), {"nothing": "of ours"})

    done, _ = await asyncio.wait(tasks, timeout=AT_ONCE)
    assert len(done) == 2
    assert all(isinstance(task.exception(), Exception) for task in done)


async def test_feed_can_be_joined_again_after_it_failed(store, raw):
    queued = await store.enqueue_rollout("task")
    [waits] = await watching(store, store.wait_for_rollouts(rollout_ids=[queued.rollout_id]))
    entry = raw.xadd(key(store, "completed"), {"nothing": "of ours"})
    await asyncio.wait([waits], timeout=AT_ONCE)
    waits.exception()
    raw.xdel(key(store, "completed"), entry)

    [again] = await watching(store, store.wait_for_rollouts(rollout_ids=[queued.rollout_id]))
    await store.update_rollout(queued.rollout_id, status="succeeded")
    assert len(await asyncio.wait_for(again, AT_ONCE)) == 1


async def test_infinite_wait_outlives_an_outage(store, server):
    task = await waiting(store, timeout=float("inf"))
    server.connected = False
    await asyncio.wait([task], timeout=0.5)
    assert not task.done()
    server.connected = True
    queued = await store.enqueue_rollout("task")

    claimed = await asyncio.wait_for(task, 30)
    assert claimed is not None
    assert claimed.rollout_id == queued.rollout_id


async def test_many_short_waits_leave_nothing_running(store):
    for _ in range(20):
        assert await store.dequeue_rollout(timeout=0.01) is None

    assert len(store._loops.get().lines["default",]) == 0
    assert {task.get_name() for task in asyncio.all_tasks()} == {asyncio.current_task().get_name()}


async def test_close_waits_until_cancelled_claims_are_handed_back(store, namespace, raw):
    for cancelled_after in range(40):
        queued = await store.enqueue_rollout(cancelled_after)
        task = asyncio.create_task(store.dequeue_rollout("w"))
        for _ in range(cancelled_after):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await store.close()

        fields = raw.hgetall(key(store, "rollout", queued.rollout_id))
        if not task.cancelled():
            assert fields["status"] == "preparing"
            await store.release_attempt(queued.rollout_id, fields["latest"])
        else:
            assert fields["status"] in {"queuing", "requeuing"}
        await store.cancel_rollouts([queued.rollout_id])


# -- parts -----------------------------------------------------------------------------------------------------------


async def test_watcher_times_out():
    watcher = Watcher()
    started = time.monotonic()

    assert not await watcher.wait(0.05)
    assert time.monotonic() - started >= 0.04


async def test_watcher_collects_notes():
    watcher = Watcher()
    watcher.note(["a"])
    watcher.note(["b"])

    assert await watcher.wait(AT_ONCE)
    assert watcher.finished == {"a", "b"}
    assert not await watcher.wait(0.01)


async def test_watcher_is_asked_to_look_again():
    watcher = Watcher()
    watcher.look_again()

    assert await watcher.wait(AT_ONCE)
    assert watcher.recheck


@pytest.mark.parametrize(
    ("a", "b"), [("0-0", "0-1"), ("9-9", "10-0"), ("1-2", "2-1"), ("1700000000000-0", "1700000000000-1")]
)
def test_entries_are_ordered_as_numbers(a, b):
    assert is_earlier(a, b)
    assert not is_earlier(b, a)
    assert not is_earlier(a, a)


async def test_last_entry_counts_entries_that_were_removed(store, raw):
    name = key(store, "completed")
    assert await last_entry(store._connections, name) == "0-0"
    entry = raw.xadd(name, {"a": "b"})
    assert await last_entry(store._connections, name) == entry
    raw.xdel(name, entry)
    assert await last_entry(store._connections, name) == entry
