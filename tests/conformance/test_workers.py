"""Workers: sections 1.6, 2.5 and 3.7."""

import pytest

from lightning_store.records import RolloutConfig, Worker
from tests.support.factories import claim, requests_for, span_of

START = 1_700_000_000.25


def fields(worker, *names):
    return tuple(getattr(worker, name) for name in names)


async def holding(store, worker_id="w", **options):
    """A worker that holds the attempt of a started rollout."""
    return await store.start_rollout("task", worker_id=worker_id, **options)


async def report(store, rollout, **changes):
    await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, **changes)


# -- dequeue -----------------------------------------------------------------------------------------------------------


async def test_dequeue_that_gave_an_attempt_makes_its_worker_busy(store, clock):
    await store.enqueue_rollout("task")
    clock.advance(1)

    claimed = await claim(store, "w")

    assert await store.get_worker_by_id("w") == Worker(
        worker_id="w",
        status="busy",
        last_dequeue_time=clock.now(),
        last_busy_time=clock.now(),
        current_rollout_id=claimed.rollout_id,
        current_attempt_id=claimed.attempt.attempt_id,
    )


async def test_worker_shows_the_last_attempt_of_a_batch(store):
    await store.enqueue_many_rollouts(requests_for(range(3)))

    claimed = await store.dequeue_many_rollouts(limit=3, worker_id="w")

    worker = await store.get_worker_by_id("w")
    assert worker.current_rollout_id == claimed[-1].rollout_id
    assert worker.current_attempt_id == claimed[-1].attempt.attempt_id


async def test_empty_dequeue_makes_a_new_worker_idle(store, clock):
    assert await store.dequeue_rollout("w") is None

    assert await store.get_worker_by_id("w") == Worker(
        worker_id="w", status="idle", last_dequeue_time=clock.now(), last_idle_time=clock.now()
    )


async def test_empty_dequeue_makes_a_busy_worker_idle_and_clears_what_it_holds(store, clock):
    await holding(store)
    clock.advance(2)

    await store.dequeue_rollout("w")

    assert await store.get_worker_by_id("w") == Worker(
        worker_id="w", status="idle", last_dequeue_time=clock.now(), last_idle_time=clock.now(), last_busy_time=START
    )


async def test_empty_dequeue_makes_an_unknown_worker_idle(store, clock):
    await store.update_worker("w")
    clock.advance(1)

    await store.dequeue_many_rollouts(limit=2, worker_id="w")

    worker = await store.get_worker_by_id("w")
    assert fields(worker, "status", "last_idle_time", "last_heartbeat_time") == ("idle", clock.now(), START)


async def test_empty_dequeue_of_an_idle_worker_moves_only_its_dequeue_time(store, clock):
    await store.dequeue_rollout("w")
    before = await store.get_worker_by_id("w")
    clock.advance(2)

    await store.dequeue_rollout("w")

    assert await store.get_worker_by_id("w") == before.model_copy(update={"last_dequeue_time": clock.now()})


@pytest.mark.parametrize("worker_id", [None, ""])
async def test_dequeue_without_a_worker_touches_none(store, worker_id):
    await store.enqueue_rollout("task")
    await claim(store, worker_id)
    await store.dequeue_rollout(worker_id)

    assert (await store.query_workers()).total == 0


# -- attempts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["start_rollout", "start_attempt"])
async def test_attempt_started_with_a_worker_makes_it_busy(store, clock, call):
    queued = await store.enqueue_rollout("task")
    clock.advance(1)

    if call == "start_rollout":
        started = await store.start_rollout("task", worker_id="w")
    else:
        started = await store.start_attempt(queued.rollout_id, "w")

    assert await store.get_worker_by_id("w") == Worker(
        worker_id="w",
        status="busy",
        last_busy_time=clock.now(),
        current_rollout_id=started.rollout_id,
        current_attempt_id=started.attempt.attempt_id,
    )


async def test_attempt_started_without_a_worker_touches_none(store):
    started = await store.start_rollout("task")
    await store.start_attempt(started.rollout_id)

    assert (await store.query_workers()).total == 0


@pytest.mark.parametrize(
    ("attempt_status", "worker_status"),
    [
        ("preparing", "busy"),
        ("running", "busy"),
        ("succeeded", "idle"),
        ("failed", "idle"),
        ("timeout", "unknown"),
        ("unresponsive", "unknown"),
    ],
)
async def test_attempt_update_with_status_drives_its_worker(store, clock, attempt_status, worker_status):
    started = await holding(store)
    await store.update_worker("w", {"load": 1})
    clock.advance(3)

    await report(store, started, status=attempt_status)

    worker = await store.get_worker_by_id("w")
    held = (started.rollout_id, started.attempt.attempt_id) if worker_status == "busy" else (None, None)
    assert worker.status == worker_status
    assert fields(worker, "current_rollout_id", "current_attempt_id") == held
    moved, kept = ("last_busy_time", "last_idle_time") if worker_status == "busy" else ("last_idle_time", None)
    assert getattr(worker, moved) == clock.now()
    if kept:
        assert getattr(worker, kept) is None
    else:
        assert worker.last_busy_time == START
    assert fields(worker, "heartbeat_stats", "last_heartbeat_time", "last_dequeue_time") == ({"load": 1}, START, None)


@pytest.mark.parametrize("limit", ["timeout_seconds", "unresponsive_seconds"])
async def test_watchdog_drives_the_worker_too(store, clock, limit):
    await holding(store, config=RolloutConfig(**{limit: 5}))
    clock.advance(6)

    await store.expire_attempts()

    worker = await store.get_worker_by_id("w")
    assert fields(worker, "status", "current_rollout_id", "current_attempt_id") == ("unknown", None, None)
    assert fields(worker, "last_idle_time", "last_busy_time") == (clock.now(), START)


