"""Sizes of free-form values: what is too large is refused, named, and nothing is written."""

import json

import pytest

from lightning_store.errors import InvalidRequestError
from lightning_store.records import LLM
from tests.support.factories import make_span, requests_for, span_of

LIMIT = 2000
SMALL = {
    "max_task_bytes": LIMIT,
    "max_span_bytes": LIMIT,
    "max_resources_bytes": LIMIT,
    "max_metadata_bytes": LIMIT,
}
LARGE = "x" * LIMIT
LARGE_METADATA = {"note": LARGE}


def size_of(value):
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def refused(field, value, setting):
    return pytest.raises(
        InvalidRequestError, match=rf"^{field}: {size_of(value)} bytes of JSON, .* 2000 \({setting}\)$"
    )


@pytest.fixture
def store(make_store):
    return make_store(**SMALL)


async def contents(store):
    """All that could have been written."""
    rollouts = await store.query_rollouts()
    attempts = [list(await store.query_attempts(rollout.rollout_id)) for rollout in rollouts]
    spans = await store.query_many_spans([rollout.rollout_id for rollout in rollouts])
    stats = await store.statistics()
    stats.pop("uptime")
    return list(rollouts), attempts, spans, list(await store.query_workers()), stats


async def test_task_of_exactly_the_limit_is_taken(store):
    task = "x" * (LIMIT - 2)
    assert (await store.enqueue_rollout(task)).input == task
    with refused("input", task + "x", "max_task_bytes"):
        await store.enqueue_rollout(task + "x")


async def test_size_is_that_of_the_text_in_utf8_before_compression(store):
    with refused("input", "ü" * 1000, "max_task_bytes"):
        await store.enqueue_rollout("ü" * 1000)
    assert (await store.enqueue_rollout("ü" * 999)).input == "ü" * 999


async def test_large_task_or_metadata_is_refused_wherever_it_comes(store):
    queued = await store.enqueue_rollout("task")
    started = await store.start_rollout("task")
    before = await contents(store)
    with refused("input", LARGE, "max_task_bytes"):
        await store.start_rollout(LARGE)
    with refused("metadata", LARGE_METADATA, "max_metadata_bytes"):
        await store.start_rollout("task", metadata=LARGE_METADATA)
    with refused("metadata", LARGE_METADATA, "max_metadata_bytes"):
        await store.enqueue_rollout("task", metadata=LARGE_METADATA)
    with refused("input", LARGE, "max_task_bytes"):
        await store.update_rollout(queued.rollout_id, input=LARGE, status="failed")
    with refused("metadata", LARGE_METADATA, "max_metadata_bytes"):
        await store.update_rollout(queued.rollout_id, metadata=LARGE_METADATA, status="failed")
    with refused("metadata", LARGE_METADATA, "max_metadata_bytes"):
        await store.update_attempt(started.rollout_id, "latest", status="failed", metadata=LARGE_METADATA)
    assert await contents(store) == before


async def test_one_large_task_refuses_the_whole_bulk_and_is_named(store):
    with refused(r"rollouts\[2\]\.input", LARGE, "max_task_bytes"):
        await store.enqueue_many_rollouts(requests_for(["a", "b", LARGE, "c"]))
    with refused(r"rollouts\[1\]\.metadata", LARGE_METADATA, "max_metadata_bytes"):
        await store.enqueue_many_rollouts([*requests_for("a"), *requests_for("b", metadata=LARGE_METADATA)])
    assert list(await store.query_rollouts()) == []


async def test_one_large_span_refuses_the_whole_call_and_is_named(store):
    started = await store.start_rollout("task")
    other = await store.start_rollout("other")
    before = await contents(store)
    large = span_of(started, name="thought", attributes={"text": LARGE})
    with pytest.raises(
        InvalidRequestError, match=rf"^spans\[2\] \('thought', span_id {large.span_id}\): \d+ bytes .* 2000 \(max_span_"
    ):
        await store.add_many_spans([span_of(other), span_of(started), large])
    assert await contents(store) == before


async def test_span_of_a_rollout_that_does_not_exist_is_too_large_first(store):
    with pytest.raises(InvalidRequestError, match=r"spans\[0\]"):
        await store.add_span(make_span("ro-unknown", "at-unknown", attributes={"text": LARGE}))


async def test_large_resources_are_refused(store):
    first = await store.add_resources({"llm": LLM(endpoint="http://localhost", model="m")})
    large = {"llm": LLM(endpoint="http://localhost", model=LARGE)}
    for call in (store.add_resources(large), store.update_resources(first.resources_id, large)):
        with pytest.raises(
            InvalidRequestError, match=r"^resources: \d+ bytes of JSON, .* 2000 \(max_resources_bytes\)$"
        ):
            await call
    assert list(await store.query_resources()) == [first]


async def test_large_stats_of_heartbeats_are_refused(store):
    started = await store.start_rollout("task", worker_id="w", lease_seconds=60)
    before = await contents(store)
    with refused("heartbeat_stats", LARGE_METADATA, "max_metadata_bytes"):
        await store.update_worker("w", LARGE_METADATA)
    with refused("stats", LARGE_METADATA, "max_metadata_bytes"):
        await store.renew("w", [(started.rollout_id, started.attempt.attempt_id)], LARGE_METADATA)
    assert await contents(store) == before


async def test_none_is_no_limit(make_store):
    store = make_store(**dict.fromkeys(SMALL))
    large = "x" * (17 << 20)
    assert (await store.enqueue_rollout(large, metadata={"note": "y" * (2 << 20)})).rollout_id


async def test_limits_by_default_are_16_mib_and_1_mib_for_metadata(store, make_store):
    store = make_store()
    with pytest.raises(InvalidRequestError, match=r"16777217 bytes of JSON, expected at most 16777216"):
        await store.enqueue_rollout("x" * ((16 << 20) - 1))
    with pytest.raises(InvalidRequestError, match=r"expected at most 1048576 \(max_metadata_bytes\)"):
        await store.enqueue_rollout("task", metadata={"note": "x" * (1 << 20)})


@pytest.mark.parametrize("setting", SMALL)
@pytest.mark.parametrize("limit", [0, -1, 1023, 2000.0, True, "2000"])
async def test_limits_are_integers_of_at_least_1024(make_store, setting, limit):
    with pytest.raises(InvalidRequestError, match=f"^{setting}: expected an integer of at least 1024"):
        make_store(**{setting: limit})
