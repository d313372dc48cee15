"""Whatever clients do on a Cluster, the raw keys keep their invariants; and damage is found and mended there too."""

import pytest

from lightning_store.backends.redis.store import RedisLightningStore
from tests.model.test_redis_invariants import misbehave
from tests.support.clock import SettableClock
from tests.support.damages import Vandal
from tests.support.ids import CountingIds
from tests.support.invariants import findings
from tests.support.keyspace import read_keyspace
from tests.support.mischief import Mischief

STEPS = 300


@pytest.fixture
def raw(redis_cluster):
    with redis_cluster.client() as client:
        yield client


@pytest.mark.parametrize("seed", [200, 201])
async def test_random_operations_keep_the_invariants(seed, redis_cluster, namespace, raw):
    clock = SettableClock()
    store = RedisLightningStore(redis_cluster.url, namespace=namespace, clock=clock, ids=CountingIds())

    await misbehave(store, raw, clock, seed, STEPS)


@pytest.mark.parametrize("seed", range(10))
async def test_random_damage_is_found_and_mended(seed, redis_cluster, namespace, raw):
    clock = SettableClock()
    store = RedisLightningStore(redis_cluster.url, namespace=namespace, clock=clock, ids=CountingIds())
    mischief, vandal = Mischief(store, clock, seed), Vandal(raw, namespace, seed)
    for _ in range(60):
        await mischief.step()
    for _ in range(4):
        vandal.strike()
    damaged = findings(read_keyspace(raw, namespace))

    found = await store.audit()
    mended = await store.audit(repair=True)

    assert bool(found.findings) == bool(damaged), (vandal.done, damaged)
    assert mended.unrepaired == 0, (vandal.done, mended)
    assert findings(read_keyspace(raw, namespace)) == [], (vandal.done, mended)
    for _ in range(30):
        await mischief.step()
    again = await store.audit()
    assert (again.findings, again.unchecked, findings(read_keyspace(raw, namespace))) == ([], [], [])
    await store.close()
