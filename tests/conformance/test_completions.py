"""The completion log: rules 23 and 24, and the extension `completions` of decisions.md."""

import asyncio
import time

import pytest

from lightning_store.errors import InvalidRequestError
from lightning_store.records import RolloutConfig
from tests.support.factories import claim, span_of
from tests.support.until import AT_ONCE


async def finished(store, *names, status="succeeded", **fields):
    for name in names:
        await store.enqueue_rollout(1, rollout_id=name, **fields)
        await store.update_rollout(name, status=status)


async def log(store, **options):
    return [(item.rollout_id, item.status) for item in (await store.completions(**options)).items]


async def test_completion_tells_what_finished_and_when(store, clock):
    started = await store.start_rollout("task", "val", group_id="g")
    clock.advance(3)
    await store.update_attempt(started.rollout_id, "latest", status="succeeded")

    page = await store.completions()

    assert [item.model_dump(exclude={"cursor"}) for item in page.items] == [
        {
            "rollout_id": started.rollout_id,
            "status": "succeeded",
            "mode": "val",
            "group_id": "g",
            "start_time": started.start_time,
            "end_time": clock.now(),
        }
    ]
    assert page.cursor == page.items[-1].cursor


async def test_completions_come_in_the_order_of_the_finishes(store):
    started = [await store.start_rollout(number) for number in range(3)]
    for index, status in ((2, "succeeded"), (0, "failed")):
        await store.update_attempt(started[index].rollout_id, "latest", status=status)
    await store.cancel_rollouts([started[1].rollout_id])

    assert await log(store) == [
        (started[2].rollout_id, "succeeded"),
        (started[0].rollout_id, "failed"),
        (started[1].rollout_id, "cancelled"),
    ]


async def test_rollout_that_exhausts_its_tries_by_the_watchdog_completes(store, clock):
    started = await store.start_rollout("task", config=RolloutConfig(timeout_seconds=5))
    clock.advance(6)
    await store.expire_attempts()

    page = await store.completions()

    assert [(item.rollout_id, item.status, item.end_time) for item in page.items] == [
        (started.rollout_id, "failed", clock.now())
    ]


async def test_requeued_rollout_is_not_completed(store):
    started = await store.start_rollout("task", config=RolloutConfig(max_attempts=2, retry_condition=["failed"]))
    await store.update_attempt(started.rollout_id, "latest", status="failed")
    assert await log(store) == []

    await claim(store)
    await store.update_attempt(started.rollout_id, "latest", status="failed")
    assert await log(store) == [(started.rollout_id, "failed")]


async def test_reopened_rollout_completes_again(store):
    await finished(store, "a")
    await store.start_attempt("a")
    await store.update_rollout("a", status="failed")
    await store.update_rollout("a", status="queuing")
    await store.update_rollout("a", status="failed")

    assert await log(store) == [("a", "succeeded"), ("a", "failed"), ("a", "failed")]


async def test_change_between_finished_statuses_is_a_completion(store):
    await finished(store, "a")
    await store.update_rollout("a", status="failed")
    await store.update_rollout("a", status="cancelled")

    assert await log(store) == [("a", "succeeded"), ("a", "failed"), ("a", "cancelled")]


async def test_repeated_status_and_late_reports_append_nothing(store):
    started = await store.start_rollout("task")
    await store.update_attempt(started.rollout_id, "latest", status="succeeded")

    await store.update_rollout(started.rollout_id, status="succeeded")
    await store.update_rollout(started.rollout_id, metadata={"a": 1})
    for status in ("succeeded", "failed", "running", "timeout"):
        await store.update_attempt(started.rollout_id, "latest", status=status)
    await store.add_span(span_of(started))
    await store.cancel_rollouts([started.rollout_id])

    assert await log(store) == [(started.rollout_id, "succeeded")]


async def test_older_attempts_never_complete_the_rollout(store):
    started = await store.start_rollout("task")
    await store.start_attempt(started.rollout_id)

    await store.update_attempt(started.rollout_id, started.attempt.attempt_id, status="succeeded")

    assert await log(store) == []


async def test_reading_goes_on_from_a_cursor(store):
    await finished(store, "a", "b", "c")
    first = await store.completions(limit=2)
    assert [item.rollout_id for item in first.items] == ["a", "b"]

    second = await store.completions(first.cursor, limit=2)
    assert [item.rollout_id for item in second.items] == ["c"]

    third = await store.completions(second.cursor)
    assert third.items == []
    await finished(store, "d")
    assert await log(store, after=third.cursor) == [("d", "succeeded")]
    assert await log(store, after=first.items[0].cursor) == [(n, "succeeded") for n in "bcd"]


async def test_each_completion_is_read_once_page_by_page(store):
    await finished(store, *"abcdefg")
    cursor, seen = None, []
    while page := (await store.completions(cursor, limit=3)).items:
        seen += [item.rollout_id for item in page]
        cursor = page[-1].cursor

    assert seen == list("abcdefg")


async def test_reading_of_an_empty_log_gives_a_cursor_to_go_on_from(store):
    page = await store.completions()
    assert page.items == []
    await finished(store, "a")

    assert await log(store, after=page.cursor) == [("a", "succeeded")]


