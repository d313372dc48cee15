"""Storing and reading spans, and spans as signs of life: sections 1.4, 2.6 and 3.5, rules 8 and 9."""

import logging

import pytest

from lightning_store.errors import AttemptNotFoundError, InvalidRequestError, RolloutNotFoundError
from lightning_store.records import RolloutConfig
from lightning_store.spans import Span
from tests.support.factories import attempt_of, claim, drain, make_span, rich_span, span_of, status_of

RETRY = RolloutConfig(max_attempts=3, retry_condition=["failed", "timeout", "unresponsive"])


async def end(store, rollout, status):
    await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, status=status)


async def sequence_ids(store, rollout_id, *args, **filters):
    return [span.sequence_id for span in await store.query_spans(rollout_id, *args, **filters)]


# -- storing -----------------------------------------------------------------------------------------------------------


async def test_add_span_answers_the_very_object_and_keeps_it_whole(store):
    started = await store.start_rollout("task")
    span = rich_span(started.rollout_id, started.attempt.attempt_id, sequence_id=3)
    before = span.model_dump()

    assert await store.add_span(span) is span

    assert span.model_dump() == before
    page = await store.query_spans(started.rollout_id)
    assert [type(stored) for stored in page] == [Span]
    assert page[0].model_dump() == before


async def test_unknown_fields_are_kept_on_every_level(store):
    started = await store.start_rollout("task")
    await store.add_span(rich_span(started.rollout_id, started.attempt.attempt_id))

    stored = (await store.query_spans(started.rollout_id))[0]

    assert stored.model_extra == {
        "kind": "INTERNAL",
        "instrumentation": {"name": "tests", "versions": [1, 2.0, None], "nothing": {}},
    }
    assert stored.status.model_extra == {"origin": "agent"}
    assert stored.events[0].model_extra == {"dropped": 3}
    assert stored.links[0].model_extra == {"weight": 0.5}
    assert stored.context.model_extra == {"trace_flags": 1}
    assert stored.resource.model_extra == {"host": {"cores": 2}}


async def test_fields_that_may_be_null_stay_null(store):
    started = await store.start_rollout("task")
    await store.add_span(span_of(started, start_time=None, end_time=None))

    stored = (await store.query_spans(started.rollout_id))[0]

    assert (stored.parent_id, stored.start_time, stored.end_time) == (None, None, None)
    assert (stored.context, stored.parent, stored.status.description) == (None, None, None)


async def test_duplicate_is_answered_with_none_and_logged_as_an_error(store, caplog):
    started = await store.start_rollout("task")
    await store.add_span(span_of(started, span_id="s", name="first"))

    with caplog.at_level(logging.ERROR):
        assert await store.add_span(span_of(started, span_id="s", name="second")) is None

    assert [span.name for span in await store.query_spans(started.rollout_id)] == ["first"]
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(messages) == 1
    assert "Duplicated span added" in messages[0]


async def test_same_span_id_in_another_attempt_or_rollout_is_another_span(store):
    first, other = await store.start_rollout(1), await store.start_rollout(2)
    second = await store.start_attempt(first.rollout_id)

    for attempted in (first, second, other):
        assert await store.add_span(span_of(attempted, span_id="s")) is not None

    assert (await store.query_spans(first.rollout_id)).total == 2
    assert (await store.query_spans(first.rollout_id, first.attempt.attempt_id)).total == 1
    assert (await store.query_spans(other.rollout_id)).total == 1


async def test_rollout_then_attempt_must_exist(store):
    queued, started = await store.enqueue_rollout(1), await store.start_rollout(2)

    with pytest.raises(RolloutNotFoundError, match="Rollout ro-unknown not found"):
        await store.add_span(make_span("ro-unknown", "at-unknown"))
    for rollout_id in (queued.rollout_id, started.rollout_id):
        with pytest.raises(AttemptNotFoundError, match="Attempt at-unknown not found"):
            await store.add_span(make_span(rollout_id, "at-unknown"))

    assert (await store.statistics())["total_spans"] == 0
    assert (await store.get_rollout_by_id(started.rollout_id)) == started


