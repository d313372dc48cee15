"""The network cuts, delays and freezes connections, or the server refuses: each call takes effect once, for all that."""

import asyncio
import itertools
import random
from collections import Counter

import pytest

from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.errors import StoreUnavailableError
from lightning_store.operations import OPERATIONS
from lightning_store.records import EnqueueRolloutRequest
from tests.support.clock import SettableClock
from tests.support.factories import claim, requests_for, some_resources, span_of
from tests.support.ids import CountingIds
from tests.support.invariants import check
from tests.support.keyspace import comparable, read_keyspace
from tests.support.mutations import ANSWERS_MAY_DIFFER, MUTATIONS, OTEL_SPAN, RETRIED, set_scene
from tests.support.proxy import Fault, Proxy, every_other, now_and_then
from tests.support.until import until

COROUTINES = 32
SOCKET_SECONDS = 0.15
FROZEN_SECONDS = 0.4
DELAY_SECONDS = 0.05
MISDEEDS = [fault for fault in Fault if fault is not Fault.REFUSAL]
each_misdeed = pytest.mark.parametrize("fault", MISDEEDS, ids=lambda fault: fault.name.lower())


@pytest.fixture
async def proxy(redis_url):
    async with Proxy(redis_url) as proxy:
        yield proxy


@pytest.fixture
def raw(redis_server):
    with redis_server.client(decode_responses=False) as client:
        yield client


@pytest.fixture
async def store(proxy, namespace):
    """Gives up a connection soon, and a call late."""
    store = RedisLightningStore(proxy.url, namespace=namespace, socket_seconds=SOCKET_SECONDS)
    yield store
    proxy.judge = None
    await store.close()


@pytest.fixture
async def others(redis_url, namespace):
    """A store that no fault meets."""
    store = RedisLightningStore(redis_url, namespace=namespace)
    yield store
    await store.close()


def begin(proxy, fault, judge):
    """From now on the messages that the judge chooses meet with the fault."""
    proxy.fault, proxy.judge = fault, judge
    proxy.seconds = DELAY_SECONDS if fault is Fault.DELAY else FROZEN_SECONDS


async def end(proxy):
    """No more faults; what was frozen has arrived."""
    proxy.judge = None
    await until(lambda: proxy.is_quiet)


def scripts_only(judge):
    """Chooses among the messages with scripts, which change something."""
    return lambda message: b"EVAL" in message and judge(message)


# -- every operation by itself ---------------------------------------------------------------------------------------


async def perform(name, url, namespace, raw, proxy=None, fault=None):
    """One operation on the scene, every other message of which meets with a fault; the answer, and all that is stored."""
    clock = SettableClock()
    seconds = 10.0 if proxy is None else SOCKET_SECONDS
    store = RedisLightningStore(url, namespace=namespace, clock=clock, ids=CountingIds(), socket_seconds=seconds)
    try:
        scene = await set_scene(store, clock)
        if proxy is not None:
            begin(proxy, fault, every_other())
        answer = await MUTATIONS[name](store, scene)
    finally:
        if proxy is not None:
            await end(proxy)
        await store.close()
    check(raw, namespace)
    return answer, comparable(read_keyspace(raw, namespace))


@each_misdeed
@pytest.mark.parametrize("name", [name for name, row in OPERATIONS.items() if row.mutates])
async def test_effect_and_answer_are_those_of_an_undisturbed_call(name, fault, redis_url, proxy, raw, namespace):
    answer, keys = await perform(name, redis_url, f"{namespace}-calm", raw)
    answer_again, keys_again = await perform(name, proxy.url, f"{namespace}-disturbed", raw, proxy, fault)

    assert proxy.lost > 0
    assert keys_again == keys
    if name not in ANSWERS_MAY_DIFFER:
        assert answer_again == answer


# -- every operation by 32 coroutines at once ------------------------------------------------------------------------


