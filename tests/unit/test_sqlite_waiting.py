"""Waits of the SQLite store: closing, what other processes do, what comes due, and threads that end."""

import asyncio
import gc
import json
import sqlite3
import sys
import threading
import time
from contextlib import closing

import pytest

from lightning_store import SQLiteLightningStore
from lightning_store.backends.sqlite import bell, watcher
from lightning_store.backends.sqlite.bell import Bell, ring
from lightning_store.errors import StoreUnavailableError
from lightning_store.records import RolloutConfig
from tests.support.until import AT_ONCE, until, wait_until

LATER = 30
RETRIED = RolloutConfig(max_attempts=2, retry_condition=["unresponsive"], max_worker_losses=1)


@pytest.fixture
def make(tmp_path):
    made = []

    def make_store(name="store.db", **options):
        made.append(SQLiteLightningStore(tmp_path / name, **({"synchronous": "normal"} | options)))
        return made[-1]

    yield make_store
    for store in made:
        asyncio.run(store.close())


def own_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("lightning-store-sqlite")]


async def waiting(*calls):
    """Tasks that wait; they have had time to begin."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    await asyncio.wait(tasks, timeout=0.2)
    assert not any(task.done() for task in tasks)
    return tasks


ELSEWHERE = """
import asyncio, json, os, sys
from lightning_store.backends.sqlite import SQLiteLightningStore

async def main(path, what, arguments):
    store = SQLiteLightningStore(path)
    if what == "die":
        await store.dequeue_rollout("other", lease_seconds=0.5)
        os._exit(0)
    await getattr(store, what)(*arguments)
    await store.close()

