"""What lies in which slot: a namespace's control plane in one, the spans of its rollouts spread over the nodes."""

from collections import Counter

import pytest
from redis.crc import key_slot

from lightning_store.backends.redis.cluster import slot_of
from lightning_store.backends.redis.connection import Connections
from tests.support.clock import SettableClock
from tests.support.factories import make_span, requests_for
from tests.support.mutations import MUTATIONS, set_scene
from tests.support.redis_cluster import control_slot

ROLLOUTS = 3_000
FROM_EVEN = 0.15


async def test_spans_of_many_rollouts_are_spread_evenly(store, redis_cluster, namespace):
    await store.enqueue_many_rollouts(requests_for([*range(ROLLOUTS)]))
    claimed = await store.dequeue_many_rollouts(limit=ROLLOUTS)
    await store.add_many_spans([make_span(each.rollout_id, each.attempt.attempt_id) for each in claimed])

    counts = []
    for node in redis_cluster.primaries():
        with node.client() as client:
            counts.append(sum(1 for _ in client.scan_iter(match=f"ls:{namespace}:spans:*", count=1000)))

    assert (len(counts), sum(counts)) == (3, ROLLOUTS)
    assert all(abs(count - ROLLOUTS / 3) <= FROM_EVEN * ROLLOUTS / 3 for count in counts), counts


@pytest.mark.parametrize("name", MUTATIONS)
async def test_each_script_declares_keys_of_one_slot(name, store, namespace, monkeypatch):
    """The server would let a script by with keys of several slots that happen to be its own."""
    calls = []
    for method in ("run", "run_many"):
        send = getattr(Connections, method)

        def record(self, given, send=send):
            calls.extend(given if isinstance(given, list) else [given])
            return send(self, given)

        monkeypatch.setattr(Connections, method, record)
    scene = await set_scene(store, SettableClock())
    await MUTATIONS[name](store, scene)

    for call in calls:
        keys = call.tail[1 : 1 + call.tail[0]]
        slots = {int(key_slot(key.encode() if isinstance(key, str) else key)) for key in keys}
        assert len(slots) == 1, (call.script.name, keys)
        assert slots == {slot_of(call.by_sha)}
        assert slots == {control_slot(namespace)} or call.script.keys[0] in {"spans", "name"}


async def test_keys_of_a_namespace_are_its_control_slot_and_those_of_its_rollouts(store, redis_cluster, namespace):
    scene = await set_scene(store, SettableClock())
    tags = Counter()
    for node in redis_cluster.primaries():
        with node.client() as client:
            tags.update(
                name.partition("{")[2].partition("}")[0] for name in client.scan_iter(match=f"*ls:{namespace}*")
            )

    with_spans = {scene.running.rollout_id, *(each.rollout_id for each in scene.finished)}
    assert set(tags) == {f"ls:{namespace}", *with_spans}
