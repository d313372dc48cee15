"""Whatever clients do, the raw keys in Redis keep their invariants; only Redis has these keys."""

import fakeredis
import pytest
import redis

from lightning_store.backends.redis.store import RedisLightningStore
from tests.support.clock import SettableClock
from tests.support.damages import Vandal
from tests.support.ids import CountingIds
from tests.support.invariants import findings
from tests.support.keyspace import read_keyspace
from tests.support.mischief import Mischief

STEPS = 250
STEPS_PER_CHECK = 5
STEPS_PER_AUDIT = 50
EVICTING = {"eviction_memory_threshold": 1, "safe_memory_threshold": 1, "memory_check_seconds": None}
"""Above the threshold from the beginning: whatever may be evicted is, when that is done."""


async def misbehave(store, client, clock, seed, steps=STEPS):
    """Do random operations; no rule is ever broken, says the oracle of the tests, and so does the audit."""
    mischief = Mischief(store, clock, seed)
    for number in range(steps):
        await mischief.step()
        if number % STEPS_PER_CHECK == 0 or number == steps - 1:
            found = findings(read_keyspace(client, store.namespace))
            assert not found, (found, mischief.done[-STEPS_PER_CHECK:])
        if number % STEPS_PER_AUDIT == 0 or number == steps - 1:
            report = await store.audit()
            assert (report.findings, report.unchecked) == ([], [])
    await store.close()
    refused = sum("refused" in name for name in mischief.done)
    assert refused < steps / 3, "most operations have to meet something"


@pytest.mark.wide
@pytest.mark.parametrize("seed", range(4))
async def test_random_operations_keep_the_invariants(seed, namespace):
    server, clock = fakeredis.FakeServer(), SettableClock()
    store = RedisLightningStore(
        fakeredis.FakeAsyncRedis(server=server), namespace=namespace, clock=clock, ids=CountingIds()
    )

    await misbehave(store, fakeredis.FakeRedis(server=server), clock, seed)


@pytest.mark.parametrize("memory", [{}, EVICTING], ids=["room", "evicting"])
@pytest.mark.parametrize(
    "seed",
    [
        100,
        pytest.param(101, marks=pytest.mark.wide),
        *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(102, 108)),
    ],
)
async def test_random_operations_keep_the_invariants_on_a_real_server(seed, memory, redis_url, namespace):
    clock = SettableClock()
    store = RedisLightningStore(redis_url, namespace=namespace, clock=clock, ids=CountingIds(), **memory)
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        await misbehave(store, client, clock, seed, 3 * STEPS)


@pytest.mark.parametrize("seed", [*range(15), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(15, 40))])
async def test_random_damage_is_found_and_mended(seed, redis_url, namespace):
    """The audit sees what the oracle sees, and what it has mended is sound for both and goes on to work."""
    clock = SettableClock()
    store = RedisLightningStore(redis_url, namespace=namespace, clock=clock, ids=CountingIds())
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        mischief, vandal = Mischief(store, clock, seed), Vandal(client, namespace, seed)
        for _ in range(60):
            await mischief.step()
        for _ in range(4):
            vandal.strike()
        damaged = findings(read_keyspace(client, namespace))

        found = await store.audit()
        mended = await store.audit(repair=True)

        assert bool(found.findings) == bool(damaged), (vandal.done, damaged)
        assert mended.unrepaired == 0, (vandal.done, mended)
        assert findings(read_keyspace(client, namespace)) == [], (vandal.done, mended)
        for _ in range(30):
            await mischief.step()
        again = await store.audit()
        assert (again.findings, again.unchecked, findings(read_keyspace(client, namespace))) == ([], [], [])
    await store.close()