async def test_latest_is_no_attempt_to_store_spans_for(store):
    started = await store.start_rollout("task")
    with pytest.raises(AttemptNotFoundError):
        await store.add_span(make_span(started.rollout_id, "latest"))


async def test_bulk_answers_the_spans_stored_without_duplicates(store, caplog):
    first, other = await store.start_rollout(1), await store.start_rollout(2)
    await store.add_span(span_of(first, span_id="known"))
    fresh = [span_of(first, span_id="a"), span_of(other, span_id="a"), span_of(first, span_id="b")]
    repeated = [span_of(first, span_id="known"), span_of(first, span_id="a")]

    stored = await store.add_many_spans([fresh[0], repeated[0], fresh[1], repeated[1], fresh[2]])

    assert isinstance(stored, list)
    assert {id(span) for span in stored} == {id(span) for span in fresh}
    assert len(stored) == 3
    assert [span.span_id for span in await store.query_spans(first.rollout_id)] == ["known", "a", "b"]
    assert (await store.query_spans(other.rollout_id)).total == 1
    assert sum("Duplicated span added" in record.getMessage() for record in caplog.records) == 2


@pytest.mark.parametrize("renumber", [False, True])
async def test_very_same_object_twice_is_stored_once(store, renumber):
    started = await store.start_rollout("task")
    span = span_of(started)

    stored = await store.add_many_spans([span, span], renumber=renumber)

    assert [answer.span_id for answer in stored] == [span.span_id]
    assert (await store.query_spans(started.rollout_id)).total == 1


async def test_bulk_of_nothing_is_empty(store):
    assert await store.add_many_spans([]) == []


@pytest.mark.parametrize("unknown", [("ro-unknown", "at-1"), (None, "at-unknown")])
async def test_unknown_group_raises_and_the_other_groups_are_stored(store, unknown):
    before, after = await store.start_rollout(1), await store.start_rollout(2)
    bad = make_span(unknown[0] or before.rollout_id, unknown[1])
    expected = RolloutNotFoundError if unknown[0] else AttemptNotFoundError

    with pytest.raises(expected, match=unknown[0] or unknown[1]):
        await store.add_many_spans([span_of(before), bad, span_of(after), span_of(before)])

    assert (await store.query_spans(before.rollout_id)).total == 2
    assert (await store.query_spans(after.rollout_id)).total == 1
    assert (await store.statistics())["total_spans"] == 3


async def test_changing_a_span_afterwards_does_not_change_the_store(store):
    started = await store.start_rollout("task")
    span = span_of(started, attributes={"list": [1]})
    await store.add_span(span)
    span.attributes["list"].append(2)
    answer = (await store.query_spans(started.rollout_id))[0]
    answer.attributes["list"].append(3)
    answer.name = "changed"

    stored = (await store.query_spans(started.rollout_id))[0]

    assert (stored.attributes, stored.name) == ({"list": [1]}, "step")


async def test_span_id_that_is_no_text_is_refused(store):
    started = await store.start_rollout(input={})

    with pytest.raises(InvalidRequestError, match="span_id"):
        await store.add_many_spans([span_of(started), span_of(started, span_id="a\ud800")])

    assert await sequence_ids(store, started.rollout_id) == []


async def test_sequence_id_is_bounded(store):
    started = await store.start_rollout("task")
    await store.add_span(span_of(started, sequence_id=2**63 - 1))

    with pytest.raises(InvalidRequestError, match="sequence_id"):
        await store.add_span(span_of(started, sequence_id=2**63))

    assert await sequence_ids(store, started.rollout_id) == [2**63 - 1]


# -- sequence numbers --------------------------------------------------------------------------------------------------


async def test_numbers_start_at_one_and_are_shared_by_the_attempts_of_a_rollout(store):
    first, other = await store.start_rollout(1), await store.start_rollout(2)
    second = await store.start_attempt(first.rollout_id)
    pairs = [(rollout.rollout_id, rollout.attempt.attempt_id) for rollout in (first, second, first, other)]

    assert [await store.get_next_span_sequence_id(*pair) for pair in pairs] == [1, 2, 3, 1]


