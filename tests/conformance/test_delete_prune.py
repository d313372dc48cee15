"""Removing finished rollouts: rules 9, 18 and 23, and the extensions of decisions.md."""

import pytest

from lightning_store.errors import AttemptNotFoundError, InvalidRequestError, RolloutNotFoundError
from tests.support.factories import claim, drain, make_span, requests_for, reward_span, span_of, status_of


async def finished(store, *names, status="succeeded", **fields):
    for name in names:
        await store.enqueue_rollout(name, rollout_id=name, **fields)
        await store.update_rollout(name, status=status)


async def names(store):
    return [rollout.rollout_id for rollout in await store.query_rollouts()]


# -- delete ------------------------------------------------------------------------------------------------------------


async def test_delete_removes_a_rollout_with_all_that_belongs_to_it(store):
    started = await store.start_rollout("task", rollout_id="gone", group_id="g", metadata={"a": 1})
    await store.start_attempt("gone")
    await store.add_many_spans([span_of(started), reward_span(started, 0.5)])
    await store.update_rollout("gone", status="succeeded")
    stays = await store.start_rollout("task", group_id="g")
    await store.add_span(span_of(stays))

    assert await store.delete_rollouts(["gone"]) == ["gone"]

    assert await store.get_rollout_by_id("gone") is None
    assert await store.get_latest_attempt("gone") is None
    assert (await store.query_attempts("gone")).total == 0
    assert (await store.query_spans("gone")).total == 0
    assert (await store.completions()).items == []
    assert await store.rewards(["gone"]) == {"gone": None}
    assert await store.wait_for_rollouts(rollout_ids=["gone"], timeout=None) == []
    assert [r.rollout_id for r in await store.query_rollouts(group_id="g")] == [stays.rollout_id]
    assert (await store.query_rollouts(status_in=["succeeded"])).total == 0
    counts = await store.statistics()
    assert (counts["total_rollouts"], counts["total_attempts"], counts["total_spans"]) == (1, 1, 1)


@pytest.mark.parametrize("status", ["queuing", "requeuing", "preparing", "running"])
async def test_unfinished_and_unknown_rollouts_are_left_out(store, status):
    await finished(store, "a", "b")
    await store.enqueue_rollout(1, rollout_id="alive")
    await store.update_rollout("alive", status=status)

    assert await store.delete_rollouts(["b", "alive", "unknown", "a", "b", "{x}"]) == ["b", "a"]

    assert await names(store) == ["alive"]
    assert await store.delete_rollouts([]) == []
    assert await store.delete_rollouts(["a"]) == []


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
async def test_every_finished_rollout_can_be_deleted(store, status):
    await finished(store, "a", status=status)
    assert await store.delete_rollouts(["a"]) == ["a"]


async def test_writes_for_a_deleted_rollout_are_refused(store):
    started = await store.start_rollout("task")
    rollout_id, attempt_id = started.rollout_id, started.attempt.attempt_id
    await store.cancel_rollouts([rollout_id])
    await store.delete_rollouts([rollout_id])

    for call in (
        lambda: store.add_span(make_span(rollout_id, attempt_id)),
        lambda: store.update_attempt(rollout_id, attempt_id, status="succeeded"),
        lambda: store.update_rollout(rollout_id, status="running"),
        lambda: store.start_attempt(rollout_id),
        lambda: store.release_attempt(rollout_id, attempt_id),
        lambda: store.get_next_span_sequence_id(rollout_id, attempt_id),
    ):
        with pytest.raises(RolloutNotFoundError):
            await call()
    assert (await store.statistics())["total_rollouts"] == 0
    assert (await store.query_spans(rollout_id)).total == 0


async def test_deletion_frees_the_worker_of_a_live_attempt(store):
    started = await store.start_rollout("task", worker_id="w")
    await store.cancel_rollouts([started.rollout_id])

    await store.delete_rollouts([started.rollout_id])

    worker = await store.get_worker_by_id("w")
    assert (worker.status, worker.current_rollout_id, worker.current_attempt_id) == ("unknown", None, None)


async def test_deletion_leaves_a_worker_that_does_something_else(store):
    started = await store.start_rollout(1, worker_id="w")
    other = await store.start_rollout(2, worker_id="w")
    await store.cancel_rollouts([started.rollout_id])
    before = await store.get_worker_by_id("w")

    await store.delete_rollouts([started.rollout_id])

    assert await store.get_worker_by_id("w") == before
    assert before.current_rollout_id == other.rollout_id


async def test_deleted_attempts_are_no_longer_watched(store, clock):
    started = await store.start_rollout("task", lease_seconds=5)
    await store.cancel_rollouts([started.rollout_id])
    await store.delete_rollouts([started.rollout_id])
    clock.advance(6)

    report = await store.expire_attempts()

    assert (report.transitions, report.next_seconds) == ([], None)


