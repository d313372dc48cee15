"""The audit of a Redis namespace finds every kind of damage, mends what can be mended, and then finds nothing."""

import asyncio
import random

import fakeredis
import pytest

from lightning_store.backends.redis import audit
from lightning_store.backends.redis.store import RedisLightningStore
from tests.support.clock import SettableClock
from tests.support.damages import DAMAGES, RUNNING, Names, set_sound_scene
from tests.support.factories import requests_for
from tests.support.ids import CountingIds
from tests.support.invariants import findings
from tests.support.keyspace import read_keyspace
from tests.support.mischief import Mischief
from tests.support.repeating import RepeatingRedisStore

SEEDS = range(30)

every_damage = pytest.mark.parametrize("damage", DAMAGES, ids=str)


@pytest.fixture(params=[pytest.param("fake", marks=pytest.mark.wide), pytest.param("real", marks=pytest.mark.redis)])
def client(request):
    if request.param == "fake":
        yield fakeredis.FakeRedis(server=fakeredis.FakeServer())
        return
    with request.getfixturevalue("redis_server").client(decode_responses=False) as client:
        yield client


@pytest.fixture
async def store(client, namespace):
    store = RedisLightningStore(client, namespace=namespace, clock=SettableClock(), ids=CountingIds())
    await set_sound_scene(store)
    yield store
    await store.close()


@pytest.fixture
def small_pieces(monkeypatch):
    """Everything takes many looks."""
    for name, size in {"ROLLOUTS_AT_ONCE": 3, "KEYS_AT_ONCE": 5, "WINDOW": 4, "QUEUES_AT_ONCE": 1}.items():
        monkeypatch.setattr(audit, name, size)


def rules_of(report):
    return {finding.rule for finding in report.findings}


async def test_sound_namespace_has_no_findings(store):
    report = await store.audit()

    assert (report.findings, report.unchecked, report.rollouts) == ([], [], 5)


async def test_empty_namespace_has_no_findings(client, namespace):
    store = RedisLightningStore(client, namespace=f"{namespace}-empty")

    report = await store.audit(repair=True)

    assert (report.findings, report.unchecked, report.rollouts) == ([], [], 0)
    await store.close()


@every_damage
async def test_damage_is_found_and_nothing_changed(store, client, namespace, damage):
    damage.plant(client, Names(namespace))
    before = read_keyspace(client, namespace)

    report = await store.audit()

    assert damage.rule in rules_of(report)
    assert all(finding.repaired == 0 and finding.count >= len(finding.examples) > 0 for finding in report.findings)
    assert read_keyspace(client, namespace) == before


@every_damage
async def test_damage_is_mended_or_reported_again(store, client, namespace, damage):
    damage.plant(client, Names(namespace))

    repaired = await store.audit(repair=True)
    after = await store.audit()

    assert damage.rule in rules_of(repaired)
    if damage.mends:
        assert (repaired.unrepaired, after.findings, after.unchecked) == (0, [], [])
        assert findings(read_keyspace(client, namespace)) == []
    else:
        assert damage.rule in rules_of(after)
        assert after.unrepaired == repaired.unrepaired


@pytest.mark.parametrize("seed", SEEDS)
async def test_many_damages_are_mended_together(store, client, namespace, seed):
    chosen = random.Random(seed).sample([damage for damage in DAMAGES if damage.mends], 6)  # noqa: S311 - repeatable
    for damage in sorted(
        chosen, key=lambda damage: damage.name.startswith("record lost")
    ):  # what is gone has no fields
        damage.plant(client, Names(namespace))

    await store.audit(repair=True)
    again = await store.audit(repair=True)

    assert (again.findings, findings(read_keyspace(client, namespace))) == ([], []), chosen


async def test_repair_whose_answer_is_lost_says_what_it_mended(store, client, namespace):
    again = RepeatingRedisStore(client, namespace=namespace, clock=SettableClock())
    client.lpop(Names(namespace)("queue", "default"))
    client.set(Names(namespace)("task", "ro-none"), "1")

    report = await again.audit(repair=True)

    assert [(finding.rule, finding.repaired) for finding in report.findings] == [("queue", 1), ("orphan", 1)]
    await again.close()


async def test_small_pieces_find_the_same(store, client, namespace, small_pieces):
    await store.enqueue_many_rollouts(requests_for(range(20)))
    report = await store.audit()
    assert (report.findings, report.unchecked, report.rollouts) == ([], [], 25)
    client.ltrim(Names(namespace)("queue", "default"), 0, -6)

    [finding] = (await store.audit(repair=True)).findings

    assert (finding.rule, finding.count, finding.repaired) == ("queue", 5, 5)
    assert findings(read_keyspace(client, namespace)) == []


