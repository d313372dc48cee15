"""The log of transitions, read as it grows, and what is counted from it."""

import asyncio
import logging
import time

import fakeredis
import pytest
from prometheus_client import CollectorRegistry

from lightning_store.backends.memory import InMemoryLightningStore
from lightning_store.backends.memory import state as memory_state
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.backends.sqlite import SQLiteLightningStore
from lightning_store.base import BaseStore
from lightning_store.errors import AccessDeniedError, InvalidRequestError, StoreUnavailableError
from lightning_store.metrics import events as module
from lightning_store.metrics.events import EventCounter
from lightning_store.records import RolloutConfig
from tests.support.clock import SettableClock
from tests.support.scraping import scrape_registry
from tests.support.until import until

KEPT = 200  # Redis trims by whole nodes of 100 entries
RETRIED = RolloutConfig(max_attempts=9, retry_condition=["failed", "timeout", "unresponsive"], timeout_seconds=60)


@pytest.fixture
def clock():
    return SettableClock()


@pytest.fixture(params=["memory", "sqlite", "redis", "fakeredis"])
async def store(request, clock, monkeypatch, tmp_path):
    monkeypatch.setattr(memory_state, "EVENTS_KEPT", KEPT)
    if request.param == "memory":
        store = InMemoryLightningStore(clock=clock)
    elif request.param == "sqlite":
        store = SQLiteLightningStore(tmp_path / "store.db", clock=clock, events_kept=KEPT)
    else:
        fake = fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer())
        source = fake if request.param == "fakeredis" else request.getfixturevalue("redis_url")
        namespace = request.getfixturevalue("namespace")
        store = RedisLightningStore(source, namespace=namespace, clock=clock, events_kept=KEPT)
    yield store
    await store.close()


@pytest.fixture
async def redis_store(redis_url, namespace):
    store = RedisLightningStore(redis_url, namespace=namespace, events_kept=KEPT)
    yield store
    await store.close()


class Counted:
    """What is counted from the log of a store."""

    def __init__(self, store) -> None:
        self.registry = CollectorRegistry()
        self.counter = EventCounter(store, self.registry)

    async def __call__(self):
        await self.counter.catch_up()
        return scrape_registry(self.registry)


async def enqueue(store, number):
    for _ in range(number):
        await store.enqueue_rollout("task", config=RETRIED)


async def claim_and_end(store, status):
    claimed = await store.dequeue_rollout("w")
    await store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status=status)
    return claimed


async def pages_after(store, cursor, limit=1000):
    """All that follows, page by page: events, the last cursor, and what was missed in each."""
    found, missed, more = [], [], True
    while more:
        page = await store.events_after(cursor, limit=limit)
        found, cursor, more = [*found, *page.events], page.cursor, page.more
        missed.append(page.missed)
    return found, cursor, missed


# -- the log ---------------------------------------------------------------------------------------------------------


async def test_every_event_comes_once_whatever_the_pages(store):
    start = (await store.events_after(None)).cursor
    await enqueue(store, 25)
    found, cursor, missed = await pages_after(store, start, limit=10)
    assert found == await store.query_events()
    assert set(missed) == {0}
    await claim_and_end(store, "succeeded")
    found, cursor, missed = await pages_after(store, cursor)
    assert ([event.cause for event in found], missed) == (["claimed", "agent"], [0])
    assert await pages_after(store, cursor) == ([], cursor, [0])


async def test_start_is_the_end_of_the_log(store):
    await enqueue(store, 3)
    page = await store.events_after(None)
    assert (page.events, page.more, page.missed) == ((), False, 0)
    await enqueue(store, 1)
    found, _, missed = await pages_after(store, page.cursor)
    assert (len(found), missed) == (1, [0])


@pytest.mark.parametrize("cursor", ["", "x", "1-1", "1-1/x", "/", "-1"])
async def test_cursor_of_no_page_is_refused(store, cursor):
    with pytest.raises(InvalidRequestError, match="cursor: expected one of an earlier page"):
        await store.events_after(cursor)
    with pytest.raises(InvalidRequestError, match="limit"):
        await store.events_after(None, limit=0)


async def test_what_was_dropped_unread_is_told_to_the_number(redis_store):
    """On a real Redis from version 7, which says how many entries there ever were; and in memory, below."""
    if not await tells_how_many(redis_store):
        pytest.skip("this redis-server does not tell how many entries a stream was given")
    await check_number_of_missed(redis_store)


async def test_memory_tells_what_was_dropped_unread(monkeypatch):
    monkeypatch.setattr(memory_state, "EVENTS_KEPT", KEPT)
    store = InMemoryLightningStore()
    await check_number_of_missed(store)
    await store.close()


