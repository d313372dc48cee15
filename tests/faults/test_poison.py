"""A task that kills every process that works on it: it ends, and the fleet lives on."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from lightning_store.records import EnqueueRolloutRequest, RolloutConfig
from tests.support.invariants import check
from tests.support.places import Place, on_places
from tests.support.run_process import start

PROCESSES: Final = 4
OTHERS: Final = 200


@pytest.fixture
def fleet(tmp_path: Path, place: Place) -> Iterator["subprocess.Popen[bytes]"]:
    """Four processes under one parent, which starts another one for each that dies."""
    log = tmp_path / "runners.log"
    fleet = start(
        "runner", log, agent="tests.support.agents:mortal", processes=PROCESSES, lease_seconds=1.0, **place.options
    )
    yield fleet
    if fleet.poll() is None:
        fleet.kill()
    fleet.wait(60)
    sys.stdout.write(log.read_text()[-20_000:])


async def attempts_of(store, rollout):
    return list(await store.query_attempts(rollout.rollout_id))


@on_places("redis", "sqlite")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("death", ["SIGKILL", "exit"])
@pytest.mark.parametrize(
    ("config", "losses"),
    [
        # Two losses do not count as attempts, the third one does, and retries are off: 2 + 1.
        ({"max_worker_losses": 2}, 3),
        # Two do not count, the third and fourth are the two attempts that there are: 2 + 2.
        ({"max_worker_losses": 2, "max_attempts": 2, "retry_condition": ["unresponsive"]}, 4),
    ],
)
async def test_poison_ends_after_its_losses_and_the_fleet_does_the_rest(
    store, raw, place, fleet, death, config, losses
):
    limits = RolloutConfig(**config)
    tasks = [*range(OTHERS // 2), death, *range(OTHERS // 2)]
    rollouts = await store.enqueue_many_rollouts([EnqueueRolloutRequest(input=task, config=limits) for task in tasks])
    ids = [rollout.rollout_id for rollout in rollouts]

    done = {each.input: each for each in await store.wait_for_rollouts(rollout_ids=ids, timeout=90)}

    assert Counter(each.status for each in await store.query_rollouts()) == {"succeeded": OTHERS, "failed": 1}
    attempts = await attempts_of(store, done[death])
    assert [(each.status, each.cause) for each in attempts] == [("unresponsive", "worker_lost")] * losses
    good = [await attempts_of(store, rollout) for rollout in rollouts if rollout.input != death]
    assert {len(tried) for tried in good} == {1}, "another rollout has lost its worker"
    assert len({each.worker_id for each in attempts}) == losses, "a worker has outlived the poison"

    more = await store.enqueue_rollout("after")
    [after] = await store.wait_for_rollouts(rollout_ids=[more.rollout_id], timeout=60)
    assert after.status == "succeeded"
    fleet.terminate()
    fleet.wait(60)
    if place.is_redis:
        check(raw, place.namespace)


@on_places("redis", "sqlite")
@pytest.mark.timeout(120)
async def test_poison_that_is_brought_back_gets_one_more_worker(store, fleet):
    rollout = await store.enqueue_rollout("SIGKILL", config=RolloutConfig(max_worker_losses=1))
    await store.wait_for_rollouts(rollout_ids=[rollout.rollout_id], timeout=60)
    assert len(await attempts_of(store, rollout)) == 2

    await store.update_rollout(rollout.rollout_id, status="queuing")
    [again] = await store.wait_for_rollouts(rollout_ids=[rollout.rollout_id], timeout=60)

    assert (again.status, len(await attempts_of(store, rollout))) == ("failed", 3)