async def test_numbers_for_many_come_in_the_order_of_the_request(store):
    a, b = await store.start_rollout(1), await store.start_rollout(2)
    pairs = [(rollout.rollout_id, rollout.attempt.attempt_id) for rollout in (a, b, a, a, b)]

    numbers = await store.get_many_span_sequence_ids(pairs)

    assert isinstance(numbers, list)
    assert numbers == [1, 1, 2, 3, 2]
    assert await store.get_many_span_sequence_ids([]) == []


async def test_number_for_an_unknown_attempt_is_handed_out(store):
    queued = await store.enqueue_rollout("task")

    assert await store.get_next_span_sequence_id(queued.rollout_id, "at-unknown") == 1
    assert await store.get_many_span_sequence_ids([(queued.rollout_id, ""), (queued.rollout_id, "x")]) == [2, 3]


async def test_number_for_an_unknown_rollout_is_an_error(store):
    known = await store.start_rollout("task")

    with pytest.raises(RolloutNotFoundError, match="ro-unknown"):
        await store.get_next_span_sequence_id("ro-unknown", "at-1")
    with pytest.raises(RolloutNotFoundError, match="ro-unknown"):
        await store.get_many_span_sequence_ids([(known.rollout_id, "x"), ("ro-unknown", "x")])

    assert await store.get_next_span_sequence_id(known.rollout_id, "x") == 1


async def test_explicit_number_raises_the_counter_if_it_is_higher(store):
    started = await store.start_rollout("task")
    for explicit in (5, 2, 5, 0):
        await store.add_span(span_of(started, sequence_id=explicit))

    assert await sequence_ids(store, started.rollout_id) == [0, 2, 5, 5]
    assert await store.get_next_span_sequence_id(started.rollout_id, started.attempt.attempt_id) == 6


async def test_counter_stays_exact_beyond_what_floats_hold(store):
    started = await store.start_rollout("task")
    await store.add_span(span_of(started, sequence_id=2**53 + 1))

    assert await store.get_next_span_sequence_id(started.rollout_id, "x") == 2**53 + 2
    assert await store.get_many_span_sequence_ids([(started.rollout_id, "x")] * 2) == [2**53 + 3, 2**53 + 4]
    renumbered = await store.add_many_spans([span_of(started)], renumber=True)
    assert [span.sequence_id for span in renumbered] == [2**53 + 5]
    assert await sequence_ids(store, started.rollout_id) == [2**53 + 1, 2**53 + 5]


async def test_renumbering_gives_new_spans_the_next_numbers_in_order(store):
    started, other = await store.start_rollout(1), await store.start_rollout(2)
    await store.add_span(span_of(started, span_id="known", sequence_id=1))
    spans = [
        span_of(started, span_id="a", sequence_id=70),
        span_of(started, span_id="known", sequence_id=70),
        span_of(other, span_id="b", sequence_id=70),
        span_of(started, span_id="c", sequence_id=70),
        span_of(started, span_id="a", sequence_id=70),
        span_of(started, span_id="d", sequence_id=0),
    ]

    stored = await store.add_many_spans(spans, renumber=True)

    numbers = {(span.rollout_id, span.span_id): span.sequence_id for span in stored}
    mine, theirs = started.rollout_id, other.rollout_id
    assert numbers == {(mine, "a"): 2, (mine, "c"): 3, (mine, "d"): 4, (theirs, "b"): 1}
    assert [span.sequence_id for span in spans] == [70, 70, 70, 70, 70, 0]
    assert await sequence_ids(store, started.rollout_id) == [1, 2, 3, 4]
    assert await store.get_next_span_sequence_id(started.rollout_id, "x") == 5


async def test_renumbered_spans_of_several_attempts_share_the_counter(store):
    first = await store.start_rollout(1)
    second = await store.start_attempt(first.rollout_id)

    stored = await store.add_many_spans([span_of(first), span_of(second), span_of(first)], renumber=True)

    assert sorted(span.sequence_id for span in stored) == [1, 2, 3]
    assert (await store.query_spans(first.rollout_id, second.attempt.attempt_id)).total == 1


