"""The network cuts, delays and freezes connections, or the server refuses: yet each call takes effect once."""

import asyncio
import itertools
import math
import random
import re
from collections import Counter

import pytest

from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.errors import StoreUnavailableError
from lightning_store.operations import OPERATIONS
from tests.support.clock import SettableClock
from tests.support.factories import claim, requests_for, some_resources, span_of
from tests.support.fates import fates
from tests.support.ids import CountingIds
from tests.support.invariants import check
from tests.support.keyspace import comparable, read_keyspace
from tests.support.mutations import ANSWERS_MAY_DIFFER, MUTATIONS, OTEL_SPAN, RETRIED, set_scene
from tests.support.proxy import Fault, every_other, now_and_then, the_first
from tests.support.until import until

COROUTINES = 32
SOCKET_SECONDS = 0.1
RETRY_SECONDS = 120.0
"""Longer than a test may take. On a busy machine most answers that come too late for SOCKET_SECONDS are no fault that a
test has made, and a call may meet with any number of them."""
FROZEN_SECONDS = 0.25
DELAY_SECONDS = 0.05
MISDEEDS = [fault for fault in Fault if fault is not Fault.REFUSAL]
each_misdeed = pytest.mark.parametrize("fault", MISDEEDS, ids=lambda fault: fault.name.lower())


@pytest.fixture
async def store(proxy, namespace):
    """Gives up a connection soon, and a call never."""
    store = RedisLightningStore(
        proxy.url, namespace=namespace, socket_seconds=SOCKET_SECONDS, retry_seconds=RETRY_SECONDS
    )
    yield store
    proxy.judge = None
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


def only_by_sha(message):
    """Whether a message has nothing but scripts by their hash: no server answers anything else with NOSCRIPT."""
    names = set(re.findall(rb"\*\d+\r\n\$\d+\r\n(\w+)\r\n", message))
    return names == {b"EVALSHA"} and message.startswith(b"*")  # not in the middle of an EVAL


# -- every operation by itself ---------------------------------------------------------------------------------------


async def perform(name, url, namespace, raw, proxy=None, fault=None):
    """One operation on the scene, a fault for every other message; its answer, and all that is stored."""
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


@pytest.fixture(scope="module")
def undisturbed():
    """By operation, what it answers and leaves stored when nothing happens."""
    return {}


@each_misdeed
@pytest.mark.parametrize("name", [name for name, row in OPERATIONS.items() if row.mutates])
async def test_effect_and_answer_are_those_of_an_undisturbed_call(
    name, fault, redis_url, proxy, raw, namespace, undisturbed
):
    if name not in undisturbed:
        undisturbed[name] = await perform(name, redis_url, f"{namespace}-calm", raw)
    answer, keys = undisturbed[name]
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
        first = await store.acknowledge_completions(self.name)
        later = await store.acknowledge_completions(self.name, "latest")
        assert (first.cursor, later.name, later.cursor > first.cursor) == ("0-0", self.name, True)
        assert await store.forget_consumer(self.name) is True
        assert await store.evict_spans() == 0


def test_lives_know_every_operation():
    """Besides `prune` and `audit`, which they carry out together in the end."""
    names = {name for function in vars(Life).values() if hasattr(function, "__code__")
             for name in (*function.__code__.co_names, *itertools.chain.from_iterable(
                 const.co_names for const in function.__code__.co_consts if hasattr(const, "co_names")))}  # fmt: skip
    assert {name for name, row in OPERATIONS.items() if row.mutates} - names - {
        "prune",
        "audit",
        "dequeue_rollout",
    } == set()


@each_misdeed
async def test_all_operations_by_many_at_once_take_effect_once(fault, store, proxy, others, raw, namespace):
    await Life(others, "calm").live()  # all scripts are cached then
    await others.delete_rollouts([each.rollout_id for each in (await others.query_rollouts()).items])
    begin(proxy, fault, scripts_only(now_and_then(0.15, seed=1)))
    await asyncio.gather(*(Life(store, number).live() for number in range(COROUTINES)))
    await end(proxy)

    assert proxy.lost_commands > 20
    check(raw, namespace)
    statistics = await others.statistics()
    assert statistics["total_rollouts"] == COROUTINES * Life.finished
    assert statistics["total_attempts"] == COROUTINES * Life.attempts
    assert statistics["total_spans"] == COROUTINES * Life.spans
    assert statistics["total_resources"] == (COROUTINES + 1) * 2
    completions = (await others.completions(limit=10_000)).items
    assert len(completions) == COROUTINES * Life.finishes

    begin(proxy, fault, scripts_only(now_and_then(0.3, seed=2)))
    audits = [asyncio.ensure_future(store.audit(repair=True)) for _ in range(3)]
    removed = await asyncio.gather(*(store.prune(keep_latest=10) for _ in range(COROUTINES)))
    assert [report.findings for report in await asyncio.gather(*audits)] == [[]] * 3
    await end(proxy)
    assert sum(removed) == statistics["total_rollouts"] - 10
    assert (await others.statistics())["total_rollouts"] == 10
    check(raw, namespace)


