"""How far the readers of the completion log have got, kept by name."""

import pytest

from lightning_store.errors import InvalidRequestError


async def finish(store, *names):
    for name in names:
        await store.enqueue_rollout(name, rollout_id=name)
        await store.update_rollout(name, status="succeeded")


async def cursors(store):
    return [item.cursor for item in (await store.completions()).items]


async def places(store):
    return {consumer.name: consumer.cursor for consumer in await store.query_consumers()}


async def test_consumer_is_kept_with_the_cursor_that_it_acknowledged(store, clock):
    await finish(store, "a", "b", "c")
    first, second, _ = await cursors(store)

    consumer = await store.acknowledge_completions("trainer", second)

    assert (consumer.name, consumer.cursor, consumer.update_time) == ("trainer", second, clock.now())
    assert await store.query_consumers() == [consumer]
    assert [item.rollout_id for item in (await store.completions(consumer.cursor)).items] == ["c"]
    assert first != second


async def test_consumers_are_told_by_name(store):
    for name in ("b", "A", "a"):
        await store.acknowledge_completions(name)
    assert [consumer.name for consumer in await store.query_consumers()] == ["A", "a", "b"]


async def test_consumer_begins_before_the_first_completion_or_at_the_end(store):
    await finish(store, "a")
    await store.acknowledge_completions("all")
    await store.acknowledge_completions("new", "latest")
    await finish(store, "b")

    found = await places(store)

    assert [item.rollout_id for item in (await store.completions(found["all"])).items] == ["a", "b"]
    assert [item.rollout_id for item in (await store.completions(found["new"])).items] == ["b"]


async def test_cursor_goes_forward_only(store, clock):
    await finish(store, "a", "b")
    first, second = await cursors(store)
    stored = await store.acknowledge_completions("trainer", second)
    clock.advance(5)

    for earlier in (first, None, second):
        assert await store.acknowledge_completions("trainer", earlier) == stored

    await finish(store, "c")
    later = await store.acknowledge_completions("trainer", "latest")
    assert (later.cursor, later.update_time) == ((await cursors(store))[-1], clock.now())


async def test_cursor_that_the_log_has_not_reached_counts_as_its_end(store):
    await finish(store, "a")
    end = (await cursors(store))[-1]
    assert (await store.acknowledge_completions("trainer", "99999999999999-0")).cursor == end


async def test_cursor_of_a_deleted_completion_is_kept(store):
    await finish(store, "a", "b")
    last = (await cursors(store))[-1]
    await store.delete_rollouts(["a", "b"])
    assert (await store.acknowledge_completions("trainer", last)).cursor == last


async def test_forgotten_consumer_may_begin_anew(store):
    await finish(store, "a")
    await store.acknowledge_completions("trainer", "latest")
    await store.acknowledge_completions("other")

    assert await store.forget_consumer("trainer") is True
    assert await store.forget_consumer("trainer") is False
    assert await store.forget_consumer("{no name}") is False

    assert list(await places(store)) == ["other"]
    again = await store.acknowledge_completions("trainer")
    assert [item.rollout_id for item in (await store.completions(again.cursor)).items] == ["a"]


@pytest.mark.parametrize("name", ["", "a b", "{x}", "x\n", "x" * 129, None, 7])
async def test_consumer_needs_a_name(store, name):
    with pytest.raises(InvalidRequestError, match="consumer"):
        await store.acknowledge_completions(name)
    assert await store.query_consumers() == []


@pytest.mark.parametrize("cursor", ["", "0", "x-1", "1-1-1", "-1-0", "1 - 1", "٣-٣", "9" * 21 + "-0", 7, b"1-1"])
async def test_what_is_no_cursor_is_refused(store, cursor):
    with pytest.raises(InvalidRequestError, match="cursor"):
        await store.acknowledge_completions("trainer", cursor)
    with pytest.raises(InvalidRequestError, match="consumed_cursor"):
        await store.prune(consumed_cursor=cursor)
    assert await store.query_consumers() == []
