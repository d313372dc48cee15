"""Names, sizes and kinds of arguments: rule 4, section 3's errors, and "bad input" of the architecture."""

import math

import pytest
from pydantic import ValidationError

from lightning_store.errors import InvalidRequestError, LightningStoreError, RolloutNotFoundError
from lightning_store.records import EnqueueRolloutRequest, RolloutConfig
from tests.support.factories import drain, make_span, requests_for

BAD_NAMES = ["", "a b", "a/b", "a:b", "{a}", "ä", "a\n", "a\x00", "*", "a" * 129, "\ud800"]
GOOD_NAMES = ["a", "A.b_c-9", "0", "-", ".", "..", "a" * 128, "queue", "latest", "None", "rollout.1"]
BAD_FREE_IDS = ["a\nb", "\x00", "\x7f", "\x85", "a" * 513, "ä" * 257, "\ud800"]


async def snapshot(store):
    """All that can be seen of a store."""
    counts = {key: value for key, value in (await store.statistics()).items() if key.startswith(("total", "rollouts"))}
    pages = [
        (await query()).model_dump()
        for query in (store.query_rollouts, store.query_workers, store.query_resources)
    ]  # fmt: skip
    return counts, pages, await store.query_queues(), await store.completions(), await store.query_events(limit=-1)


async def refused(store, call, field, error=InvalidRequestError):
    """Assert that a call is refused with an error that names the field, if given; `used_store` looks for traces."""
    with pytest.raises(error, match=field) as caught:
        await call()
    assert isinstance(caught.value, ValueError)


@pytest.fixture
async def used_store(store):
    """One rollout in the queue, one started, one worker, one snapshot of resources; the test must change none."""
    await store.enqueue_rollout("queued", rollout_id="queued")
    await store.start_rollout("started", rollout_id="started", worker_id="w")
    await store.update_resources("rs", {})
    before = await snapshot(store)
    yield store
    assert await snapshot(store) == before, "a refused call, or a reading one, has written something"


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
async def test_bad_names_of_rollouts_and_queues_are_refused(used_store, name):
    store = used_store
    await refused(store, lambda: store.enqueue_rollout(1, rollout_id=name), "rollout_id")
    await refused(store, lambda: store.start_rollout(1, rollout_id=name), "rollout_id")
    await refused(store, lambda: store.enqueue_rollout(1, queue=name), "queue")
    await refused(store, lambda: store.start_rollout(1, queue=name), "queue")
    await refused(store, lambda: store.dequeue_rollout("v", queues=[name]), "queues")
    await refused(store, lambda: store.dequeue_many_rollouts(queues=["default", name]), "queues")


@pytest.mark.parametrize("name", GOOD_NAMES)
async def test_good_names_are_taken(store, name):
    rollout = await store.enqueue_rollout(1, rollout_id=name, queue=name)

    assert (await store.get_rollout_by_id(name)) == rollout
    assert await drain(store, queues=[name]) == [name]


@pytest.mark.parametrize("name", [*BAD_NAMES, "unknown"], ids=ascii)
async def test_reading_other_names_finds_nothing(used_store, name):
    store = used_store
    assert await store.get_rollout_by_id(name) is None
    assert await store.get_latest_attempt(name) is None
    assert (await store.query_attempts(name)).total == 0
    assert (await store.query_spans(name)).total == 0
    assert await store.query_many_spans([name]) == {name: []}
    assert await store.rewards([name]) == {name: None}
    assert await store.wait_for_rollouts(rollout_ids=[name], timeout=None) == []
    assert (await store.query_rollouts(rollout_id_in=[name])).total == 0
    assert await store.query_events(rollout_id=name) == []
    assert await store.cancel_rollouts([name]) == []
    assert await store.delete_rollouts([name]) == []
    assert await store.get_worker_by_id(name) is None
    assert await store.get_resources_by_id(name) is None


@pytest.mark.parametrize("name", [*BAD_NAMES, "unknown"], ids=ascii)
async def test_renewing_other_names_finds_nothing(store, name):
    await store.start_rollout("task", rollout_id="started", worker_id="w")
    assert await store.renew("w", [(name, "at"), ("started", name)]) == ["unknown", "unknown"]


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
async def test_changing_other_names_finds_nothing(used_store, name):
    store = used_store
    for call in (
        lambda: store.update_rollout(name, mode="train"),
        lambda: store.update_attempt(name, "latest", status="failed"),
        lambda: store.start_attempt(name),
        lambda: store.release_attempt(name, "at"),
        lambda: store.get_next_span_sequence_id(name, "at"),
    ):
        await refused(store, call, None, RolloutNotFoundError)


@pytest.mark.parametrize("name", ["a:b", "{started}", "started:at", "\x00", "a" * 600, ""], ids=ascii)
async def test_spans_of_other_names_find_nothing(used_store, name):
    await refused(used_store, lambda: used_store.add_span(make_span(name, "at")), "not found", RolloutNotFoundError)
    await refused(used_store, lambda: used_store.add_span(make_span("started", name)), "not found", LightningStoreError)


