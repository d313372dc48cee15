"""Memory that really runs short: spans are evicted in time, new work is refused before the server has to."""

import asyncio
import logging
import secrets

import pytest

from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.errors import AccessDeniedError, SpansEvictedError, StoreFullError
from lightning_store.healthcheck import HealthCheck
from tests.faults.test_memory_full import REFUSED
from tests.support.clock import START_TIME, SettableClock
from tests.support.crashing import run_and_die
from tests.support.factories import requests_for, span_of
from tests.support.ids import CountingIds
from tests.support.invariants import check, findings
from tests.support.keyspace import read_keyspace
from tests.support.mutations import MUTATIONS, set_scene
from tests.support.redis_server import RedisUnderTest
from tests.support.until import until

ROLLOUTS = 60


@pytest.fixture(scope="module")
def server():
    with RedisUnderTest(settings={"appendonly": "no"}) as server:
        yield server


@pytest.fixture
def raw(server):
    with server.client(decode_responses=False) as client:
        client.flushall()
        yield client
        client.config_set("maxmemory", "0")


def used(raw):
    return raw.info("memory")["used_memory"]


def fill_to(raw, share):
    """Set the limit so that the server has filled this share of it."""
    raw.config_set("maxmemory", int(used(raw) / share))


@pytest.fixture
async def store(open_store, server):
    """Looks at the memory only when it is told to."""
    return open_store(server, memory_check_seconds=None)


