"""The audit: a store that only its own operations have changed is sound, at rest and at work."""

import asyncio
from contextlib import suppress

from lightning_store.errors import NotFoundError
from lightning_store.records import RolloutConfig
from tests.support.factories import claim
from tests.support.mischief import Mischief
from tests.support.mutations import MUTATIONS, set_scene

WORKERS, STEPS = 3, 40


async def test_new_store_is_sound(store):
    report = await store.audit()

    assert (report.findings, report.unrepaired, report.rollouts, report.unchecked) == ([], 0, 0, [])
    assert report.seconds >= 0


async def test_store_is_sound_after_every_operation(store, clock):
    scene = await set_scene(store, clock)
    for mutate in MUTATIONS.values():
        with suppress(NotFoundError):  # of what an earlier one has deleted
            await mutate(store, scene)

    report = await store.audit()

    assert (report.findings, report.unchecked) == ([], [])
    assert report.rollouts == (await store.statistics())["total_rollouts"] > 0


async def test_repair_changes_nothing_in_a_sound_store(store, clock):
    await set_scene(store, clock)
    before = [await store.query_rollouts(), await store.query_workers(), await store.query_queues()]

    report = await store.audit(repair=True)

    assert report.findings == []
    assert [await store.query_rollouts(), await store.query_workers(), await store.query_queues()] == before


async def test_audit_settles_nothing(store, clock):
    await store.enqueue_rollout("task", config=RolloutConfig(timeout_seconds=1))
    await claim(store)
    clock.advance(5)

    assert (await store.audit()).findings == []
    assert len((await store.expire_attempts()).transitions) == 1


async def test_work_that_goes_on_makes_no_finding(store, clock):
    working = [asyncio.ensure_future(misbehave(store, clock, seed)) for seed in range(WORKERS)]
    found = []
    while not all(task.done() for task in working):
        found += (await store.audit()).findings
        await asyncio.sleep(0)

    await asyncio.gather(*working)
    assert found == []
    assert (await store.audit()).findings == []


async def misbehave(store, clock, seed):
    mischief = Mischief(store, clock, seed)
    for _ in range(STEPS):
        await mischief.step()
        await asyncio.sleep(0)
