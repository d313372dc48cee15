"""Deletion removes every key of a rollout; what stays in Redis is a documented, bounded rest."""

import pytest

from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.records import EnqueueRolloutRequest, RolloutConfig
from lightning_store.requests import lowest_cursor
from tests.support.clock import SettableClock
from tests.support.factories import make_span, requests_for, reward_span, some_resources, span_of
from tests.support.ids import CountingIds

RETRIED = RolloutConfig(
    max_attempts=3, retry_condition=["failed", "timeout", "unresponsive"], unresponsive_seconds=5, max_worker_losses=1
)
DELAYED = RolloutConfig(max_attempts=3, retry_condition=["failed"], retry_delay_seconds=4)
WAITING = {"timeout": 0.05}

STAYS = {
    "meta", "stats", "events", "completed", "consumers", "workers", "resources",
    "worker:anna", "worker:bert", "worker:carl", "worker:dora", "worker_stats:anna", "resources:rs-1",
}  # fmt: skip
"""Of the control plane, besides answers that expire. The log of completions is empty, and holds the last cursor."""


@pytest.fixture
def raw(redis_server):
    with redis_server.client(decode_responses=True) as client:
        yield client


@pytest.fixture
async def store(redis_url, namespace):
    clock = SettableClock()
    store = RedisLightningStore(
        redis_url, namespace=namespace, clock=clock, ids=CountingIds(), memory_check_seconds=None,
        eviction_memory_threshold=1, safe_memory_threshold=1,
    )  # fmt: skip
    yield store
    await store.close()


def keys(raw, namespace):
    """Names of all keys of the namespace, without their tag; those of spans begin with `/`."""
    control, spans = f"{{ls:{namespace}}}:", f"ls:{namespace}:"
    found = {name.removeprefix(control) for name in raw.scan_iter(f"{control}*", count=1000)}
    return found | {"/" + name.removeprefix(spans) for name in raw.scan_iter(f"{spans}*", count=1000)}


def many_spans(rollout):
    """Spans that take several sets of ids, of both forms."""
    ids = (rollout.rollout_id, rollout.attempt.attempt_id)
    return [make_span(*ids, span_id=f"{2**40 + n:016x}") for n in range(700)] + [
        make_span(*ids, span_id=f"t {n}") for n in range(700)
    ]


async def live_through_everything(store):
    """Rollouts that meet every feature; all of them have finished in the end."""
    clock = store._clock
    await store.update_resources("rs-1", some_resources())
    await store.update_worker("anna", {"load": 1})
    # with all that can be said of it, many spans, and a reward
    first = await store.start_rollout(
        {"n": 1}, "train", "rs-1", RETRIED, {"m": 1}, "anna", group_id="g", queue="slow", lease_seconds=5
    )
    await store.add_many_spans([*many_spans(first), reward_span(first, 0.5)], renumber=True)
    await store.get_next_span_sequence_id(first.rollout_id, "any")
    # its worker is lost, a retry fails, another succeeds; a late span comes for the first attempt
    clock.advance(6)
    await store.expire_attempts()
    for status in ("failed", "succeeded"):
        again = await store.dequeue_rollout("bert", queues=["slow"], lease_seconds=5)
        await store.add_span(span_of(again))
        await store.update_attempt(again.rollout_id, "latest", status=status, metadata={"by": "bert"})
    await store.add_span(span_of(first))
    # released, delayed, then cancelled while it waits, and while it runs
    ids = [each.rollout_id for each in await store.enqueue_many_rollouts(requests_for("abcd", config=DELAYED))]
    claimed = await store.dequeue_many_rollouts(limit=4, worker_id="carl")
    await store.release_attempt(ids[0], claimed[0].attempt.attempt_id)
    for each in claimed[1:3]:
        await store.update_attempt(each.rollout_id, each.attempt.attempt_id, status="failed")
    await store.renew("carl", [(ids[3], claimed[3].attempt.attempt_id)])
    await store.cancel_rollouts(ids)
    await store.add_span(span_of(claimed[3]))
    # reopened; queued by hand, which leaves a void entry; never claimed; waited for in vain
    await store.update_rollout(ids[1], status="queuing")
    await store.start_attempt(ids[1], "dora")
    await store.update_attempt(ids[1], "latest", status="succeeded")
    await store.start_attempt(ids[1], "dora")
    await store.update_rollout(ids[1], status="failed", metadata={"why": "by hand"})
    await store.enqueue_rollout("never", group_id="h", rollout_id="own")
    await store.enqueue_many_rollouts([EnqueueRolloutRequest(input=1, queue="other")])
    assert await store.dequeue_rollout("dora", queues=["empty"], **WAITING) is None
    await store.cancel_rollouts(status_in=["queuing"])
    await store.acknowledge_completions("trainer", "latest")
    await store.expire_workers(silent_seconds=0)
    statuses = (await store.statistics())["rollouts_by_status"]
    assert sum(statuses.values()) == statuses["succeeded"] + statuses["failed"] + statuses["cancelled"] == 7


@pytest.mark.parametrize("way", ["delete", "prune", "prune statuses", "prune consumed", "evict and prune"])
async def test_what_is_removed_leaves_a_bounded_rest(store, raw, namespace, way):
    await live_through_everything(store)
    assert len([name for name in keys(raw, namespace) if name.startswith("/spanids")]) > 6

    if way == "delete":
        assert len(await store.delete_rollouts([each.rollout_id for each in await store.query_rollouts()])) == 7
    elif way == "prune":
        assert await store.prune(keep_latest=0) == 7
    elif way == "prune statuses":
        assert await store.prune(status_in=["succeeded", "cancelled"]) + await store.prune(status_in=["failed"]) == 7
    elif way == "prune consumed":
        assert await store.prune(consumed_cursor=lowest_cursor(await store.query_consumers())) == 7
    else:
        assert await store.evict_spans() == 2
        assert not [name for name in keys(raw, namespace) if name.startswith("/")]
        assert await store.prune(older_than_seconds=0, keep_latest=0) == 7

    left = keys(raw, namespace)
    answers = {name for name in left if name.startswith("ops:")}
    assert left - answers == STAYS
    assert all(0 < raw.ttl(f"{{ls:{namespace}}}:{name}") <= 240 for name in answers)
    control = f"{{ls:{namespace}}}:"
    assert set(raw.hvals(f"{control}stats")) == {"0"}
    assert raw.xlen(f"{control}completed") == 0
    assert raw.hkeys(f"{control}consumers") == ["trainer"]
    assert (await store.audit()).findings == []


async def test_namespace_can_be_removed_wholly(store, raw, namespace):
    """By the command of docs/retention.md."""
    await live_through_everything(store)
    names = list(raw.scan_iter(f"*ls:{namespace}[:}}]*"))
    assert len(names) == len(keys(raw, namespace))

    raw.unlink(*names)

    assert keys(raw, namespace) == set()
    assert (await store.statistics())["total_rollouts"] == 0