async def test_report_has_some_examples_and_those_first_that_are_left(store, client, namespace):
    requests = requests_for(range(20))
    rollouts = await store.enqueue_many_rollouts(requests)
    client.delete(Names(namespace)("queue", "default"))
    client.delete(*(Names(namespace)("task", rollout.rollout_id) for rollout in rollouts[:2]))

    report = await store.audit(repair=True)

    record, queue = report.findings
    assert (record.rule, record.count, record.repaired, len(record.examples)) == ("record", 2, 0, 2)
    assert (queue.rule, queue.count, queue.repaired, len(queue.examples)) == ("queue", 21, 21, 10)
    assert report.unrepaired == 2


async def test_lost_rollouts_are_put_back_in_order(store, client, namespace):
    rollouts = await store.enqueue_many_rollouts(requests_for(range(5)))
    client.delete(Names(namespace)("queue", "default"))

    await store.audit(repair=True)

    claimed = await store.dequeue_many_rollouts(limit=9)
    assert [rollout.rollout_id for rollout in claimed][-5:] == [rollout.rollout_id for rollout in rollouts]


async def test_who_waits_is_woken_for_what_is_put_back(store, client, namespace):
    client.delete(Names(namespace)("queue", "default"), Names(namespace)("wake", "default"))

    await store.audit(repair=True)

    assert client.llen(Names(namespace)("wake", "default")) == 1


async def test_list_of_many_attempts_is_made_again_in_order(store, client, namespace):
    for _ in range(4):
        await store.start_attempt(RUNNING)
    before = client.lrange(Names(namespace)("attempts", RUNNING), 0, -1)
    client.delete(Names(namespace)("attempts", RUNNING))

    report = await store.audit(repair=True)

    assert report.unrepaired == 0
    assert client.lrange(Names(namespace)("attempts", RUNNING), 0, -1) == before
    assert findings(read_keyspace(client, namespace)) == []


async def test_key_of_a_wrong_type_stops_only_what_reads_it(store, client, namespace):
    name = Names(namespace)
    client.delete(name("completed"))
    client.set(name("completed"), "no log")
    client.zrem(name("workers"), "w")

    report = await store.audit()

    assert rules_of(report) >= {"orphan", "worker"}
    assert [what.partition(":")[0] for what in report.unchecked] == ["completion log", "rollouts, queues and counters"]


@pytest.mark.redis
async def test_user_who_may_not_scan_is_told(redis_server, namespace):
    with redis_server.client() as client:
        client.acl_setuser("runner", enabled=True, nopass=True, keys=["*"], categories=["+@all"], commands=["-scan"])
        host = f"{redis_server.url.partition('@')[2] or redis_server.url.partition('//')[2]}"
        store = RedisLightningStore(f"redis://runner:any@{host}", namespace=namespace)
        await store.enqueue_rollout("task")

        report = await store.audit()

        assert (report.findings, report.rollouts) == ([], 1)
        assert report.unchecked == ["orphan: this user may not SCAN, which alone finds keys that belong to nothing"]
        await store.close()
        client.acl_deluser("runner")


@pytest.mark.redis
async def test_work_of_other_processes_makes_no_finding(redis_url, namespace, small_pieces):
    """Small pieces, so that work comes between any two looks."""
    stores = [RedisLightningStore(redis_url, namespace=namespace) for _ in range(3)]
    working = [asyncio.ensure_future(work(store, seed)) for seed, store in enumerate(stores[1:])]
    found = []
    while not all(task.done() for task in working):
        found += (await stores[0].audit(repair=True)).findings

    await asyncio.gather(*working)
    report = await stores[0].audit()
    assert (found, report.findings, report.unchecked) == ([], [], [])
    for store in stores:
        await store.close()


async def work(store, seed):
    several = [Mischief(store, SettableClock(), 10 * seed + number) for number in range(4)]

    async def steps(mischief):
        for _ in range(100):
            await mischief.step()

    await asyncio.gather(*map(steps, several))


async def test_keys_of_others_are_left_alone(store, client, namespace):
    client.set(Names(namespace)("doctor", "scratch"), "1")
    client.set(f"xls:{namespace}:task:ro-none", "1")
    client.set(Names(f"{namespace}-2")("task", "ro-none"), "1")

    assert (await store.audit(repair=True)).findings == []


async def test_attempt_of_no_list_and_no_number_is_left(store, client, namespace):
    client.hset(Names(namespace)("attempt", f"{RUNNING}:at-x"), mapping={"status": "failed", "number": "none"})

    [finding] = (await store.audit(repair=True)).findings

    assert (finding.rule, finding.repaired, finding.examples[0].id) == ("attempts", 0, f"{RUNNING}:at-x")
