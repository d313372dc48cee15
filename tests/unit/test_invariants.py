"""The checker of the raw keys finds what it is there to find: one planted damage per rule and kind of key."""

import fakeredis
import pytest

from lightning_store.backends.redis.store import RedisLightningStore
from tests.support.clock import SettableClock
from tests.support.damages import DAMAGES, Names, set_sound_scene
from tests.support.ids import CountingIds
from tests.support.invariants import RULES, findings
from tests.support.keyspace import read_keyspace


@pytest.fixture
async def client(namespace):
    """A namespace with a queued, a running, a finished and a delayed rollout."""
    server = fakeredis.FakeServer()
    store = RedisLightningStore(
        fakeredis.FakeAsyncRedis(server=server), namespace=namespace, clock=SettableClock(), ids=CountingIds()
    )
    await set_sound_scene(store)
    yield fakeredis.FakeRedis(server=server)
    await store.close()


async def test_sound_namespace_has_no_findings(client, namespace):
    assert findings(read_keyspace(client, namespace)) == []


async def test_empty_namespace_has_no_findings(client):
    assert findings(read_keyspace(client, "empty")) == []


@pytest.mark.parametrize("damage", [damage for damage in DAMAGES if damage.invariant], ids=str)
async def test_damage_is_found(client, namespace, damage):
    damage.plant(client, Names(namespace))

    assert any(finding.startswith(f"{damage.invariant}:") for finding in findings(read_keyspace(client, namespace)))


def test_every_rule_is_broken_by_a_damage():
    assert {rule.__name__ for rule in RULES} == {damage.invariant for damage in DAMAGES} - {""}
