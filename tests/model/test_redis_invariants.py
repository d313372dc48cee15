"""Whatever clients do, the raw keys in Redis keep their invariants; only Redis has these keys."""

import fakeredis
import pytest
import redis

from lightning_store.backends.redis.store import RedisLightningStore
from tests.support.clock import SettableClock
from tests.support.ids import CountingIds
from tests.support.invariants import findings
from tests.support.keyspace import read_keyspace
from tests.support.mischief import Mischief

STEPS = 250
STEPS_PER_CHECK = 5


async def misbehave(store, client, clock, seed, steps=STEPS):
    mischief = Mischief(store, clock, seed)
    for number in range(steps):
        await mischief.step()
        if number % STEPS_PER_CHECK == 0 or number == steps - 1:
            found = findings(read_keyspace(client, store.namespace))
            assert not found, (found, mischief.done[-STEPS_PER_CHECK:])
    await store.close()
    refused = sum("refused" in name for name in mischief.done)
    assert refused < steps / 3, "most operations have to meet something"


@pytest.mark.parametrize("seed", range(4))
async def test_random_operations_keep_the_invariants(seed, namespace):
    server, clock = fakeredis.FakeServer(), SettableClock()
    store = RedisLightningStore(
        fakeredis.FakeAsyncRedis(server=server), namespace=namespace, clock=clock, ids=CountingIds()
    )

    await misbehave(store, fakeredis.FakeRedis(server=server), clock, seed)


@pytest.mark.parametrize("seed", [100, 101, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(102, 120))])
async def test_random_operations_keep_the_invariants_on_a_real_server(seed, redis_url, namespace):
    clock = SettableClock()
    store = RedisLightningStore(redis_url, namespace=namespace, clock=clock, ids=CountingIds())
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        await misbehave(store, client, clock, seed, 3 * STEPS)