async def test_sqlite_tells_what_was_dropped_unread(tmp_path):
    store = SQLiteLightningStore(tmp_path / "store.db", events_kept=KEPT)
    await check_number_of_missed(store)
    await store.close()


async def test_other_process_goes_on_where_a_reader_of_a_file_was(tmp_path):
    stores = [SQLiteLightningStore(tmp_path / "store.db") for _ in range(2)]
    await enqueue(stores[0], 2)
    cursor = (await stores[0].events_after(None)).cursor
    await enqueue(stores[1], 3)
    found, cursor, missed = await pages_after(stores[1], cursor, limit=2)
    assert (len(found), cursor, missed) == (3, "5", [0, 0])
    for store in stores:
        await store.close()


@pytest.mark.parametrize("store", ["memory", "sqlite"], indirect=True)
async def test_cursor_beyond_the_end_goes_on_from_the_end(store):
    """As after a file was put back from a copy of it."""
    await enqueue(store, 3)
    found, cursor, missed = await pages_after(store, "7")
    assert (found, cursor, missed) == ([], "3", [0])


async def check_number_of_missed(store):
    await enqueue(store, 7)
    cursor = (await store.events_after(None)).cursor
    for number in (5, 3 * KEPT, 40, 2 * KEPT):
        await enqueue(store, number)
        found, cursor, missed = await pages_after(store, cursor, limit=64)
        assert len(found) + sum(missed) == number
        assert missed[1:] == [0] * (len(missed) - 1), "a gap is told where it is"
        assert (missed[0] > 0) == (number > 2 * KEPT - 1)


async def test_gap_of_an_unknown_number_is_told_as_such(redis_store, monkeypatch):
    """As on Redis 6.2, which does not tell how many entries there ever were."""
    original = redis_store._run

    async def without_number(script, **values):
        answer = await original(script, **values)
        return [answer[0], b"", *answer[2:]] if script == "read_events" else answer

    monkeypatch.setattr(redis_store, "_run", without_number)
    await enqueue(redis_store, 5)
    cursor = (await redis_store.events_after(None)).cursor
    await enqueue(redis_store, 5)
    found, cursor, missed = await pages_after(redis_store, cursor)
    assert (len(found), missed) == (5, [0])
    await enqueue(redis_store, 3 * KEPT)
    found, cursor, missed = await pages_after(redis_store, cursor, limit=10_000)
    assert missed == [None]
    scrape = await gap_of(redis_store)
    assert (scrape("namespace_event_gaps_total"), scrape("namespace_missed_events_total")) == (1, 0)


async def gap_of(store):
    counted = Counted(store)
    await counted()
    await enqueue(store, 3 * KEPT)
    return await counted()


async def test_log_that_began_anew_is_followed(redis_store):
    await enqueue(redis_store, 9)
    cursor = (await redis_store.events_after(None)).cursor
    await redis_store._connections.command("DEL", redis_store._keys.control("events"))
    assert await pages_after(redis_store, cursor) == ([], "0-0/0", [0])
    last = int(cursor.partition("-")[0])
    await until(lambda: time.time() * 1000 > last + 1)  # ids are times; within a millisecond both logs have the same
    await enqueue(redis_store, 4)
    found, after, missed = await pages_after(redis_store, cursor, limit=3)
    assert (len(found), missed[-1]) == (4, 0)
    assert missed[0] in {0, None}  # before Redis 7 it cannot be known
    await enqueue(redis_store, 1)
    found, _, missed = await pages_after(redis_store, after)
    assert (len(found), missed) == (1, [0])


async def test_log_that_lost_its_end_in_a_failover_is_followed(redis_store):
    await enqueue(redis_store, 3)
    before = (await redis_store.events_after(None)).cursor
    ahead = f"{int(before.partition('-')[0]) + 60_000}-0/{int(before.partition('/')[2]) + 5}"
    found, cursor, missed = await pages_after(redis_store, ahead)
    assert (found, cursor, missed) == ([], before, [0])


async def tells_how_many(store):
    await enqueue(store, 1)
    return b"entries-added" in await store._connections.command("XINFO", "STREAM", store._keys.control("events"))


# -- what is counted -------------------------------------------------------------------------------------------------


