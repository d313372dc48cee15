"""Threads, forks and pickles of the SQLite store, and callers that are gone."""

import asyncio
import os
import pickle
import threading
import warnings

import psutil
import pytest

from lightning_store import RolloutConfig, SQLiteLightningStore
from lightning_store.backends.sqlite.claims import claim as claim_rows
from lightning_store.errors import StoreUnavailableError
from lightning_store.repeats import repeatable
from lightning_store.requests import claim_request
from tests.support.clock import SettableClock
from tests.support.factories import claim, requests_for, span_of
from tests.support.until import until


@pytest.fixture
async def store(tmp_path):
    store = SQLiteLightningStore(tmp_path / "store.db", synchronous="normal")
    yield store
    await store.close()


class Gate:
    """A transaction that holds the writing thread until it is opened."""

    def __init__(self, store):
        self.is_open = threading.Event()
        self._is_held = threading.Event()
        self._job = store._engine.submit(store._transaction(self._hold))

    def _hold(self, _state):
        self._is_held.set()
        assert self.is_open.wait(20)

    async def held(self):
        await until(self._is_held.is_set)


async def test_call_that_is_cancelled_before_its_turn_does_nothing(store):
    gate = Gate(store)
    await gate.held()
    call = asyncio.create_task(store.enqueue_rollout("never"))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    gate.is_open.set()
    await store.enqueue_rollout("task")
    assert [rollout.input for rollout in await store.query_rollouts()] == ["task"]


async def test_call_that_is_cancelled_during_its_turn_is_undone(store):
    await store.enqueue_rollout("task")
    entered, leave = threading.Event(), threading.Event()

    def slow(state):
        state.begin()
        state.connection.execute("DELETE FROM events")
        entered.set()
        assert leave.wait(20)

    task = asyncio.create_task(store._write(slow))
    await until(entered.is_set)
    task.cancel()
    await asyncio.wait([task])
    leave.set()
    assert len(await store.query_events()) == 1


async def test_claim_whose_caller_went_at_the_last_moment_is_released(store):
    """Committed, but not received: it goes back to the head of the queue, and its worker is freed."""
    await store.enqueue_many_rollouts(requests_for(range(3)))
    request = claim_request(2, "w", ["default"], 0, None)
    claimed = await store._write(lambda state: claim_rows(state, request, store.ids))
    store._release_claimed(claimed)

    assert [each.input for each in await store.dequeue_many_rollouts(limit=3)] == [0, 1, 2]
    attempts = await store.query_attempts(claimed.rollouts[0].rollout_id)
    assert [(each.status, each.cause) for each in attempts] == [("failed", "released"), ("preparing", None)]
    assert (await store.get_worker_by_id("w")).status == "idle"


async def test_error_of_one_call_is_its_callers_only(store):
    results = await asyncio.gather(
        store.enqueue_rollout(1), store.start_attempt("missing"), store.enqueue_rollout(2), return_exceptions=True
    )
    assert type(results[1]).__name__ == "RolloutNotFoundError"
    assert (await store.query_rollouts()).total == 2


async def test_what_was_settled_in_passing_stays_when_the_call_is_refused(tmp_path):
    clock = SettableClock()
    store = SQLiteLightningStore(tmp_path / "settled.db", clock=clock, synchronous="normal")
    await store.start_rollout("late", rollout_id="late", config=RolloutConfig(timeout_seconds=1))
    clock.advance(5)
    with pytest.raises(ValueError, match="missing"):
        await store.start_attempt("missing")
    assert (await store.query_events())[-1].cause == "timeout"
    await store.close()


async def test_spans_of_good_groups_stay_when_another_group_is_refused(store):
    started = await store.start_rollout("task")
    bad = span_of(started).model_copy(update={"attempt_id": "missing"})
    with pytest.raises(ValueError, match="missing"):
        await store.add_many_spans([span_of(started), bad, span_of(started)])
    assert (await store.query_spans(started.rollout_id)).total == 2


async def test_only_so_many_events_are_kept(tmp_path):
    store = SQLiteLightningStore(tmp_path / "events.db", events_kept=3, synchronous="normal")
    for number in range(5):
        await store.enqueue_rollout(number, rollout_id=f"r{number}")
    assert [event.rollout_id for event in await store.query_events(limit=-1)] == ["r2", "r3", "r4"]
    await store.close()


async def test_spans_beyond_high_water_are_refused_and_others_evicted(tmp_path):
    store = SQLiteLightningStore(tmp_path / "room.db", memory_capacity_bytes=10_000, synchronous="normal")
    rollouts = [await store.start_rollout(number) for number in range(3)]
    text = os.urandom(3000).hex()
    spans = [span_of(each, attributes={"text": text}) for each in rollouts]
    await store.add_span(spans[0])
    await store.add_span(spans[1])
    with pytest.raises(StoreUnavailableError, match="high_water_memory_threshold"):
        await store.add_span(spans[2])
    assert (await store.statistics())["total_spans"] == 2

    await store.update_attempt(rollouts[0].rollout_id, "latest", status="succeeded")
    await store.add_span(spans[2])
    assert (await store.statistics())["total_spans"] == 2
    assert (await store.audit()).findings == []
    await store.close()


async def test_ids_follow_from_the_token_of_the_operation(store):
    """They are drawn on another thread, which must know the context of the caller."""
    with repeatable("token"):
        first = await store.add_resources({})
    other = SQLiteLightningStore(store.path.with_name("other.db"), synchronous="normal")
    with repeatable("token"):
        again = await other.add_resources({})
    await other.close()
    assert first.resources_id == again.resources_id


async def test_pickle_carries_path_and_settings(store):
    clock = SettableClock()
    given = SQLiteLightningStore(store.path, clock=clock, max_queued=2, synchronous="normal", events_kept=5)
    copy = pickle.loads(pickle.dumps(given))  # noqa: S301 - our own bytes
    assert (copy.path, copy._options["max_queued"], copy._rules.events_kept) == (store.path, 2, 5)
    assert copy._settings == given._settings


def test_fork_finds_no_open_connection_and_goes_on_in_both(tmp_path):
    store = SQLiteLightningStore(tmp_path / "fork.db", synchronous="normal")

    async def use(tag):
        for number in range(20):
            await store.enqueue_rollout(f"{tag} {number}")
        await store.query_rollouts(limit=1)

    asyncio.run(use("before"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: this process has threads
        children = [_fork(lambda number=number: asyncio.run(use(f"child {number}"))) for number in range(3)]
    asyncio.run(use("parent"))
    assert [_exit_code(pid) for pid in children] == [0, 0, 0]

    assert asyncio.run(store.query_rollouts()).total == 100
    assert asyncio.run(store.audit()).findings == []
    asyncio.run(store.close())


def _exit_code(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _fork(work):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            assert not [each for each in psutil.Process().open_files() if "fork.db" in each.path]
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


async def test_fork_waits_for_the_transaction_that_runs(store):
    await store.enqueue_rollout("task")
    gate = Gate(store)
    await gate.held()
    timer = threading.Timer(0.2, gate.is_open.set)
    timer.start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os._exit(0 if gate.is_open.is_set() else 1)
    assert await asyncio.to_thread(_exit_code, pid) == 0
    assert (await claim(store)).input == "task"