async def test_attempt_update_with_a_worker_drives_that_worker(store, clock):
    started = await holding(store, "first")
    before = await store.get_worker_by_id("first")
    clock.advance(1)

    await report(store, started, worker_id="second")

    assert await store.get_worker_by_id("second") == Worker(
        worker_id="second",
        status="busy",
        last_busy_time=clock.now(),
        current_rollout_id=started.rollout_id,
        current_attempt_id=started.attempt.attempt_id,
    )
    assert await store.get_worker_by_id("first") == before


async def test_handing_over_an_ended_attempt_makes_the_new_worker_idle(store):
    started = await holding(store, "first")

    await report(store, started, worker_id="second", status="succeeded")

    assert (await store.get_worker_by_id("second")).status == "idle"
    assert (await store.get_worker_by_id("first")).status == "busy"


@pytest.mark.parametrize(
    "change", [{"metadata": {"a": 1}}, {"last_heartbeat_time": 5.0}, {"resources_id": "rs"}, {}, {"worker_id": ""}]
)
async def test_attempt_update_without_status_or_worker_touches_no_worker(store, clock, change):
    started = await holding(store)
    before = await store.get_worker_by_id("w")
    clock.advance(1)

    await report(store, started, **change)

    assert (await store.query_workers()).items == [before]


async def test_older_attempt_drives_its_worker_all_the_same(store):
    started = await holding(store, "w")
    second = await store.start_attempt(started.rollout_id, "w")

    await report(store, started, status="failed")
    assert (await store.get_worker_by_id("w")).status == "idle"

    await report(store, second, status="running")
    worker = await store.get_worker_by_id("w")
    assert fields(worker, "status", "current_attempt_id") == ("busy", second.attempt.attempt_id)


async def test_status_of_the_rollout_alone_does_not_touch_its_worker(store):
    started = await holding(store)
    before = await store.get_worker_by_id("w")

    await store.update_rollout(started.rollout_id, status="cancelled")

    assert await store.get_worker_by_id("w") == before


# -- heartbeats --------------------------------------------------------------------------------------------------------


async def test_heartbeat_creates_an_unknown_worker(store, clock):
    worker = await store.update_worker("w", {"cpu": 0.5})

    assert worker == Worker(
        worker_id="w", status="unknown", heartbeat_stats={"cpu": 0.5}, last_heartbeat_time=clock.now()
    )
    assert await store.get_worker_by_id("w") == worker


async def test_heartbeat_leaves_status_and_attempt(store, clock):
    await holding(store)
    before = await store.get_worker_by_id("w")
    clock.advance(1)

    worker = await store.update_worker("w")

    assert worker == before.model_copy(update={"last_heartbeat_time": clock.now()})


async def test_stats_are_replaced_only_when_given(store):
    await store.update_worker("w", {"a": 1})

    assert (await store.update_worker("w")).heartbeat_stats == {"a": 1}
    assert (await store.update_worker("w", {"b": 2})).heartbeat_stats == {"b": 2}
    assert (await store.update_worker("w", heartbeat_stats={})).heartbeat_stats == {}


async def test_stats_survive_changes_of_status(store):
    await store.update_worker("w", {"a": [1]})
    started = await holding(store)
    await store.add_span(span_of(started))
    await report(store, started, status="succeeded")
    await store.dequeue_rollout("w")

    assert (await store.get_worker_by_id("w")).heartbeat_stats == {"a": [1]}


async def test_stats_of_none_are_a_type_error(store):
    with pytest.raises(TypeError):
        await store.update_worker("w", None)
    assert await store.get_worker_by_id("w") is None


async def test_callers_changes_and_changed_answers_do_not_show(store):
    stats = {"list": [1]}
    created = await store.update_worker("w", stats)
    stats["list"].append(2)
    for answer in (created, await store.get_worker_by_id("w"), (await store.query_workers())[0]):
        answer.heartbeat_stats["list"].append(3)
        answer.status = "busy"

    stored = await store.get_worker_by_id("w")

    assert fields(stored, "heartbeat_stats", "status") == ({"list": [1]}, "unknown")


# -- reading -----------------------------------------------------------------------------------------------------------


async def test_unknown_worker_is_none(store):
    assert await store.get_worker_by_id("w") is None


async def test_workers_are_listed_in_order_of_first_mention(store):
    await store.update_worker("heartbeat")
    await store.dequeue_rollout("dequeue")
    started = await store.start_rollout("task", worker_id="start")
    await store.start_attempt(started.rollout_id, "attempt")
    await report(store, started, worker_id="handed over")
    await store.renew("renew", [])
    await store.update_worker("heartbeat")

    names = ["heartbeat", "dequeue", "start", "attempt", "handed over", "renew"]
    page = await store.query_workers()
    assert [worker.worker_id for worker in page] == names
    assert all(type(worker) is Worker for worker in page)


@pytest.mark.parametrize("worker_id", ["a:b", "{a}", "runner 1/ä", "rollout:x:attempt", "*", "a" * 512, "ä" * 256])
async def test_worker_ids_are_free_text(store, worker_id):
    await store.update_worker(worker_id, {"mine": worker_id})
    await store.enqueue_rollout("task")
    claimed = await claim(store, worker_id)

    worker = await store.get_worker_by_id(worker_id)

    assert fields(worker, "worker_id", "status", "heartbeat_stats") == (worker_id, "busy", {"mine": worker_id})
    assert claimed.attempt.worker_id == worker_id
    assert [w.worker_id for w in await store.query_workers()] == [worker_id]