@pytest.mark.parametrize("name", BAD_FREE_IDS, ids=lambda name: ascii(name[:8]))
async def test_bad_worker_resources_and_group_ids_are_refused(used_store, name):
    store = used_store
    await refused(store, lambda: store.update_worker(name), "worker_id")
    await refused(store, lambda: store.dequeue_rollout(name), "worker_id")
    await refused(store, lambda: store.start_rollout(1, worker_id=name), "worker_id")
    await refused(store, lambda: store.start_attempt("queued", name), "worker_id")
    await refused(store, lambda: store.update_attempt("started", "latest", worker_id=name), "worker_id")
    await refused(store, lambda: store.renew(name, []), "worker_id")
    await refused(store, lambda: store.update_resources(name, {}), "resources_id")
    await refused(store, lambda: store.update_attempt("started", "latest", resources_id=name), "resources_id")
    await refused(store, lambda: store.update_rollout("queued", resources_id=name), "resources_id")
    try:
        request = EnqueueRolloutRequest(input=1, resources_id=name)
    except ValidationError:
        return  # the model itself refuses lone surrogates
    await refused(store, lambda: store.enqueue_many_rollouts([request]), "resources_id")
    await refused(store, lambda: store.enqueue_rollout(1, group_id=name), "group_id")


@pytest.mark.parametrize("call", ["update_worker", "update_resources", "renew"])
async def test_empty_ids_are_refused_where_one_is_needed(used_store, call):
    store = used_store
    calls = {
        "update_worker": lambda: store.update_worker(""),
        "update_resources": lambda: store.update_resources("", {}),
        "renew": lambda: store.renew("", []),
    }
    await refused(store, calls[call], "_id")


# -- kinds and bounds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lease", [0, -1, math.nan, math.inf, "5", True])
async def test_lease_is_a_positive_finite_number(used_store, lease):
    store = used_store
    await refused(store, lambda: store.start_rollout(1, lease_seconds=lease), "lease_seconds")
    await refused(store, lambda: store.start_attempt("queued", lease_seconds=lease), "lease_seconds")
    await refused(store, lambda: store.dequeue_rollout("v", lease_seconds=lease), "lease_seconds")
    await refused(store, lambda: store.dequeue_many_rollouts(lease_seconds=lease), "lease_seconds")


@pytest.mark.parametrize("call", ["dequeue", "completions"])
async def test_timeout_is_a_number(used_store, call):
    store = used_store
    for bad in (math.nan, "1"):
        if call == "dequeue":
            await refused(store, lambda bad=bad: store.dequeue_rollout("v", timeout=bad), "timeout")
        else:
            await refused(store, lambda bad=bad: store.completions(timeout=bad), "timeout")


async def test_dequeue_needs_a_queue_and_a_whole_limit(used_store):
    store = used_store
    await refused(store, lambda: store.dequeue_rollout(queues=[]), "queues")
    await refused(store, lambda: store.dequeue_rollout(queues="default"), "queues")
    await refused(store, lambda: store.dequeue_many_rollouts(limit=1.5), "limit")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, "now"])
async def test_heartbeat_time_is_a_finite_number(used_store, bad):
    store = used_store
    await refused(
        store, lambda: store.update_attempt("started", "latest", last_heartbeat_time=bad), "last_heartbeat_time"
    )


@pytest.mark.parametrize("bad", [0, -1, 1.5, "1"])
async def test_version_of_resources_is_a_positive_integer(used_store, bad):
    store = used_store
    await refused(store, lambda: store.update_attempt("started", "latest", resources_version=bad), "resources_version")


async def test_values_of_the_wrong_kind_raise_validation_errors(used_store):
    store = used_store
    bad_config = RolloutConfig()
    bad_config.max_attempts = 0
    for call in (
        lambda: store.enqueue_rollout(1, mode="demo"),
        lambda: store.start_rollout(1, mode="demo"),
        lambda: store.update_rollout("queued", mode="demo"),
        lambda: store.update_rollout("queued", status="lost"),
        lambda: store.update_attempt("started", "latest", status="queuing"),
        lambda: store.update_rollout("queued", config={"max_attempts": 0}),
        lambda: store.enqueue_rollout(1, config=bad_config),
        lambda: store.update_rollout("queued", config=bad_config),
    ):
        await refused(store, call, None, ValidationError)


async def test_what_must_be_an_object_is_one(used_store):
    store = used_store
    for bad in ([], "text", 1):
        await refused(store, lambda bad=bad: store.update_rollout("queued", metadata=bad), "metadata")
        await refused(store, lambda bad=bad: store.update_attempt("started", "latest", metadata=bad), "metadata")
        await refused(store, lambda bad=bad: store.update_worker("w", bad), "heartbeat_stats")


@pytest.mark.parametrize("where", [0, 1, 2])
async def test_one_bad_request_refuses_the_whole_bulk(used_store, where):
    store = used_store
    for bad, field in (
        (EnqueueRolloutRequest(input=1, queue="a b"), "queue"),
        (EnqueueRolloutRequest(input={1}), "input"),
        ("text", "rollouts"),
    ):
        requests = [*requests_for([1, 2])]
        requests.insert(where, bad)
        await refused(store, lambda requests=requests: store.enqueue_many_rollouts(requests), field)


async def test_pairs_of_ids_are_pairs(used_store):
    store = used_store
    for bad in (["started"], [("started",)], [("started", 1)], [("a", "b", "c")]):
        await refused(store, lambda bad=bad: store.get_many_span_sequence_ids(bad), "rollout_attempt_ids")
        await refused(store, lambda bad=bad: store.renew("w", bad), "attempts")


async def test_ids_to_wait_for_are_a_sequence_of_texts(used_store):
    store = used_store
    for bad in ("started", [1]):
        await refused(
            store, lambda bad=bad: store.wait_for_rollouts(rollout_ids=bad, timeout=0), "rollout_ids"
        )  # fmt: skip


async def test_unknown_arguments_are_type_errors(store):
    with pytest.raises(TypeError):
        await store.enqueue_rollout(1, priority=3)
    with pytest.raises(TypeError):
        await store.dequeue_rollout("w", ["default"])