# -- the server refuses ----------------------------------------------------------------------------------------------

REFUSALS = [
    "READONLY You can't write against a read only replica.",
    "LOADING Redis is loading the dataset in memory",
    "CLUSTERDOWN The cluster is down",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "MOVED 3999 127.0.0.1:6381",
    "ASK 3999 127.0.0.1:6381",
    "MISCONF Redis is configured to save RDB snapshots, but it is currently not able to persist on disk.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "NOREPLICAS Not enough good replicas to write.",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
]
each_refusal = pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.partition(" ")[0])


@pytest.mark.parametrize(
    "refusal",
    [*REFUSALS, "NOSCRIPT No matching script. Please use EVAL."],
    ids=lambda refusal: refusal.partition(" ")[0],
)
async def test_operations_that_are_refused_now_and_then_take_effect_once(refusal, store, proxy, others, raw, namespace):
    proxy.refusal = refusal
    chosen = now_and_then(0.25, seed=5)
    begin(proxy, Fault.REFUSAL, lambda message: only_by_sha(message) and chosen(message))
    await asyncio.gather(*(Life(store, number).live() for number in range(4)))
    await end(proxy)

    assert proxy.lost_commands > 20
    assert len((await others.completions()).items) == 4 * Life.finishes
    assert (await others.statistics())["total_attempts"] == 4 * Life.attempts
    check(raw, namespace)


@each_refusal
async def test_refusal_that_lasts_is_an_outage_and_no_empty_answer(refusal, proxy, raw, namespace):
    store = RedisLightningStore(proxy.url, namespace=namespace, retry_seconds=0.1)
    queued = await store.enqueue_rollout("task")
    proxy.refusal = refusal
    begin(proxy, Fault.REFUSAL, lambda message: True)
    calls = [
        store.enqueue_rollout("more"), store.dequeue_rollout("w"), store.dequeue_rollout("w", timeout=0.1),
        store.dequeue_rollout("w", timeout=0.1, lease_seconds=9), store.query_rollouts(), store.statistics(),
        store.wait_for_rollouts(rollout_ids=[queued.rollout_id], timeout=0.1), store.completions(timeout=0.1),
        store.cancel_rollouts(group_id="g"), store.prune(keep_latest=0), store.expire_attempts(),
    ]  # fmt: skip
    answers = await asyncio.gather(*calls, return_exceptions=True)
    await end(proxy)

    assert [type(answer) for answer in answers] == [StoreUnavailableError] * len(calls)
    assert {"MOVED": "Cluster", "ASK": "Cluster"}.get(refusal.split()[0], "out of reach") in str(answers[0])
    assert (await claim(store)).rollout_id == queued.rollout_id
    await store.close()
    check(raw, namespace)


# -- waiting claims --------------------------------------------------------------------------------------------------

ROLLOUTS = 32
DISTURBED_SECONDS = 2.0
CANCELLED = 8
"""So many of the waiters at each disturbance: few of them have a message under way."""
LEASE_SECONDS = 600
"""Longer than a test may take: a rollout that is claimed for somebody who is gone does not come back meanwhile."""
CALM_SECONDS = 60.0
"""Bound for what is still to do when the disturbances end: one wait of 6 s may be frozen, the rest is the machine's. It
only has to be below the lease, for nothing else brings a lost claim back."""


def the_second(word):
    """Chooses the second message that contains a word."""
    count = itertools.count(1)
    return lambda message: word in message and next(count) == 2


@each_misdeed
@pytest.mark.parametrize(
    ("lease", "judge"),
    [(None, lambda: the_first(b"BLPOP")), (None, lambda: the_second(b"EVALSHA")), (60, lambda: the_first(b"BLPOP"))],
    ids=["wait", "claim after it", "both at once"],
)
async def test_waiter_gets_its_rollout_once_whatever_becomes_of_its_messages(
    fault, lease, judge, store, proxy, others, raw, namespace
):
    assert await others.dequeue_rollout() is None  # the script is cached then
    begin(proxy, fault, judge())
    waits = asyncio.create_task(store.dequeue_rollout("w", timeout=30, lease_seconds=lease))
    await until(lambda: proxy.lost > 0 or raw.info("clients")["blocked_clients"] > 0)
    queued = await others.enqueue_rollout("task")
    claimed = await asyncio.wait_for(waits, 4)  # not a fallback interval later
    await end(proxy)

    assert proxy.lost == 1
    assert (claimed.rollout_id, claimed.attempt.sequence_id) == (queued.rollout_id, 1)
    assert await others.dequeue_rollout() is None
    check(raw, namespace)


