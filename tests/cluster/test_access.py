"""The users of `deploy/users.acl` on a Cluster, where they ask for the slots and take other steps."""

import pytest

from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.rewards import ANNOTATION_SPAN
from tests.support.clock import SettableClock
from tests.support.factories import claim, span_of
from tests.support.mutations import MUTATIONS, set_scene
from tests.support.shipped_redis import DEPLOY

PASSWORD = "a-password-of-tests"


@pytest.fixture
def url_of(redis_cluster):
    """Makes a user of the shipped file on every node; where it connects."""
    nodes = redis_cluster.url.partition("@")[2]

    def make(user):
        (line,) = (line for line in (DEPLOY / "users.acl").read_text().splitlines() if line.startswith(f"user {user} "))
        rules = [f">{PASSWORD}" if word.startswith("#") else word for word in line.split()[2:]]
        for node in redis_cluster.nodes:
            with node.client() as client:
                client.execute_command("ACL", "SETUSER", user, "reset", *rules)
        return f"redis+cluster://{user}:{PASSWORD}@{nodes}"

    return make


async def test_runner_lives_on_its_rights(store, url_of, namespace):
    runner = RedisLightningStore(url_of("runner"), namespace=namespace)
    await store.enqueue_rollout("task")
    claimed = await claim(runner, "box", lease_seconds=60, timeout=1)
    reward = span_of(claimed, name=ANNOTATION_SPAN, attributes={"reward": 0.5})
    assert len(await runner.add_many_spans([span_of(claimed), reward], renumber=True)) == 2
    assert await runner.add_many_spans([reward], renumber=True) == []
    await runner.renew("box", [(claimed.rollout_id, claimed.attempt.attempt_id)])
    await runner.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status="succeeded")
    await runner.close()

    assert await store.rewards([claimed.rollout_id]) == {claimed.rollout_id: 0.5}


@pytest.mark.parametrize("name", MUTATIONS)
async def test_algorithm_lives_on_its_rights(name, url_of, namespace):
    clock = SettableClock()
    algorithm = RedisLightningStore(url_of("algorithm"), namespace=namespace, clock=clock)
    scene = await set_scene(algorithm, clock)
    await MUTATIONS[name](algorithm, scene)
    assert (await algorithm.query_spans(scene.running.rollout_id)).total > 0 or name in {"prune", "delete_rollouts"}
    await algorithm.close()


async def test_daemon_lives_on_its_rights(store, url_of, namespace):
    await store.start_rollout("task", worker_id="w", lease_seconds=0.001)
    daemon = RedisLightningStore(url_of("daemon"), namespace=namespace)
    await daemon.expire_attempts()
    await daemon.expire_workers(silent_seconds=0)
    await daemon.close()

    assert [each.status for each in await store.query_workers()] == ["unknown"]