asyncio.run(main(*json.loads(sys.argv[1])))
"""


async def do_elsewhere(store, what, *arguments):
    """Have another process do something, and wait until it has."""
    command = [sys.executable, "-c", ELSEWHERE, json.dumps([str(store.path), what, arguments])]
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0


# -- closing -----------------------------------------------------------------------------------------------------------


async def test_closing_ends_all_waits_with_what_there_is(make):
    store = make(max_queued=1)
    started = await store.start_rollout("task")
    await store.enqueue_rollout("fills the queue", queue="full")
    tasks = await waiting(
        store.dequeue_rollout(timeout=LATER),
        store.wait_for_rollouts(rollout_ids=[started.rollout_id]),
        store.completions(timeout=LATER),
    )
    producer = asyncio.create_task(store.enqueue_rollout("no room", queue="full", timeout=LATER))
    board = store._board
    await until(lambda: all((board._claims, board._watched, board._followers, board._producers)))

    await store.close()

    claimed, finished, page = await asyncio.wait_for(asyncio.gather(*tasks), AT_ONCE)
    assert (claimed, finished, page.items) == (None, [], [])
    assert type((await asyncio.wait_for(asyncio.gather(producer, return_exceptions=True), AT_ONCE))[0]).__name__ == (
        "QueueFullError"
    )


async def test_threads_end_when_the_store_is_closed(make):
    store = make()
    [task] = await waiting(store.dequeue_rollout(timeout=LATER))
    assert len(own_threads()) >= 2
    await store.close()
    await task
    await store.close()
    assert own_threads() == []


def test_threads_end_when_nobody_has_the_store_any_more(tmp_path):
    async def use():
        store = SQLiteLightningStore(tmp_path / "store.db", synchronous="normal")
        await waiting_briefly(store)

    async def waiting_briefly(store):
        assert await store.dequeue_rollout(timeout=0.1) is None

    asyncio.run(use())
    gc.collect()
    wait_until(lambda: not own_threads())


async def test_watching_thread_ends_after_a_while_without_waits(make, monkeypatch):
    monkeypatch.setattr(watcher, "LINGER_SECONDS", 0.05)
    store = make()
    assert await store.dequeue_rollout(timeout=0.05) is None
    await until(lambda: not [each for each in own_threads() if each.name.endswith("watcher")])

    [task] = await waiting(store.dequeue_rollout(timeout=LATER))
    await make().enqueue_rollout("task")
    assert (await asyncio.wait_for(task, AT_ONCE)).input == "task"


# -- other processes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hears", [True, False], ids=["rings", "looks"])
async def test_each_wait_is_ended_by_another_process(make, monkeypatch, hears):
    if not hears:
        monkeypatch.setattr(bell, "_inotify", lambda: None)
    store = make(max_queued=1, poll_seconds=0.05)
    ended = await store.start_rollout("ends", rollout_id="ends")
    await store.enqueue_rollout("fills the queue", queue="full", rollout_id="filler")
    finish, page, room = await waiting(
        store.wait_for_rollouts(rollout_ids=["ends"]),
        store.completions(timeout=LATER),
        store.enqueue_rollout("waits for room", queue="full", timeout=LATER),
    )

    await do_elsewhere(store, "update_attempt", "ends", ended.attempt.attempt_id, "succeeded")
    assert [each.status for each in await asyncio.wait_for(finish, LATER)] == ["succeeded"]
    assert [item.rollout_id for item in (await asyncio.wait_for(page, LATER)).items] == ["ends"]

    await do_elsewhere(store, "cancel_rollouts", ["filler"])
    assert (await asyncio.wait_for(room, LATER)).input == "waits for room"


async def test_work_of_another_process_goes_to_who_waits_longest(make):
    store = make()
    tasks = await waiting(*(store.dequeue_rollout(timeout=LATER) for _ in range(4)))
    await do_elsewhere(store, "enqueue_rollout", "first")
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert tasks[0].done()
    await do_elsewhere(store, "enqueue_rollout", "second")
    await asyncio.wait(tasks[1:], return_when=asyncio.FIRST_COMPLETED)
    assert tasks[1].done()
    assert not tasks[2].done()
    for task in tasks[2:]:
        task.cancel()


async def test_rollout_that_another_process_deletes_is_waited_for_no_more(make):
    store = make()
    await store.start_rollout("task", rollout_id="r")
    await store.cancel_rollouts(["r"])
    await store.update_rollout("r", status="running")
    [task] = await waiting(store.wait_for_rollouts(rollout_ids=["r"]))
    other = make()
    await other.cancel_rollouts(["r"])
    await other.delete_rollouts(["r"])
    assert await asyncio.wait_for(task, LATER) == []


async def test_lease_of_a_process_that_died_is_noticed_while_somebody_waits(make):
    store = make()
    await store.enqueue_rollout("task", config=RETRIED)
    await do_elsewhere(store, "die")
    claimed = await asyncio.wait_for(store.dequeue_rollout("heir", timeout=LATER), LATER)
    assert (claimed.attempt.sequence_id, claimed.attempt.worker_id) == (2, "heir")


async def test_whoever_waits_is_told_that_the_file_has_become_unusable(make):
    store = make()
    [task] = await waiting(store.dequeue_rollout(timeout=LATER))
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("DROP TABLE queues")

    with pytest.raises(StoreUnavailableError, match="queues"):
        await asyncio.wait_for(task, LATER)


# -- the bell ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def a_bell(tmp_path):
    path = tmp_path / "file"
    path.touch()
    a_bell = Bell(path)
    yield a_bell, path
    a_bell.close()


def waits(a_bell, seconds):
    began = time.monotonic()
    a_bell.wait(seconds)
    return time.monotonic() - began


def test_bell_is_heard_until_the_wait_begins(a_bell):
    a_bell, path = a_bell
    ring(path)
    assert waits(a_bell, LATER) < AT_ONCE
    assert waits(a_bell, 0.1) >= 0.09, "each ring is heard once"


def test_bell_can_be_poked(a_bell):
    a_bell, _ = a_bell
    timer = threading.Timer(0.05, a_bell.poke)
    timer.start()
    assert waits(a_bell, LATER) < AT_ONCE
    for _ in range(100_000):
        a_bell.poke()  # more than a pipe holds
    assert waits(a_bell, LATER) < AT_ONCE


def test_ring_of_a_file_that_is_gone_is_no_error(tmp_path):
    ring(tmp_path / "missing")


def test_bell_without_inotify_is_poked_only(a_bell, monkeypatch):
    _, path = a_bell
    monkeypatch.setattr(bell, "_inotify", lambda: None)
    deaf = Bell(path)
    ring(path)
    assert not deaf.is_rung_by_others
    assert waits(deaf, 0.05) >= 0.04
    deaf.close()
