"""One call for many rollouts: section 2 of the issue."""

import pytest

from lightning_store.errors import InvalidRequestError
from tests.support.factories import rich_span, span_of


async def numbers(store, ids, *args):
    found = await store.query_many_spans(ids, *args)
    return {rollout_id: [span.sequence_id for span in spans] for rollout_id, spans in found.items()}


async def test_spans_of_many_rollouts_in_one_call(store):
    first, second, silent = [await store.start_rollout(n) for n in range(3)]
    await store.add_many_spans([span_of(first, sequence_id=n) for n in (3, 1, 2)])
    await store.add_many_spans([span_of(second, sequence_id=7)])
    ids = [second.rollout_id, "unknown", silent.rollout_id, first.rollout_id]

    found = await numbers(store, ids)

    assert found == {second.rollout_id: [7], "unknown": [], silent.rollout_id: [], first.rollout_id: [1, 2, 3]}
    assert list(found) == ids


async def test_equal_numbers_keep_the_order_of_storing(store):
    started = await store.start_rollout("task")
    await store.add_many_spans([span_of(started, name=name, sequence_id=1) for name in "cab"])

    found = await store.query_many_spans([started.rollout_id])

    assert [span.name for span in found[started.rollout_id]] == ["c", "a", "b"]


async def test_spans_come_whole(store):
    started = await store.start_rollout("task")
    span = rich_span(started.rollout_id, started.attempt.attempt_id)
    await store.add_span(span)

    assert (await store.query_many_spans([started.rollout_id]))[started.rollout_id] == [span]


async def test_latest_selects_the_latest_attempt_of_each(store):
    first, other = await store.start_rollout(1), await store.start_rollout(2)
    second = await store.start_attempt(first.rollout_id)
    await store.add_many_spans([span_of(first, sequence_id=1), span_of(second, sequence_id=2)])
    await store.add_span(span_of(other, sequence_id=3))
    queued = await store.enqueue_rollout("task")
    ids = [first.rollout_id, other.rollout_id, queued.rollout_id]

    assert await numbers(store, ids, "latest") == dict(zip(ids, ([2], [3], []), strict=True))
    assert await numbers(store, ids, first.attempt.attempt_id) == dict(zip(ids, ([1], [], []), strict=True))


async def test_rollout_asked_for_twice_appears_once(store):
    started = await store.start_rollout("task")
    await store.add_span(span_of(started, sequence_id=1))

    assert await numbers(store, [started.rollout_id] * 2) == {started.rollout_id: [1]}


async def test_nothing_asked_for_is_nothing(store):
    assert await store.query_many_spans([]) == {}
    assert await store.rewards([]) == {}


async def test_many_rollouts_with_many_spans(store):
    rollouts = [await store.start_rollout(n) for n in range(12)]
    await store.add_many_spans([span_of(r, sequence_id=n) for n in range(10) for r in rollouts])

    found = await numbers(store, [rollout.rollout_id for rollout in rollouts])

    assert list(found.values()) == [list(range(10))] * 12


async def test_changing_an_answer_does_not_change_the_store(store):
    started = await store.start_rollout("task")
    await store.add_span(span_of(started, attributes={"list": [1]}))
    answer = await store.query_many_spans([started.rollout_id])
    answer[started.rollout_id][0].attributes["list"].append(2)

    stored = await store.query_many_spans([started.rollout_id])
    assert stored[started.rollout_id][0].attributes == {"list": [1]}


@pytest.mark.parametrize("call", ["query_many_spans", "rewards", "delete_rollouts"])
async def test_lone_text_is_no_sequence_of_ids(store, call):
    with pytest.raises(InvalidRequestError, match="rollout_ids"):
        await getattr(store, call)("ro-1")