# -- signs of life -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("preparing", "running"),
        ("running", "running"),
        ("succeeded", "succeeded"),
        ("failed", "failed"),
        ("timeout", "timeout"),
        ("unresponsive", "running"),
    ],
)
@pytest.mark.parametrize("is_latest", [True, False])
async def test_span_is_a_heartbeat_and_wakes_attempts_that_can_live(store, clock, before, after, is_latest):
    started = await store.start_rollout("task", config=RETRY)
    await end(store, started, before)
    if not is_latest:
        await store.start_attempt(started.rollout_id)
    clock.advance(3)

    await store.add_span(span_of(started))

    attempt = await attempt_of(store, started.rollout_id, 1)
    assert (attempt.status, attempt.last_heartbeat_time) == (after, clock.now())
    assert (attempt.cause is None) == (after == "running")


async def test_first_span_sets_its_rollout_running(store):
    await store.enqueue_rollout("task")
    claimed = await claim(store)

    await store.add_span(span_of(claimed))

    assert await status_of(store, claimed.rollout_id) == "running"


async def test_revived_attempt_takes_its_requeued_rollout_out_of_the_queue(store):
    started = await store.start_rollout("task", config=RETRY)
    await end(store, started, "unresponsive")
    assert await status_of(store, started.rollout_id) == "requeuing"

    await store.add_span(span_of(started))

    rollout = await store.get_rollout_by_id(started.rollout_id)
    assert (rollout.status, rollout.attempt.status, rollout.attempt.cause) == ("running", "running", None)
    assert await drain(store) == []


@pytest.mark.parametrize("ended", ["failed", "timeout"])
async def test_late_span_of_an_ended_attempt_does_not_void_the_retry(store, ended):
    started = await store.start_rollout("task", config=RETRY)
    await end(store, started, ended)

    await store.add_span(span_of(started))

    assert await status_of(store, started.rollout_id) == "requeuing"
    assert await drain(store) == [started.rollout_id]


@pytest.mark.parametrize("attempt_status", ["preparing", "running", "unresponsive"])
async def test_span_of_a_living_latest_attempt_runs_a_queuing_rollout(store, attempt_status):
    started = await store.start_rollout("task", config=RETRY)
    await end(store, started, attempt_status)
    await store.update_rollout(started.rollout_id, status="queuing")

    await store.add_span(span_of(started))

    assert await status_of(store, started.rollout_id) == "running"
    assert await drain(store) == []


@pytest.mark.parametrize("ended", ["succeeded", "failed", "timeout"])
async def test_span_of_an_ended_latest_attempt_leaves_a_queuing_rollout(store, ended):
    started = await store.start_rollout("task", config=RETRY)
    await end(store, started, ended)
    await store.update_rollout(started.rollout_id, status="queuing")

    await store.add_span(span_of(started))

    assert await status_of(store, started.rollout_id) == "queuing"
    assert await drain(store) == [started.rollout_id]


@pytest.mark.parametrize("finished", ["succeeded", "failed", "cancelled"])
async def test_finished_rollout_stays_finished_with_its_end_time(store, clock, finished):
    started = await store.start_rollout("task")
    ended = await store.update_rollout(started.rollout_id, status=finished)
    clock.advance(2)

    await store.add_span(span_of(started))

    rollout = await store.get_rollout_by_id(started.rollout_id)
    assert (rollout.status, rollout.end_time) == (finished, ended.end_time)
    assert rollout.attempt.status == "running"


async def test_old_attempt_runs_on_but_the_rollout_follows_the_new_one(store, clock):
    started = await store.start_rollout("task", config=RETRY)
    await end(store, started, "unresponsive")
    second = await claim(store)
    clock.advance(1)

    await store.add_span(span_of(started))

    assert (await attempt_of(store, started.rollout_id, 1)).status == "running"
    assert await store.get_rollout_by_id(started.rollout_id) == second


