"""The audit of a Redis namespace finds every kind of damage, mends what can be mended, and then finds nothing."""

import random

import fakeredis
import pytest

from lightning_store.backends.redis.store import RedisLightningStore
from tests.support.clock import SettableClock
from tests.support.damages import DAMAGES, Names, set_sound_scene
from tests.support.ids import CountingIds
from tests.support.invariants import findings
from tests.support.keyspace import read_keyspace

SEEDS = range(30)

every_damage = pytest.mark.parametrize("damage", DAMAGES, ids=str)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.redis)])
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


def rules_of(report):
    return {finding.rule for finding in report.findings}


async def test_sound_namespace_has_no_findings(store):
    report = await store.audit()

    assert (report.findings, report.unchecked, report.rollouts) == ([], [], 4)


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
    for damage in chosen:
        damage.plant(client, Names(namespace))

    await store.audit(repair=True)
    again = await store.audit(repair=True)

    assert (again.findings, findings(read_keyspace(client, namespace))) == ([], []), chosen
