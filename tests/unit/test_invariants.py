"""The checker of the raw keys finds what it is there to find: one planted damage per rule and kind of key."""

import fakeredis
import pytest

from lightning_store.backends.redis.keys import Keys
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.records import RolloutConfig
from tests.support.clock import SettableClock
from tests.support.factories import some_resources, span_of
from tests.support.ids import CountingIds
from tests.support.invariants import findings
from tests.support.keyspace import read_keyspace

QUEUED, RUNNING, FINISHED, DELAYED = (f"ro-{number:024x}" for number in (1, 2, 3, 4))


@pytest.fixture
async def client(namespace):
    """A namespace with a queued, a running, a finished and a delayed rollout."""
    server = fakeredis.FakeServer()
    store = RedisLightningStore(
        fakeredis.FakeAsyncRedis(server=server), namespace=namespace, clock=SettableClock(), ids=CountingIds()
    )
    await store.enqueue_rollout("queued", metadata={"a": 1}, group_id="g")
    running = await store.start_rollout("running", worker_id="w", config=RolloutConfig(timeout_seconds=9))
    await store.add_many_spans([span_of(running, sequence_id=5), span_of(running, span_id="text", sequence_id=6)])
    finished = await store.start_rollout("finished")
    await store.update_attempt(finished.rollout_id, finished.attempt.attempt_id, status="succeeded", metadata={"b": 2})
    config = RolloutConfig(max_attempts=2, retry_condition=["failed"], retry_delay_seconds=5)
    delayed = await store.start_rollout("delayed", config=config)
    await store.update_attempt(delayed.rollout_id, delayed.attempt.attempt_id, status="failed")
    await store.update_worker("idle", {"load": 1})
    await store.add_resources(some_resources())
    yield fakeredis.FakeRedis(server=server)
    await store.close()