async def test_id_of_a_deleted_rollout_can_be_used_anew(store):
    started = await store.start_rollout("old", rollout_id="r")
    await store.add_span(span_of(started, span_id="s", sequence_id=7))
    await store.update_rollout("r", status="succeeded")
    await store.delete_rollouts(["r"])

    again = await store.enqueue_rollout("new", rollout_id="r")

    assert (again.input, again.status, again.metadata) == ("new", "queuing", {})
    assert (await store.query_attempts("r")).total == 0
    assert (await store.query_spans("r")).total == 0
    assert await store.get_next_span_sequence_id("r", "x") == 1
    with pytest.raises(AttemptNotFoundError):
        await store.add_span(make_span("r", started.attempt.attempt_id))
    assert (await claim(store)).attempt.sequence_id == 1


async def test_deletion_removes_a_void_queue_entry(store):
    await store.enqueue_rollout(1, rollout_id="r")
    await store.enqueue_rollout(2, rollout_id="other")
    await store.cancel_rollouts(["r"])
    await store.delete_rollouts(["r"])

    await store.enqueue_rollout(1, rollout_id="r")

    assert await drain(store) == ["other", "r"]
    assert await drain(store) == []


async def test_deletion_of_a_reopened_rollout_removes_all_its_completions(store):
    await finished(store, "a", "b")
    await store.start_attempt("a")
    await store.update_rollout("a", status="failed")

    await store.delete_rollouts(["a"])

    assert [item.rollout_id for item in (await store.completions()).items] == ["b"]


async def test_deletion_of_many(store):
    created = await store.enqueue_many_rollouts(requests_for(range(200), group_id="g"))
    await store.cancel_rollouts(group_id="g")
    ids = [rollout.rollout_id for rollout in created]

    assert await store.delete_rollouts(ids[::-1]) == ids[::-1]

    assert await names(store) == []


# -- prune -------------------------------------------------------------------------------------------------------------


async def test_prune_by_age_removes_what_finished_longer_ago(store, clock):
    await finished(store, "old")
    clock.advance(5)
    await finished(store, "young")
    await store.enqueue_rollout(1, rollout_id="alive")
    clock.advance(5)

    assert await store.prune(older_than_seconds=7) == 1

    assert await names(store) == ["young", "alive"]
    assert await store.prune(older_than_seconds=7) == 0


async def test_prune_by_number_keeps_what_finished_last(store, clock):
    for name in "abcd":
        await store.enqueue_rollout(1, rollout_id=name)
    for name in "cadb":
        clock.advance(1)
        await store.update_rollout(name, status="succeeded")

    assert await store.prune(keep_latest=2) == 2

    assert sorted(await names(store)) == ["b", "d"]


async def test_prune_goes_by_the_last_finish(store, clock):
    await finished(store, "a", "b")
    clock.advance(5)
    await store.start_attempt("a")
    await store.update_rollout("a", status="failed")
    clock.advance(5)

    assert await store.prune(older_than_seconds=7) == 1
    assert await names(store) == ["a"]


async def test_prune_spares_what_was_reopened(store):
    await finished(store, "a")
    await store.start_attempt("a")

    assert await store.prune(keep_latest=0) == 0
    assert await status_of(store, "a") == "preparing"


async def test_prune_removes_when_either_limit_is_exceeded(store, clock):
    await finished(store, "a")
    clock.advance(10)
    await finished(store, "b", "c")

    assert await store.prune(older_than_seconds=5, keep_latest=1) == 2

    assert await names(store) == ["c"]


async def test_prune_of_all_and_of_nothing(store):
    assert await store.prune(keep_latest=0) == 0
    await finished(store, "a", "b", "c")
    assert await store.prune(keep_latest=3) == 0
    assert await store.prune(older_than_seconds=1000) == 0
    assert await store.prune(keep_latest=0) == 3
    assert await names(store) == []
    assert (await store.completions()).items == []


async def finish_in_turn(store, ends):
    """Rollouts named by letters, which finish in the order given with the status given."""
    for name in sorted(name for name, _ in ends):
        await store.enqueue_rollout(1, rollout_id=name)
    for name, status in ends:
        await store.update_rollout(name, status=status)


MIXED = [("e", "failed"), ("b", "succeeded"), ("a", "failed"), ("d", "cancelled"), ("c", "failed")]


@pytest.mark.parametrize(
    ("statuses", "left"),
    [
        (["failed"], "bd"),
        (["succeeded", "cancelled"], "ace"),
        (["succeeded", "failed", "cancelled"], ""),
        ([], "abcde"),
    ],
)
async def test_prune_by_status_alone_removes_all_of_it(store, statuses, left):
    await finish_in_turn(store, MIXED)
    await store.enqueue_rollout(1, rollout_id="x")

    assert await store.prune(status_in=statuses) == 5 - len(left)

    assert "".join(await names(store)) == left + "x"
    assert await store.prune(status_in=statuses) == 0


