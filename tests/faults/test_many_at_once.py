"""Many processes, threads, loops, forks and copies of a store at once: every queued rollout is claimed once."""

import asyncio
import json
import os
import pickle
import subprocess
import sys
import threading
import warnings
from collections import Counter

from tests.support.factories import requests_for
from tests.support.invariants import check
from tests.support.racing import READY, RETRIED, claim_all
from tests.support.until import until

SECONDS = 100


async def enqueue(store, count):
    await store.enqueue_many_rollouts(requests_for(range(count), config=RETRIED))


async def assert_each_was_claimed_once(store, raw, claims, count):
    """Each rollout once per number, from 1 on without a gap, until it succeeded; and the store says the same."""
    outcomes = {(rollout_id, number): status for rollout_id, number, status in claims}
    assert len(outcomes) == len(claims), "claimed twice"
    tries = Counter(rollout_id for rollout_id, _, _ in claims)
    assert len(tries) == count
    for rollout_id, last in tries.items():
        told = [outcomes.get((rollout_id, number)) for number in range(1, last + 1)]
        assert told == ["failed"] * (last - 1) + ["succeeded"]
    statistics = await store.statistics()
    assert statistics["rollouts_by_status"]["succeeded"] == count
    assert statistics["total_attempts"] == len(claims) > count
    completed = Counter(each.rollout_id for each in (await store.completions(limit=10 * count)).items)
    assert completed == dict.fromkeys(tries, 1)
    check(raw, store.namespace)


# -- processes ---------------------------------------------------------------------------------------------------------


def start_racers(url, namespace, count):
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.racing", url, namespace, f"process-{number}", "8"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]


def race(racers):
    """What each of them claimed."""
    try:
        for racer in racers:
            assert racer.stdout.readline().strip() == READY
        for racer in racers:
            racer.stdin.write("go\n")
            racer.stdin.flush()
        return [json.loads(racer.communicate(timeout=SECONDS)[0]) for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()


async def test_processes_that_race(redis_server, open_store, raw, namespace):
    store, count = open_store(redis_server), 1200
    await enqueue(store, count)

    shares = await asyncio.to_thread(lambda: race(start_racers(redis_server.url, namespace, 4)))

    assert sum(map(bool, shares)) > 1, "there was no race"
    await assert_each_was_claimed_once(store, raw, [tuple(claim) for share in shares for claim in share], count)


# -- threads and loops -------------------------------------------------------------------------------------------------


async def test_threads_with_loops_that_come_and_go_share_one_store(redis_server, open_store, raw):
    store, count = open_store(redis_server), 400
    await enqueue(store, count)
    claims = []

    async def work_a_little(name):
        await claim_all(store, name, claims, coroutines=3, batches=2)
        await store.close()

    def work(number):
        for turn in range(3):
            asyncio.run(work_a_little(f"thread-{number}-{turn}"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    await claim_all(store, "here", claims, coroutines=2)
    for thread in threads:
        await asyncio.to_thread(thread.join, SECONDS)
        assert not thread.is_alive()
    await claim_all(store, "last", claims)  # what the threads failed with their last batches

    await assert_each_was_claimed_once(store, raw, claims, count)


# -- copies of a store -------------------------------------------------------------------------------------------------


async def test_forked_children_race_beside_calls_in_flight(redis_server, open_store, raw, tmp_path):
    store, count = open_store(redis_server), 600
    await enqueue(store, count // 2)
    claims = []
    parent = asyncio.create_task(claim_all(store, "parent", claims))
    await until(lambda: len(claims) > 10)

    children = [fork(store, tmp_path / f"child-{number}") for number in range(3)]
    for _, path in children:
        await until_known(store, path.name)
    await enqueue(store, count // 2)
    await parent
    for pid, _ in children:
        _, status = await asyncio.to_thread(os.waitpid, pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0

    shares = [[tuple(claim) for claim in json.loads(path.read_text())] for _, path in children]
    assert any(shares), "there was no race"
    await claim_all(store, "last", claims)  # a child that was slow to come may have found the others gone
    await assert_each_was_claimed_once(store, raw, [*claims, *(claim for share in shares for claim in share)], count)


async def until_known(store, name):
    """Until one of the workers of that name has claimed, in vain perhaps."""

    async def is_known():
        return (await store.query_workers(worker_id_contains=name)).total > 0

    await until(is_known)


def fork(store, path):
    """A child that races with the very store object of its parent, on a thread: the parent's loop runs on this one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: the test process has threads
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            claims = []
            thread = threading.Thread(target=lambda: asyncio.run(claim_all(store, path.name, claims)))
            thread.start()
            thread.join(SECONDS)
            path.write_text(json.dumps(claims))
            code = int(thread.is_alive())
        finally:
            os._exit(code)
    return pid, path


async def test_pickled_copies_race_with_the_original(redis_server, open_store, raw):
    store, count = open_store(redis_server), 400
    await enqueue(store, count)
    claims = []
    original = asyncio.create_task(claim_all(store, "original", claims, coroutines=4))
    await until(lambda: len(claims) > 10)

    copies = [pickle.loads(pickle.dumps(store)) for _ in range(3)]  # noqa: S301 - our own bytes
    races = [claim_all(copy, f"copy-{number}", claims, coroutines=4) for number, copy in enumerate(copies)]
    await asyncio.gather(original, *races)
    for copy in copies:
        await copy.close()

    await assert_each_was_claimed_once(store, raw, claims, count)
