"""The list of a rollout's attempts exists from the second one on; lists of one, by earlier versions, go on working."""

import pytest

from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.records import RolloutConfig
from tests.support.clock import SettableClock
from tests.support.damages import DELAYED, FINISHED, QUEUED, RUNNING, TWICE, Names, set_sound_scene
from tests.support.ids import CountingIds
from tests.support.invariants import findings
from tests.support.keyspace import read_keyspace

ALONE = (RUNNING, FINISHED, DELAYED)


@pytest.fixture
def client(redis_server):
    with redis_server.client(decode_responses=False) as client:
        yield client


@pytest.fixture
async def store(redis_url, namespace):
    store = RedisLightningStore(redis_url, namespace=namespace, clock=SettableClock(), ids=CountingIds())
    await set_sound_scene(store)
    yield store
    await store.close()


@pytest.fixture
def listed(client, namespace):
    """What the list of a rollout holds."""
    return lambda rollout_id: [id.decode() for id in client.lrange(Names(namespace)("attempts", rollout_id), 0, -1)]


@pytest.fixture
def earlier_version(store, client, namespace):
    """Lists of one, for each rollout that has one attempt."""
    for rollout_id in ALONE:
        latest = client.hget(Names(namespace)("rollout", rollout_id), "latest")
        client.rpush(Names(namespace)("attempts", rollout_id), latest)


async def numbers(store, rollout_id):
    return [attempt.sequence_id for attempt in (await store.query_attempts(rollout_id)).items]


async def ids(store, rollout_id):
    return [attempt.attempt_id for attempt in (await store.query_attempts(rollout_id)).items]


async def assert_sound(store, client, namespace):
    report = await store.audit()
    assert (report.findings, report.unchecked) == ([], [])
    assert findings(read_keyspace(client, namespace)) == []


async def test_only_attempt_is_known_without_a_list(store, listed):
    for rollout_id in ALONE:
        assert listed(rollout_id) == []
        assert await numbers(store, rollout_id) == [1]


async def test_second_attempt_makes_the_list_and_the_third_is_appended(store, listed):
    before = await ids(store, RUNNING)
    second = (await store.start_attempt(RUNNING)).attempt
    assert listed(RUNNING) == [*before, second.attempt_id]
    third = (await store.start_attempt(RUNNING)).attempt
    assert listed(RUNNING) == [*before, second.attempt_id, third.attempt_id] == await ids(store, RUNNING)
    assert (second.sequence_id, third.sequence_id) == (2, 3)


async def test_released_attempt_counts_as_the_one_before(store, client, namespace, listed):
    await store.cancel_rollouts([QUEUED])
    await store.enqueue_rollout("again", rollout_id="again", config=RolloutConfig(max_attempts=2))
    [first] = await store.dequeue_many_rollouts()
    await store.release_attempt("again", first.attempt.attempt_id)
    assert listed("again") == []

    [second] = await store.dequeue_many_rollouts()

    assert listed("again") == [first.attempt.attempt_id, second.attempt.attempt_id]
    assert second.attempt.sequence_id == 2
    await assert_sound(store, client, namespace)


@pytest.mark.usefixtures("earlier_version")
async def test_lists_of_one_are_sound_and_stay(store, client, namespace, listed):
    await assert_sound(store, client, namespace)
    assert (await store.audit(repair=True)).findings == []
    for rollout_id in ALONE:
        assert await ids(store, rollout_id) == listed(rollout_id)
        assert await numbers(store, rollout_id) == [1]


@pytest.mark.usefixtures("earlier_version")
async def test_list_of_one_grows(store, client, namespace, listed):
    started = (await store.start_attempt(RUNNING)).attempt

    assert started.sequence_id == 2
    assert listed(RUNNING) == await ids(store, RUNNING)
    assert await numbers(store, RUNNING) == [1, 2]
    await assert_sound(store, client, namespace)


@pytest.mark.usefixtures("earlier_version")
async def test_list_of_one_is_deleted_with_its_rollout(store, client, namespace, listed):
    await store.delete_rollouts([FINISHED])

    assert listed(FINISHED) == []
    await assert_sound(store, client, namespace)


async def test_lost_list_is_left_for_a_user_who_may_look_for_the_attempts(store, redis_server, client, namespace):
    """Without SCAN nothing tells which attempts there were, and a number mended from nothing would hide it."""
    before = await ids(store, TWICE)
    client.delete(Names(namespace)("attempts", TWICE))
    client.acl_setuser("runner", enabled=True, nopass=True, keys=["*"], categories=["+@all"], commands=["-scan"])
    host = f"{redis_server.url.partition('@')[2] or redis_server.url.partition('//')[2]}"
    limited = RedisLightningStore(f"redis://runner:any@{host}", namespace=namespace, clock=SettableClock())

    report = await limited.audit(repair=True)

    await limited.close()
    client.acl_deluser("runner")
    [found] = [finding for finding in report.findings if finding.rule == "attempts"]
    assert (found.count, found.repaired, found.examples[0].id) == (1, 0, f"{TWICE}:{before[-1]}")
    assert (await store.audit(repair=True)).unrepaired == 0
    assert await ids(store, TWICE) == before
    await assert_sound(store, client, namespace)