async def test_prune_by_number_and_status_keeps_so_many_of_that_status(store):
    """Others are neither removed nor counted."""
    await finish_in_turn(store, MIXED)

    assert await store.prune(status_in=["failed"], keep_latest=1) == 2

    assert await names(store) == ["b", "c", "d"]
    assert await store.prune(status_in=["failed"], keep_latest=1) == 0
    assert await store.prune(status_in=["failed", "succeeded"], keep_latest=1) == 1
    assert await names(store) == ["c", "d"]


async def test_prune_by_age_and_status(store, clock):
    await finish_in_turn(store, MIXED[:3])
    clock.advance(10)
    await finished(store, "f", status="failed")
    await finished(store, "s")

    assert await store.prune(status_in=["failed"], older_than_seconds=5) == 2

    assert await names(store) == ["b", "f", "s"]


async def test_prune_by_age_and_status_goes_by_the_finish_not_the_creation(store, clock):
    await store.enqueue_rollout(1, rollout_id="slow")
    await finished(store, "quick", status="failed")
    clock.advance(10)
    await store.update_rollout("slow", status="failed")

    assert await store.prune(status_in=["failed"], older_than_seconds=5) == 1

    assert await names(store) == ["slow"]


async def test_prune_of_what_is_consumed(store):
    await finish_in_turn(store, MIXED)
    places = [item.cursor for item in (await store.completions()).items]
    await store.enqueue_rollout(1, rollout_id="x")

    assert await store.prune(consumed_cursor=places[2]) == 3

    assert await names(store) == ["c", "d", "x"]
    assert await store.prune(consumed_cursor=places[2]) == 0
    assert await store.prune(consumed_cursor="99999999999999-0") == 2


async def test_prune_goes_by_the_last_completion_of_what_finished_twice(store):
    await finished(store, "a", "b")
    places = [item.cursor for item in (await store.completions()).items]
    await store.start_attempt("a")
    await store.update_rollout("a", status="failed")
    await store.start_attempt("b")

    assert await store.prune(consumed_cursor=places[1]) == 0
    assert await store.prune(consumed_cursor=places[1], keep_latest=0) == 0

    assert await names(store) == ["a", "b"]
    assert await store.prune(consumed_cursor=(await store.completions()).cursor) == 1


async def test_prune_by_number_counts_what_is_consumed_only(store):
    await finish_in_turn(store, MIXED)
    places = [item.cursor for item in (await store.completions()).items]

    assert await store.prune(consumed_cursor=places[3], keep_latest=1) == 3

    assert await names(store) == ["c", "d"]
    assert await store.prune(consumed_cursor=places[4], keep_latest=2) == 0


async def test_prune_by_everything_at_once(store, clock):
    await finish_in_turn(store, MIXED)
    clock.advance(10)
    await finished(store, "f", "g", "h", status="failed")
    places = {item.rollout_id: item.cursor for item in (await store.completions()).items}

    removed = await store.prune(status_in=["failed"], consumed_cursor=places["g"], older_than_seconds=5, keep_latest=1)

    assert removed == 4
    assert await names(store) == ["b", "d", "g", "h"]


async def test_prune_of_many(store):
    """More than any store removes in one step."""
    requests = requests_for(range(450), group_id="g")
    ids = [rollout.rollout_id for rollout in await store.enqueue_many_rollouts(requests)]
    await store.cancel_rollouts(ids)
    await store.update_rollout(ids[7], status="succeeded")
    assert await store.prune(status_in=["cancelled"], keep_latest=220) == 229
    assert await store.prune(keep_latest=210) == 11
    assert await names(store) == sorted([*ids[-209:], ids[7]], key=ids.index)
    assert await store.prune(status_in=["cancelled"]) == 209


@pytest.mark.parametrize("status", ["queuing", "requeuing", "preparing", "running", "none", ""])
async def test_prune_refuses_statuses_that_are_no_ends(store, status):
    await finished(store, "a")
    with pytest.raises(InvalidRequestError, match="status_in"):
        await store.prune(status_in=["succeeded", status])
    with pytest.raises(InvalidRequestError, match="status_in"):
        await store.prune(status_in=status, keep_latest=0)
    assert await names(store) == ["a"]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "older_than_seconds"),
        ({"older_than_seconds": -1}, "older_than_seconds"),
        ({"older_than_seconds": float("nan")}, "older_than_seconds"),
        ({"keep_latest": -1}, "keep_latest"),
        ({"older_than_seconds": 0, "keep_latest": -1}, "keep_latest"),
    ],
)
async def test_prune_needs_a_limit_that_is_not_negative(store, options, field):
    await finished(store, "a")
    with pytest.raises(InvalidRequestError, match=field):
        await store.prune(**options)
    assert await names(store) == ["a"]