async def finished(store, count=ROLLOUTS, size=30_000):
    """So many rollouts, the last created finished first, each with 5 spans that cannot be compressed."""
    rollouts = [await store.start_rollout(number) for number in range(count)]
    for rollout in reversed(rollouts):
        text = {"text": secrets.token_hex(size // 2)}
        await store.add_many_spans([span_of(rollout, attributes=text) for _ in range(5)])
        await store.update_attempt(rollout.rollout_id, "latest", status="succeeded")
    return [rollout.rollout_id for rollout in reversed(rollouts)]


async def evicted_of(store, ids):
    found = []
    for id in ids:
        try:
            await store.query_spans(id)
        except SpansEvictedError:
            found.append(id)
    return found


async def test_oldest_finishes_lose_their_spans_until_the_safe_threshold(store, raw, namespace):
    ids = await finished(store)
    fill_to(raw, 0.8)
    limit = int(raw.config_get("maxmemory")["maxmemory"])

    count = await store.evict_spans()

    assert used(raw) <= 0.56 * limit + 100_000
    gone = await evicted_of(store, ids)
    assert gone == ids[:count]
    assert 0 < count < ROLLOUTS
    assert (await store.statistics())["total_spans"] == 5 * (ROLLOUTS - count)
    assert (await store.query_rollouts(status_in=["succeeded"], limit=0)).total == ROLLOUTS
    assert await store.evict_spans() == 0
    check(raw, namespace)
    assert (await store.audit()).findings == []


async def test_nothing_happens_below_the_threshold(store, raw):
    await finished(store, 10)
    fill_to(raw, 0.6)
    assert await store.evict_spans() == 0


async def test_writers_evict_in_the_background(open_store, server, raw, namespace, store):
    ids = await finished(store)
    fill_to(raw, 0.8)
    writer = open_store(server, memory_check_seconds=0.01)

    await writer.enqueue_rollout("task")
    await until(lambda: raw.hexists(f"{{ls:{namespace}}}:meta", "evicted"))
    await writer.close()

    assert await evicted_of(store, ids[:1]) == ids[:1]
    await store.evict_spans()
    check(raw, namespace)


async def test_daemon_evicts(open_store, server, raw, namespace, store):
    ids = await finished(store)
    fill_to(raw, 0.8)
    daemon = HealthCheck(open_store(server), interval=0.05)
    task = asyncio.create_task(daemon.run())
    await until(lambda: daemon.health()[1]["evicted"] > 0)
    daemon.stop()
    await task
    assert await evicted_of(store, ids[:1]) == ids[:1]
    assert (await store.audit(repair=True)).unrepaired == 0
    check(raw, namespace)


async def test_when_nothing_is_left_to_evict_it_is_looked_for_now_and_then_only(open_store, server, raw, store):
    for number in range(20):
        running = await store.start_rollout(number)
        await store.add_span(span_of(running, attributes={"text": secrets.token_hex(5000)}))
    fill_to(raw, 0.8)
    writer = open_store(server, memory_check_seconds=5)
    before = calls(raw)

    for _ in range(200):
        await writer.enqueue_rollout("task")
    await asyncio.sleep(0.1)

    looked, scripts = (now - then for now, then in zip(calls(raw), before, strict=True))
    assert looked <= 4  # one of the writer, perhaps a second after its look for spans, and two of this test
    assert scripts <= 204
    assert (await store.statistics())["total_spans"] == 20


def calls(raw):
    """How often INFO was asked, and scripts were run."""
    stats = raw.info("commandstats")
    names = (["cmdstat_info"], ["cmdstat_eval", "cmdstat_evalsha"])
    return [sum(stats.get(name, {"calls": 0})["calls"] for name in each) for each in names]


# -- high water --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def scene(open_store, server, raw):
    """A store that knows that the server is above high water, and what it holds."""
    clock = SettableClock()
    store = open_store(server, clock=clock, ids=CountingIds(), memory_check_seconds=0.3)
    scene = await set_scene(store, clock)
    fill_to(raw, 0.95)
    await store.evict_spans()  # a consumer protects all spans, so it looks and that is all
    return store, scene


@pytest.mark.parametrize("name", sorted(REFUSED))
async def test_above_high_water_new_work_is_refused_until_memory_falls(scene, raw, namespace, name):
    store, what = scene
    before = read_keyspace(raw, namespace)

    with pytest.raises(
        StoreFullError, match=r"(?s)Redis uses \d+ of \d+ bytes, above high_water_memory_threshold.*\d+"
    ):
        await MUTATIONS[name](store, what)

    assert read_keyspace(raw, namespace).without("events") == before.without("events")
    raw.config_set("maxmemory", "0")
    await asyncio.sleep(0.35)
    await MUTATIONS[name](store, what)
    check(raw, namespace)


@pytest.mark.parametrize("name", sorted(set(MUTATIONS) - REFUSED))
async def test_above_high_water_all_else_goes_on(scene, raw, namespace, name):
    store, what = scene
    await MUTATIONS[name](store, what)
    check(raw, namespace)


async def test_refusal_rests_on_a_fresh_reading(scene, raw):
    """Also when all calls before were refused, and many come at once."""
    store, _ = scene
    for _ in range(3):
        with pytest.raises(StoreFullError):
            await store.enqueue_rollout("task")
        await asyncio.sleep(0.35)
    raw.config_set("maxmemory", "0")
    await asyncio.sleep(0.35)
    assert len(await asyncio.gather(*(store.enqueue_rollout("task") for _ in range(20)))) == 20


async def test_user_who_may_not_see_the_memory_works_on_and_says_so_once(server, raw, namespace, caplog):
    raw.execute_command("ACL", "SETUSER", "blind", "on", ">secret", "~*", "+@all", "-info")
    place = server.url.rpartition("@")[2]
    blind = f"redis://blind:secret@{place}"
    store = RedisLightningStore(blind, namespace=namespace, memory_check_seconds=0)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            await store.enqueue_rollout("task")
            await asyncio.sleep(0.01)
    with pytest.raises(AccessDeniedError):
        await store.evict_spans()
    await store.close()
    raw.execute_command("ACL", "DELUSER", "blind")
    told = [each.getMessage() for each in caplog.records]
    assert sum("memory cannot be seen" in each for each in told) == 1, told


# -- in the middle -----------------------------------------------------------------------------------------------------


async def marked_only(store):
    """Spans are marked as evicted, and the client is gone before it dropped them."""
    ids = await finished(store, 6, size=100)
    await store._run("evict_spans", now="", token=store.ids.token(), dropped="", limit=3)
    report = await store.audit()
    assert (report.findings, len(report.unchecked)) == ([], 1)  # somebody may be about to drop them
    await store._connections.command("DEL", store._keys.control("steps"))  # as if that had been long ago
    return ids


async def test_next_eviction_drops_what_was_only_marked(store, raw, namespace):
    ids = await marked_only(store)
    assert len(findings(read_keyspace(raw, namespace))) > 0
    assert await evicted_of(store, ids) == ids[:3]

    fill_to(raw, 0.8)
    await store.evict_spans()

    assert await evicted_of(store, ids) == ids
    check(raw, namespace)
    assert (await store.audit()).findings == []


async def test_audit_drops_what_was_only_marked(store, raw, namespace):
    ids = await marked_only(store)
    report = await store.audit(repair=True)
    assert [(finding.rule, finding.count, finding.repaired) for finding in report.findings] == [("spans", 3, 3)]
    assert await evicted_of(store, ids) == ids[:3]
    check(raw, namespace)


async def test_what_was_only_marked_can_be_deleted(store, raw, namespace):
    ids = await marked_only(store)
    assert await store.delete_rollouts(ids) == ids
    assert await store.prune(keep_latest=0) == 0
    check(raw, namespace)


async def test_what_was_marked_and_reopened_keeps_its_new_spans(store, raw, namespace):
    """The one that drops comes late."""
    ids = await finished(store, 1, size=100)
    last, rollouts = await store._run("evict_spans", now="", token="a", dropped="", limit=3)
    again = await store.start_attempt(ids[0])
    await store.add_many_spans([span_of(again) for _ in range(3)])

    await store._drop_spans(rollouts)
    await store._drop_spans(rollouts)
    await store._run("evict_spans", now="", token="a", dropped=last, limit=0)

    assert (await store.query_spans(ids[0], "latest")).total == 3
    check(raw, namespace)


async def test_store_that_is_closed_while_it_evicts_leaves_nothing_half_done(open_store, server, raw, namespace, store):
    await finished(store)
    for number in range(15):
        evicting = open_store(server, memory_check_seconds=None, eviction_memory_threshold=1, safe_memory_threshold=1)
        call = asyncio.create_task(evicting.evict_spans())
        await asyncio.sleep(0.001 * number)
        call.cancel()
        await asyncio.wait([call])
        await evicting.close()
        check(raw, namespace)


async def evict(store):
    await store.evict_spans()


def test_process_that_is_killed_while_it_evicts_leaves_what_the_next_one_mends(server, raw, namespace):
    async def prepare(name):
        store = RedisLightningStore(server.url, namespace=name, memory_check_seconds=None)
        ids = await finished(store, 60, size=10)
        await store.close()
        return ids

    async def outcome(name):
        store = RedisLightningStore(server.url, namespace=name, memory_check_seconds=None)
        await store.evict_spans()
        left = await store.query_many_spans([])
        total = (await store.statistics())["total_spans"]
        report = await store.audit()
        await store.close()
        return left, total, report.findings

    commands, killed = 0, True
    while killed:
        commands += 7
        name = f"{namespace}-{commands}"
        asyncio.run(prepare(name))
        raw.config_set("maxmemory", "1")
        killed = run_and_die(server.url, name, START_TIME, evict, commands)
        assert asyncio.run(outcome(name)) == ({}, 0, [])
        assert findings(read_keyspace(raw, name)) == [], f"after {commands} commands"
        raw.config_set("maxmemory", "0")
        raw.flushall()
    assert commands > 40


async def test_many_evict_at_once_while_work_goes_on(open_store, server, raw, namespace, store):
    ids = await finished(store, 120, size=500)
    raw.config_set("maxmemory", "0")
    evicting = [
        open_store(server, memory_check_seconds=None, eviction_memory_threshold=1, safe_memory_threshold=1)
        for _ in range(4)
    ]

    async def work():
        for number in range(30):
            late = await store.get_latest_attempt(ids[number])
            await store.add_many_spans([span_of(late), span_of(late)], renumber=True)
            again = await store.start_attempt(ids[number + 60])
            await store.add_span(span_of(again))
            await store.update_attempt(again.rollout_id, "latest", status="failed")
            await store.delete_rollouts([ids[number + 90]])

    await asyncio.gather(work(), *(each.evict_spans() for each in evicting), *(each.evict_spans() for each in evicting))
    await evicting[0].evict_spans()

    assert (await store.statistics())["total_spans"] == 0
    assert (await store.audit()).findings == []
    check(raw, namespace)


async def test_enqueue_of_many_is_refused_as_a_whole(scene, raw, namespace):
    store, _ = scene
    with pytest.raises(StoreFullError):
        await store.enqueue_many_rollouts(requests_for(range(100)))
    assert (await store.statistics())["total_rollouts"] == 9