async def test_claims_ends_and_requeues_are_counted_by_cause(store, clock):
    counted = Counted(store)
    await counted()
    await enqueue(store, 4)
    await claim_and_end(store, "succeeded")
    await claim_and_end(store, "failed")
    claimed = await store.dequeue_rollout("w")
    await store.release_attempt(claimed.rollout_id, claimed.attempt.attempt_id)
    await store.dequeue_rollout("w", lease_seconds=10)
    clock.advance(11)
    await store.expire_attempts()
    scrape = await counted()
    assert scrape("namespace_claims_total") == 4
    assert scrape.all("namespace_attempts_ended_total") == {
        ("agent", "succeeded"): 1, ("agent", "failed"): 1, ("released", "failed"): 1,
        ("worker_lost", "unresponsive"): 1,
    }  # fmt: skip
    assert scrape.all("namespace_requeues_total") == {("agent",): 1, ("released",): 1, ("worker_lost",): 1}
    assert scrape.all("namespace_events_total") == {
        ("enqueued",): 4, ("claimed",): 4, ("agent",): 2, ("released",): 1, ("worker_lost",): 1,
    }  # fmt: skip
    assert scrape("namespace_events_total", cause="cancelled") == 0
    assert scrape("namespace_last_claim_timestamp_seconds") == pytest.approx(clock.now() - 11)
    assert (scrape("namespace_event_gaps_total"), scrape("namespace_missed_events_total")) == (0, 0)


async def test_what_happened_before_is_not_counted(store):
    await enqueue(store, 1)
    await claim_and_end(store, "succeeded")
    assert (await Counted(store)()).all("namespace_events_total") == {}


async def test_cancelled_rollouts_end_no_attempt_until_their_runner_says_so(store):
    counted = Counted(store)
    await counted()
    await enqueue(store, 3)
    retried = await claim_and_end(store, "failed")
    held = await store.dequeue_rollout("w")
    await store.cancel_rollouts(status_in=["queuing", "requeuing", "preparing"])
    scrape = await counted()
    assert scrape("namespace_events_total", cause="cancelled") == 3
    assert scrape.all("namespace_attempts_ended_total") == {("agent", "failed"): 1}
    await store.update_attempt(held.rollout_id, held.attempt.attempt_id, status="failed")
    assert (await counted()).all("namespace_attempts_ended_total") == {
        ("agent", "failed"): 1,
        ("cancelled", "failed"): 1,
    }
    assert retried.rollout_id != held.rollout_id


async def test_late_report_of_a_waiting_rollout_is_no_second_requeue(store):
    counted = Counted(store)
    await counted()
    await enqueue(store, 1)
    claimed = await claim_and_end(store, "timeout")
    await store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status="failed")
    scrape = await counted()
    assert scrape.all("namespace_requeues_total") == {("timeout",): 1}
    assert sum(scrape.all("namespace_attempts_ended_total").values()) == 2, "an end that was corrected counts again"


async def test_memory_of_waiting_rollouts_is_bounded(store, monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED", 3)
    counted = Counted(store)
    await counted()
    await enqueue(store, 5)
    claimed = await store.dequeue_many_rollouts(limit=5)
    for rollout in claimed:
        await store.update_attempt(rollout.rollout_id, "latest", status="failed")
    assert (await counted())("namespace_requeues_total", cause="agent") == 5
    assert len(counted.counter._waiting) == 3


class Moody(InMemoryLightningStore):
    """Raises what it is told to when it is asked for events."""

    error: Exception | None = None
    asked = 0

    async def events_after(self, cursor, *, limit=1000):
        self.asked += 1
        if self.error is not None:
            raise self.error
        return await super().events_after(cursor, limit=limit)


async def test_outages_are_sat_out_and_faults_logged(monkeypatch, caplog):
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    store = Moody()
    counted = Counted(store)
    running = asyncio.ensure_future(counted.counter.run())
    await until(lambda: store.asked > 0)
    for error in (StoreUnavailableError("away"), RuntimeError("a fault of ours")):
        store.error, asked = error, store.asked
        await until(lambda asked=asked: store.asked > asked + 1)
    store.error = None
    await enqueue(store, 2)
    await until(lambda: scrape_registry(counted.registry)("namespace_events_total", cause="enqueued") == 2)
    assert "a fault of ours" in caplog.text
    assert "away" not in caplog.text, "the sweeps tell it"
    running.cancel()
    await asyncio.wait({running})
    await store.close()


@pytest.mark.parametrize(
    "store", [Moody(), BaseStore(ids=None, max_queued=None, payloads=None)], ids=["denied", "other"]
)
async def test_what_is_refused_is_withdrawn(store, caplog):
    store.error = AccessDeniedError("no permission")
    counted = Counted(store)
    with caplog.at_level(logging.WARNING):
        await asyncio.wait_for(counted.counter.run(), 10)
    assert scrape_registry(counted.registry).series == set(), "absent is not zero"
    assert caplog.text.count("is not counted, the store refuses to tell") == 1