async def test_latest_reads_only_what_finishes_after_the_call(store):
    await finished(store, "a")
    page = await store.completions("latest")
    assert page.items == []
    await finished(store, "b")

    assert await log(store, after=page.cursor) == [("b", "succeeded")]


async def test_latest_of_an_empty_log_misses_nothing_afterwards(store):
    page = await store.completions("latest")
    await finished(store, "a")

    assert await log(store, after=page.cursor) == [("a", "succeeded")]


async def test_group_selects_its_completions(store):
    await finished(store, "a1", "a2", group_id="a")
    await finished(store, "b1", group_id="b")
    await finished(store, "a3", group_id="a")
    await finished(store, "none")

    assert await log(store, group_id="a") == [(n, "succeeded") for n in ("a1", "a2", "a3")]
    assert await log(store, group_id="unknown") == []
    first = await store.completions(group_id="a", limit=2)
    assert [item.rollout_id for item in first.items] == ["a1", "a2"]
    assert await log(store, after=first.cursor, group_id="a") == [("a3", "succeeded")]


async def test_cursor_of_a_group_skips_no_entry_of_the_group(store):
    await finished(store, *(f"other-{n}" for n in range(5)))
    await finished(store, "a1", group_id="a")
    cursor, seen = None, []
    for _ in range(12):
        page = await store.completions(cursor, limit=1, group_id="a")
        cursor = page.cursor
        seen += [item.rollout_id for item in page.items]

    assert seen == ["a1"]


@pytest.mark.parametrize("limit", [0, -1])
async def test_limit_is_at_least_one(store, limit):
    with pytest.raises(InvalidRequestError, match="limit"):
        await store.completions(limit=limit)


@pytest.mark.parametrize("cursor", ["nonsense", "", "12-x", "*", "(5-0"])
async def test_what_is_no_cursor_is_refused(store, cursor):
    await finished(store, "a")
    with pytest.raises(InvalidRequestError, match="after"):
        await store.completions(cursor)


async def test_deleted_rollouts_leave_the_log_and_cursors_stay_valid(store):
    await finished(store, "a", "b", "c")
    await store.update_rollout("b", status="failed")
    cursor = (await store.completions(limit=2)).cursor

    await store.delete_rollouts(["b"])

    assert await log(store) == [("a", "succeeded"), ("c", "succeeded")]
    assert await log(store, after=cursor) == [("c", "succeeded")]


async def test_cursor_stays_valid_when_everything_was_deleted(store):
    await finished(store, "a", "b")
    cursor = (await store.completions()).cursor
    await store.delete_rollouts(["a", "b"])
    assert await log(store) == []

    await finished(store, "c")

    assert await log(store, after=cursor) == [("c", "succeeded")]


# -- waiting -----------------------------------------------------------------------------------------------------------


async def reader(store, after=None, timeout=30, **options):
    """A task that waits for completions. Later calls have been answered, so that it knows what is the latest."""
    task = asyncio.create_task(store.completions(after, timeout=timeout, **options))
    await asyncio.wait([task], timeout=0.05)
    for _ in range(5):
        await store.statistics()
    assert not task.done()
    return task


async def test_reader_that_waits_is_woken_by_a_finish(live_store):
    await live_store.enqueue_rollout(1, rollout_id="a")
    task = await reader(live_store)

    started = time.monotonic()
    await live_store.update_rollout("a", status="succeeded")
    page = await asyncio.wait_for(task, 10)

    assert [item.rollout_id for item in page.items] == ["a"]
    assert time.monotonic() - started < AT_ONCE


async def test_reader_does_not_wait_when_there_is_something(live_store):
    await finished(live_store, "a")

    started = time.monotonic()
    page = await live_store.completions(timeout=60)

    assert [item.rollout_id for item in page.items] == ["a"]
    assert time.monotonic() - started < AT_ONCE


async def test_reader_gives_up_after_its_time_and_can_go_on(live_store):
    await finished(live_store, "a")
    cursor = (await live_store.completions()).cursor

    started = time.monotonic()
    page = await live_store.completions(cursor, timeout=0.1)

    assert page.items == []
    assert 0.09 <= time.monotonic() - started < 0.1 + AT_ONCE
    await finished(live_store, "b")
    assert await log(live_store, after=page.cursor) == [("b", "succeeded")]


async def test_reader_of_the_latest_waits_for_the_next_finish(live_store):
    await finished(live_store, "a")
    task = await reader(live_store, "latest")

    await finished(live_store, "b")

    assert [item.rollout_id for item in (await asyncio.wait_for(task, 10)).items] == ["b"]


async def test_reader_of_a_group_sleeps_through_finishes_of_others(live_store):
    task = await reader(live_store, group_id="mine")
    await finished(live_store, "other")
    assert not (await asyncio.wait([task], timeout=0.1))[0]

    await finished(live_store, "mine", group_id="mine")

    assert [item.rollout_id for item in (await asyncio.wait_for(task, 10)).items] == ["mine"]


async def test_all_readers_see_every_finish_and_a_cancelled_one_harms_none(live_store):
    tasks = [await reader(live_store) for _ in range(3)]
    tasks[1].cancel()

    await finished(live_store, "a")
    done, _ = await asyncio.wait(tasks, timeout=10)

    assert done == set(tasks)
    assert tasks[1].cancelled()
    for task in (tasks[0], tasks[2]):
        assert [item.rollout_id for item in task.result().items] == ["a"]
