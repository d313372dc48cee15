"""Contract, section 3.3: waiting for rollouts, over upstream's store and ours."""

import asyncio
import time

import agentlightning as al
import pytest

from tests.agentlightning.support.making import ours_only

AT_ONCE = 5.0
"""Seconds after which an answer was not immediate, on a busy machine; the waits themselves are far longer."""


async def finish(store, rollout):
    await store.update_rollout(rollout.rollout_id, status="succeeded")


async def test_poll_answers_what_is_finished_in_the_order_asked_for(store):
    first, second, third = [await store.enqueue_rollout(number) for number in range(3)]
    await finish(store, third)
    await finish(store, first)
    ids = [third.rollout_id, second.rollout_id, first.rollout_id, "ro-unknown"]
    for timeout in (0, -1):
        done = await store.wait_for_rollouts(rollout_ids=ids, timeout=timeout)
        assert [(type(item), item.rollout_id) for item in done] == [
            (al.Rollout, third.rollout_id), (al.Rollout, first.rollout_id)
        ]  # fmt: skip


async def test_all_finished_answers_at_once(store):
    rollout = await store.enqueue_rollout(1)
    await finish(store, rollout)
    async with asyncio.timeout(AT_ONCE):
        assert len(await store.wait_for_rollouts(rollout_ids=[rollout.rollout_id], timeout=600)) == 1
        assert len(await store.wait_for_rollouts(rollout_ids=[rollout.rollout_id])) == 1


async def test_deadline_is_kept(store):
    rollout = await store.enqueue_rollout(1)
    began = time.monotonic()
    assert await store.wait_for_rollouts(rollout_ids=[rollout.rollout_id, "ro-unknown"], timeout=0.1) == []
    assert 0.09 <= time.monotonic() - began < AT_ONCE


async def test_every_waiter_is_woken(store):
    rollout = await store.enqueue_rollout(1)
    waits = [
        asyncio.ensure_future(store.wait_for_rollouts(rollout_ids=[rollout.rollout_id], timeout=60)) for _ in range(3)
    ]
    await store.dequeue_rollout()
    await store.update_attempt(rollout.rollout_id, "latest", status="succeeded")
    async with asyncio.timeout(30):
        answers = await asyncio.gather(*waits)
    assert [[item.status for item in answer] for answer in answers] == [["succeeded"]] * 3


@ours_only
async def test_wait_without_end_can_be_cancelled(store):
    """Upstream leaves a thread behind for up to ten seconds."""
    rollout = await store.enqueue_rollout(1)
    wait = asyncio.ensure_future(store.wait_for_rollouts(rollout_ids=[rollout.rollout_id]))
    await store.query_rollouts()
    wait.cancel()
    async with asyncio.timeout(AT_ONCE):
        with pytest.raises(asyncio.CancelledError):
            await wait


async def test_only_unknown_ids(store):
    async with asyncio.timeout(AT_ONCE):
        assert await store.wait_for_rollouts(rollout_ids=["ro-unknown"]) == []
        assert await store.wait_for_rollouts(rollout_ids=[]) == []
