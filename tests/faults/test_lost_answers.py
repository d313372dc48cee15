"""The server has executed a call and its answer is lost: the call is repeated and takes effect once."""

import asyncio
import random
from collections import Counter

import pytest

from lightning_store.backends.redis.store import RedisLightningStore
from tests.support.factories import claim, requests_for, span_of
from tests.support.invariants import check
from tests.support.mutations import RETRIED
from tests.support.proxy import now_and_then, the_first
from tests.support.until import until

COROUTINES = 32


@pytest.fixture
async def store(proxy, namespace):
    store = RedisLightningStore(proxy.url, namespace=namespace)
    yield store
    proxy.judge = None
    await store.close()


async def test_whole_lives_at_once_lose_nothing_and_repeat_nothing(store, proxy, raw, namespace):
    await claim_nothing(store)
    proxy.judge = now_and_then(0.15, seed=1)
    dice = random.Random(2)  # noqa: S311 - repeatable on purpose
    finished = Counter()

    async def live(number):
        requests = requests_for([f"{number}-{n}" for n in range(dice.randint(1, 3))])
        await store.enqueue_many_rollouts(requests)
        for _ in requests:
            rollout = await claim(store, f"worker {number}", lease_seconds=60)
            spans = [span_of(rollout, sequence_id=0) for _ in range(3)]
            assert await store.add_many_spans(spans, renumber=True)
            ended = await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, status="succeeded")
            finished[ended.rollout_id] += 1

    await asyncio.gather(*map(live, range(COROUTINES)))
    proxy.judge = None

    assert proxy.lost_commands > 20
    check(raw, namespace)
    statistics = await store.statistics()
    assert statistics["total_rollouts"] == statistics["total_attempts"] == len(finished)
    assert set(finished.values()) == {1}
    assert statistics["total_spans"] == 3 * len(finished)
    completions = (await store.completions()).items
    assert Counter(each.rollout_id for each in completions) == finished
    for rollout_id in finished:
        spans = (await store.query_spans(rollout_id)).items
        assert sorted(span.sequence_id for span in spans) == [1, 2, 3]


async def test_producers_that_wait_for_room_enqueue_once_though_answers_are_lost(proxy, others, raw, namespace):
    most, each = 5, 6
    store = RedisLightningStore(proxy.url, namespace=namespace, max_queued=most)
    await claim_nothing(store)
    proxy.judge = now_and_then(0.15, seed=3)
    seen = Counter()

    async def produce(number):
        for n in range(each):
            await store.enqueue_rollout(f"{number}-{n}", timeout=120)

    async def consume():
        while sum(seen.values()) < COROUTINES * each:
            assert all(stats.depth <= most for stats in await others.query_queues())
            for rollout in await others.dequeue_many_rollouts(limit=2, timeout=1):
                seen[rollout.input] += 1

    await asyncio.gather(consume(), *map(produce, range(COROUTINES)))
    proxy.judge = None
    await store.close()

    assert proxy.lost > 20
    assert seen == Counter(f"{number}-{n}" for number in range(COROUTINES) for n in range(each))
    check(raw, namespace)


async def claim_nothing(store):
    """Every script that follows is cached then, so that what is lost is never just a NOSCRIPT."""
    rollout = await store.start_rollout("first", worker_id="w")
    await store.add_many_spans([span_of(rollout)], renumber=True)
    await store.release_attempt(rollout.rollout_id, rollout.attempt.attempt_id)
    rollout = await claim(store, "w")
    await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, status="succeeded")
    await store.update_rollout(rollout.rollout_id, status="failed")
    assert await store.dequeue_rollout("w") is None
    await store.delete_rollouts([rollout.rollout_id])


def lose_one(proxy, meanwhile=None):
    """Lose the answer to the next script; before the client learns of it, something else happens."""
    proxy.judge, proxy.meanwhile = the_first(b"EVAL"), meanwhile