async def test_span_of_an_older_attempt_does_not_take_the_rollout_out_of_the_queue(store):
    started = await store.start_rollout("task", config=RETRY)
    second = await store.start_attempt(started.rollout_id)
    await end(store, second, "failed")

    await store.add_span(span_of(started))

    assert await status_of(store, started.rollout_id) == "requeuing"
    assert await drain(store) == [started.rollout_id]


async def test_duplicate_is_no_sign_of_life(store, clock):
    started = await store.start_rollout("task", config=RETRY)
    await store.add_span(span_of(started, span_id="s"))
    await end(store, started, "unresponsive")
    before = await store.get_rollout_by_id(started.rollout_id)
    clock.advance(1)

    await store.add_span(span_of(started, span_id="s"))
    await store.add_many_spans([span_of(started, span_id="s")], renumber=True)

    assert await store.get_rollout_by_id(started.rollout_id) == before
    assert await drain(store) == [started.rollout_id]


async def test_spans_never_touch_workers(store, clock):
    started = await store.start_rollout("task", config=RETRY, worker_id="w")
    await end(store, started, "unresponsive")
    before = await store.get_worker_by_id("w")
    clock.advance(1)

    await store.add_span(span_of(started))

    assert await store.get_worker_by_id("w") == before


async def test_bulk_with_several_attempts_wakes_each(store, clock):
    rollouts = [await store.start_rollout(n) for n in range(3)]
    clock.advance(1)

    await store.add_many_spans([span_of(rollout) for rollout in rollouts])

    for rollout in rollouts:
        attempt = await store.get_latest_attempt(rollout.rollout_id)
        assert (attempt.status, attempt.last_heartbeat_time) == ("running", clock.now())


# -- reading -----------------------------------------------------------------------------------------------------------


async def test_spans_come_by_number_and_equal_numbers_in_order_of_storing(store):
    started = await store.start_rollout("task")
    for name, number in [("c", 3), ("a1", 1), ("b", 2), ("a2", 1), ("a3", 1)]:
        await store.add_span(span_of(started, name=name, sequence_id=number))

    assert [span.name for span in await store.query_spans(started.rollout_id)] == ["a1", "a2", "a3", "b", "c"]
    descending = await store.query_spans(started.rollout_id, sort_order="desc")
    assert [span.name for span in descending] == ["c", "b", "a1", "a2", "a3"]
    as_stored = await store.query_spans(started.rollout_id, sort_by=None)
    assert [span.name for span in as_stored] == ["c", "a1", "b", "a2", "a3"]


async def test_numbers_sort_by_value_even_when_they_are_big(store):
    started = await store.start_rollout("task")
    numbers = [2**53 + 1, 10, 2**53, 9, 100, 2**62]
    await store.add_many_spans([span_of(started, sequence_id=number) for number in numbers])

    assert await sequence_ids(store, started.rollout_id) == sorted(numbers)


async def test_attempt_id_selects_one_attempt_or_the_latest(store):
    first = await store.start_rollout("task")
    second = await store.start_attempt(first.rollout_id)
    await store.add_many_spans([span_of(first, sequence_id=1), span_of(second, sequence_id=2)])
    rollout_id = first.rollout_id

    assert await sequence_ids(store, rollout_id) == [1, 2]
    assert await sequence_ids(store, rollout_id, first.attempt.attempt_id) == [1]
    assert await sequence_ids(store, rollout_id, "latest") == [2]
    assert await sequence_ids(store, rollout_id, first.attempt.attempt_id, filter_logic="or", name="step") == [1]
    assert await sequence_ids(store, rollout_id, "at-unknown") == []


async def test_latest_attempt_without_spans_has_none(store):
    first = await store.start_rollout("task")
    await store.add_span(span_of(first))
    await store.start_attempt(first.rollout_id)

    assert await sequence_ids(store, first.rollout_id, "latest") == []


@pytest.mark.parametrize("attempt_id", [None, "latest", "at-unknown"])
async def test_unknown_rollout_or_no_attempt_yet_is_empty(store, attempt_id):
    queued = await store.enqueue_rollout("task")

    for rollout_id in ("ro-unknown", queued.rollout_id):
        page = await store.query_spans(rollout_id, attempt_id)
        assert (list(page), page.total) == ([], 0)