class Life:
    """What one coroutine does: every changing operation, on rollouts, a queue, a worker and resources of its own."""

    finished = 5
    """Rollouts left finished; one more is deleted."""
    finishes = 7
    """Changes to a finished status, without those of the rollout that is deleted."""
    attempts = 8
    spans = 9

    def __init__(self, store, number):
        self.store, self.name = store, f"own-{number}"
        self.numbers = Counter()

    async def live(self):
        first, second, third = await self.begin()
        await self.trace(first, second)
        await self.finish(first, second, third)
        await self.manage()

    async def claim(self, **options):
        return await claim(self.store, self.name, queues=[self.name], lease_seconds=600, **options)

    async def begin(self):
        store, name = self.store, self.name
        requests = requests_for(["a", "b"], queue=name, group_id=name, config=RETRIED)
        queued = [*await store.enqueue_many_rollouts(requests),
                  await store.enqueue_rollout("c", queue=name, group_id=name)]  # fmt: skip
        claimed = await store.dequeue_many_rollouts(limit=2, worker_id=name, queues=[name], lease_seconds=600)
        assert [each.rollout_id for each in claimed] == [each.rollout_id for each in queued[:2]]
        released = await self.claim(timeout=20)
        assert (await store.release_attempt(released.rollout_id, released.attempt.attempt_id)).cause == "released"
        again = await self.claim()
        assert (again.rollout_id, again.attempt.sequence_id) == (queued[2].rollout_id, 2)
        assert await store.dequeue_rollout(name, queues=[name]) is None
        return [*claimed, again]

    async def trace(self, first, second):
        store = self.store
        pairs = [(each.rollout_id, each.attempt.attempt_id) for each in (first, second)]
        assert await store.renew(self.name, pairs, {"load": 1}) == ["current", "current"]
        stored = await store.add_many_spans(
            [span_of(each, sequence_id=0) for each in (first, second) for _ in range(3)], renumber=True
        )
        assert [span.sequence_id for span in stored] == [1, 2, 3, 1, 2, 3]
        assert await store.add_span(span_of(first, sequence_id=4)) is not None
        assert (await store.add_otel_span(*pairs[0], OTEL_SPAN)).sequence_id == 5
        assert await store.get_next_span_sequence_id(*pairs[0]) == 6
        assert await store.get_many_span_sequence_ids([*pairs, pairs[0]]) == [7, 4, 8]
        assert await store.add_span(span_of(second, sequence_id=5)) is not None

    async def finish(self, first, second, third):
        store = self.store
        await store.update_attempt(first.rollout_id, "latest", status="failed")
        retried = await self.claim()
        assert (retried.rollout_id, retried.attempt.sequence_id) == (first.rollout_id, 2)
        await store.update_attempt(first.rollout_id, retried.attempt.attempt_id, status="succeeded")
        for status in ("failed", "succeeded", "failed"):
            await store.update_rollout(second.rollout_id, status=status)
        anew = await store.start_attempt(third.rollout_id, self.name)
        assert anew.attempt.sequence_id == 3
        await store.update_attempt(third.rollout_id, anew.attempt.attempt_id, status="succeeded")
        begun = [await store.start_rollout(n, worker_id=self.name, group_id=self.name, queue=self.name) for n in "xyz"]
        assert await store.cancel_rollouts(group_id=self.name) == [each.rollout_id for each in begun]
        assert await store.delete_rollouts([begun[0].rollout_id]) == [begun[0].rollout_id]

    async def manage(self):
        store = self.store
        for version in (1, 2, 3):
            assert (await store.update_resources(f"rs-{self.name}", some_resources())).version == version
        assert (await store.add_resources(some_resources())).version == 1
        assert (await store.update_worker(self.name, {"load": 2})).heartbeat_stats == {"load": 2}
        assert (await store.expire_attempts()).transitions == []
        assert await store.expire_workers(silent_seconds=600) == []


def test_lives_know_every_operation():
    """Besides `prune`, which they carry out together in the end."""
    names = {name for function in vars(Life).values() if hasattr(function, "__code__")
             for name in (*function.__code__.co_names, *itertools.chain.from_iterable(
                 const.co_names for const in function.__code__.co_consts if hasattr(const, "co_names")))}  # fmt: skip
    assert {name for name, row in OPERATIONS.items() if row.mutates} - names - {"prune", "dequeue_rollout"} == set()


@each_misdeed
async def test_all_operations_by_many_at_once_take_effect_once(fault, store, proxy, others, raw, namespace):
    await Life(others, "calm").live()  # all scripts are cached then
    await others.delete_rollouts([each.rollout_id for each in (await others.query_rollouts()).items])
    begin(proxy, fault, scripts_only(now_and_then(0.15, seed=1)))
    await asyncio.gather(*(Life(store, number).live() for number in range(COROUTINES)))
    await end(proxy)

    assert proxy.lost > 20
    check(raw, namespace)
    statistics = await others.statistics()
    assert statistics["total_rollouts"] == COROUTINES * Life.finished
    assert statistics["total_attempts"] == COROUTINES * Life.attempts
    assert statistics["total_spans"] == COROUTINES * Life.spans
    assert statistics["total_resources"] == (COROUTINES + 1) * 2
    completions = (await others.completions(limit=10_000)).items
    assert len(completions) == COROUTINES * Life.finishes

    begin(proxy, fault, scripts_only(now_and_then(0.3, seed=2)))
    removed = await asyncio.gather(*(store.prune(keep_latest=10) for _ in range(COROUTINES)))
    await end(proxy)
    assert sum(removed) == statistics["total_rollouts"] - 10
    assert (await others.statistics())["total_rollouts"] == 10
    check(raw, namespace)