async def disturb(proxy, waiters, restart, dice):
    """Cut all connections at random, and cancel some of the waiters if they can be started again."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + DISTURBED_SECONDS
    while loop.time() < ends:
        await asyncio.sleep(dice.uniform(0.0, 0.1))
        if dice.random() < 0.3:
            proxy.cut()
        if restart is not None:
            numbers = dice.sample(range(COROUTINES), CANCELLED)
            for number in numbers:
                waiters[number].cancel()
            await asyncio.wait([waiters[number] for number in numbers])
            for number in numbers:
                waiters[number] = restart(number)


@pytest.mark.parametrize("cancelled", [False, True], ids=["cut", "cut and cancelled"])
@pytest.mark.parametrize("lease", [None, LEASE_SECONDS], ids=["asked first", "sent with the wait"])
@pytest.mark.parametrize(
    "fault", [Fault.LOST_ANSWER, Fault.FROZEN_ANSWER, Fault.FROZEN_MESSAGE], ids=lambda fault: fault.name.lower()
)
async def test_each_rollout_is_worked_on_once_by_waiters_that_are_disturbed(
    fault, lease, cancelled, store, proxy, others, raw, namespace
):
    """32 wait on one store; those who are cancelled hand back what they were given, and others get it.

    How much of it is done while they are disturbed is up to the machine. In the calm after that all of it has to be.
    """
    dice = random.Random(3)  # noqa: S311 - repeatable on purpose
    delivered, ended = Counter(), Counter()

    async def wait_and_work(number):
        while True:
            rollout = await claim(store, f"w{number}", timeout=math.inf, lease_seconds=lease)
            delivered[rollout.rollout_id] += 1
            # Whoever has work finishes it; only waits are cancelled.
            finish = asyncio.ensure_future(
                store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, status="succeeded")
            )
            finishing.add(finish)
            await asyncio.shield(finish)
            ended[rollout.rollout_id] += 1

    finishing = set()

    def start(number):
        return asyncio.create_task(wait_and_work(number))

    waiters = [start(number) for number in range(COROUTINES)]
    begin(proxy, fault, now_and_then(0.2, seed=4))
    disturbing = asyncio.create_task(disturb(proxy, waiters, start if cancelled else None, dice))
    ids = []
    for number in range(ROLLOUTS):
        ids.append((await others.enqueue_rollout(number)).rollout_id)
        await asyncio.sleep(dice.uniform(0.0, 0.1))
    await disturbing
    proxy.judge = None
    finished = {each.rollout_id for each in await others.wait_for_rollouts(rollout_ids=ids, timeout=CALM_SECONDS)}
    unfinished = [rollout_id for rollout_id in ids if rollout_id not in finished]
    assert not unfinished, await fates(others, unfinished)
    await asyncio.gather(*finishing)
    for waiter in waiters:
        waiter.cancel()
    await asyncio.wait(waiters)
    await end(proxy)
    await until(lambda: not store._loops.get().background)

    assert [type(waiter.exception()) for waiter in waiters if not waiter.cancelled()] == []
    assert delivered == dict.fromkeys(ids, 1)
    assert Counter(each.rollout_id for each in (await others.completions()).items) == dict.fromkeys(ids, 1)
    attempts = [await others.query_attempts(rollout_id) for rollout_id in ids]
    assert {attempt.cause for tried in attempts for attempt in tried.items[:-1]} <= {"released"}
    assert cancelled or [len(tried.items) for tried in attempts] == [1] * ROLLOUTS
    assert not any(len(line) for line in store._loops.get().lines.values())
    assert await others.dequeue_rollout() is None
    check(raw, namespace)


@pytest.mark.parametrize("options", [{}, {"timeout": 0.1, "lease_seconds": 60}], ids=["claim", "wait"])
async def test_claim_that_arrives_late_claims_nothing_for_nobody(options, store, proxy, others, raw, namespace):
    """The client has given the connection up, asked again, and been told that there is nothing."""
    assert await others.dequeue_rollout() is None  # the script is cached then
    begin(proxy, Fault.FROZEN_MESSAGE, the_first(b"BLPOP" if options else b"EVALSHA"))
    proxy.seconds = 4 * FROZEN_SECONDS
    assert await store.dequeue_rollout("w", **options) is None
    assert not proxy.is_quiet
    queued = await others.enqueue_rollout("task")
    await end(proxy)

    assert (await others.get_rollout_by_id(queued.rollout_id)).status == "queuing"
    assert (await claim(others)).rollout_id == queued.rollout_id
    check(raw, namespace)


async def test_creation_that_arrives_late_does_not_bring_back_what_was_deleted(store, proxy, others, raw, namespace):
    await others.enqueue_rollout("first")  # the script is cached then
    begin(proxy, Fault.FROZEN_MESSAGE, the_first(b"EVALSHA"))
    queued = await store.enqueue_rollout("task")
    await others.cancel_rollouts([queued.rollout_id])
    assert await others.delete_rollouts([queued.rollout_id]) == [queued.rollout_id]
    await end(proxy)

    assert proxy.lost == 1
    assert await others.get_rollout_by_id(queued.rollout_id) is None
    check(raw, namespace)