def damages():
    running_attempt = f"{RUNNING}:at-{1:012x}"
    finished_attempt = f"{FINISHED}:at-{2:012x}"
    return {
        "only_documented_keys": [
            lambda r, k: r.set(k("surprise"), "x"),
            lambda r, k: r.set(k("group", "h"), "no zset"),
        ],
        "meta_is_complete": [
            lambda r, k: r.hset(k("meta"), "schema", "0"),
            lambda r, k: r.hset(k("meta"), "number", "2"),
            lambda r, k: r.hset(k("meta"), "resources", "rs-none"),
            lambda r, k: r.zadd(k("workers"), {"w": 1}),
        ],
        "every_rollout_is_in_its_indexes_once": [
            lambda r, k: r.zrem(k("rollouts"), QUEUED),
            lambda r, k: r.zrem(k("status", "queuing"), QUEUED),
            lambda r, k: r.zadd(k("status", "running"), {QUEUED: 1}),
            lambda r, k: r.zadd(k("status", "queuing"), {QUEUED: 7}),
            lambda r, k: r.zadd(k("status", "failed"), {"ro-none": 7}),
            lambda r, k: r.zrem(k("group", "g"), QUEUED),
            lambda r, k: r.hset(k("rollout", QUEUED), "status", "running"),
            lambda r, k: r.hset(k("rollout", RUNNING), "group", "g"),
        ],
        "flagged_rollouts_are_those_in_the_lists_once": [
            lambda r, k: r.lpop(k("queue", "default")),
            lambda r, k: r.rpush(k("queue", "default"), QUEUED),
            lambda r, k: r.rpush(k("queue", "default"), RUNNING),
            lambda r, k: r.rename(k("queue", "default"), k("queue", "other")),
            lambda r, k: r.hdel(k("rollout", QUEUED), "queued"),
        ],
        "queued_rollouts_can_be_claimed_once": [
            lambda r, k: r.zrem(k("delayed"), DELAYED),
            lambda r, k: r.zadd(k("delayed"), {QUEUED: 7}),
            lambda r, k: r.zadd(k("delayed"), {DELAYED: 7}),
        ],
        "live_counters_are_true": [
            lambda r, k: r.hincrby(k("stats"), "queue:default", 1),
            lambda r, k: r.hincrby(k("stats"), "delayed:default", -1),
            lambda r, k: r.hset(k("stats"), "queue:other", 1),
        ],
        "tokens_never_exceed_live_entries": [
            lambda r, k: r.rpush(k("wake", "default"), "1", "1"),
            lambda r, k: r.rpush(k("wake", "other"), "1"),
        ],
        "whoever_works_is_watched_by_a_deadline": [
            lambda r, k: r.zrem(k("deadlines"), RUNNING),
            lambda r, k: r.zadd(k("deadlines"), {RUNNING: 1_700_000_010}),
            lambda r, k: r.zadd(k("deadlines"), {FINISHED: 1}),
        ],
        "every_finish_is_in_the_log_once": [
            lambda r, k: r.delete(k("completed")),
            lambda r, k: r.xadd(k("completed"), {"rollout": FINISHED, "status": "succeeded"}),
            lambda r, k: r.hdel(k("rollout", FINISHED), "end"),
            lambda r, k: r.hdel(k("rollout", FINISHED), "done"),
            lambda r, k: r.hset(k("rollout", FINISHED), "status", "failed"),
        ],
        "attempts_are_counted_and_ordered": [
            lambda r, k: r.delete(k("attempt", running_attempt)),
            lambda r, k: r.rpush(k("attempts", RUNNING), "at-none"),
            lambda r, k: r.hset(k("attempt", running_attempt), "number", "2"),
            lambda r, k: r.hset(k("rollout", RUNNING), "latest", "at-none"),
            lambda r, k: r.hincrby(k("stats"), "attempts", 1),
            lambda r, k: r.hset(k("rollout", RUNNING), "uncounted", "1"),
            lambda r, k: r.hset(k("attempt", running_attempt), "cause", "agent"),
            lambda r, k: r.hdel(k("attempt", finished_attempt), "end"),
            lambda r, k: r.hset(k("attempt", running_attempt), "reward", "1.0"),
        ],
        "spans_are_counted_and_known": [
            lambda r, k: r.hincrby(k("stats"), "spans", 1),
            lambda r, k: r.hset(k("rollout", RUNNING), "spans", "5"),
            lambda r, k: r.delete(k.keys.span_ids(RUNNING) + f"at-{1:012x}:0"),
            lambda r, k: r.sadd(k.keys.span_ids(RUNNING) + f"at-{1:012x}:text:0", ":more"),
            lambda r, k: r.xadd(k.keys.spans(RUNNING), {"a": "at-none", "s": "1", "d": "{}"}),
        ],
        "workers_are_listed_and_hold_what_they_say": [
            lambda r, k: r.zrem(k("workers"), "w"),
            lambda r, k: r.delete(k("worker", "idle")),
            lambda r, k: r.hdel(k("worker", "w"), "rollout"),
            lambda r, k: r.hset(k("worker", "idle"), "status", "busy"),
        ],
        "nothing_belongs_to_nobody": [
            lambda r, k: r.delete(k("task", QUEUED)),
            lambda r, k: r.set(k("task", "ro-none"), "1"),
            lambda r, k: r.set(k("metadata", "ro-none"), "1"),
            lambda r, k: r.set(k("attempt_metadata", f"{QUEUED}:at-none"), "1"),
            lambda r, k: r.xadd(k.keys.spans("ro-none"), {"a": "at", "s": "1", "d": "{}"}),
            lambda r, k: r.sadd(k.keys.span_ids("ro-none") + "at:0", "1"),
            lambda r, k: r.zrem(k("resources"), f"rs-{1:012x}"),
        ],
    }


class Names:
    """Names of the control keys of a namespace."""

    def __init__(self, namespace):
        self.keys = Keys(namespace)

    def __call__(self, kind, id=None):
        return self.keys.control(kind, id)


async def test_sound_namespace_has_no_findings(client, namespace):
    assert findings(read_keyspace(client, namespace)) == []


async def test_empty_namespace_has_no_findings(client):
    assert findings(read_keyspace(client, "empty")) == []


@pytest.mark.parametrize(
    ("rule", "number"), [(rule, number) for rule, planted in damages().items() for number in range(len(planted))]
)
async def test_damage_is_found(client, namespace, rule, number):
    damages()[rule][number](client, Names(namespace))

    assert any(finding.startswith(f"{rule}:") for finding in findings(read_keyspace(client, namespace)))