async def test_repeat_does_not_undo_what_happened_since(store, proxy, others):
    await claim_nothing(store)
    rollout = await store.start_rollout("task", worker_id="anna", config=RETRIED)
    next_one = await store.enqueue_rollout("next")

    # Put back by hand, and claimed by somebody before the repeat.
    lose_one(proxy, lambda: others.dequeue_rollout("bert", queues=["default", "mine"]))
    await store.update_rollout(next_one.rollout_id, status="requeuing")
    assert proxy.lost == 1
    assert (await store.get_rollout_by_id(next_one.rollout_id)).status == "preparing"

    # Reported, and its worker has gone on to the next before the repeat.
    lose_one(proxy, lambda: others.start_rollout("another", worker_id="anna"))
    await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, status="succeeded")
    assert proxy.lost == 2
    assert (await store.get_worker_by_id("anna")).status == "busy"

    # Handed back, and claimed again before the repeat.
    again = await others.start_rollout("third", worker_id="anna")
    lose_one(proxy, lambda: others.dequeue_rollout("carl"))
    assert (await store.release_attempt(again.rollout_id, again.attempt.attempt_id)).cause == "released"
    assert proxy.lost == 3
    found = await store.get_rollout_by_id(again.rollout_id)
    assert (found.status, found.attempt.worker_id, found.attempt.sequence_id) == ("preparing", "carl", 2)


async def test_claim_that_expired_meanwhile_is_not_handed_out_by_its_repeat(store, proxy, others):
    await claim_nothing(store)
    queued = await store.enqueue_rollout("task", config=RETRIED)

    async def expire_and_claim():
        await others.update_attempt(queued.rollout_id, "latest", status="unresponsive")
        assert await others.dequeue_rollout("bert") is not None

    lose_one(proxy, expire_and_claim)
    assert await store.dequeue_rollout("anna", lease_seconds=1) is None
    assert proxy.lost == 1
    attempts = (await store.query_attempts(queued.rollout_id)).items
    assert [(each.worker_id, each.status) for each in attempts] == [("anna", "unresponsive"), ("bert", "preparing")]


@pytest.mark.parametrize("lease", [None, 60], ids=["asked first", "sent with the wait"])
@pytest.mark.parametrize("lost", ["hint", "claim"])
async def test_waiting_claim_whose_answer_is_lost_gets_its_rollout(store, proxy, others, raw, namespace, lost, lease):
    await claim_nothing(store)
    if lost == "claim" and lease:
        proxy.judge = the_first(b"BLPOP")
    waits = asyncio.create_task(store.dequeue_rollout("w", timeout=30, lease_seconds=lease))
    lines = store._loops.get().lines
    await until(lambda: ("default",) in lines and raw.info("clients")["blocked_clients"] > 0)

    if lost == "hint":  # the token was sent to a connection that is gone
        proxy.freeze()
        queued = await others.enqueue_rollout("task")
        await until(lambda: raw.llen(store._keys.control("wake", "default")) == 0)
        proxy.cut()
        proxy.thaw()
    else:
        if not lease:
            lose_one(proxy)
        queued = await others.enqueue_rollout("task")
    claimed = await asyncio.wait_for(waits, 20)

    assert (claimed.rollout_id, claimed.attempt.sequence_id) == (queued.rollout_id, 1)
    assert not len(lines["default",])
    assert proxy.lost == (lost == "claim")
    check(raw, namespace)


async def test_completion_feed_misses_nothing_when_its_connection_ends(store, proxy, others, raw):
    rollouts = [await others.start_rollout(n) for n in range(20)]
    waits = asyncio.create_task(store.wait_for_rollouts(rollout_ids=[each.rollout_id for each in rollouts]))
    await until(lambda: raw.info("clients")["blocked_clients"] > 0)

    cursor, seen = None, []
    for number, rollout in enumerate(rollouts):
        if number % 4 == 0:
            proxy.cut()
        await others.update_rollout(rollout.rollout_id, status="succeeded")
        page = await store.completions(cursor, timeout=20)
        cursor = page.cursor
        seen += [each.rollout_id for each in page.items]

    assert seen == [each.rollout_id for each in rollouts]
    assert len(await asyncio.wait_for(waits, 20)) == len(rollouts)
