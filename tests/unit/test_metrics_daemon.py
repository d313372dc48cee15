"""What a daemon tells of each kind of store: all that the table of metrics says, and in its log what it cannot."""

import asyncio
import logging
import time

import pytest

from lightning_store.backends.memory import InMemoryLightningStore
from lightning_store.backends.sqlite import SQLiteLightningStore
from lightning_store.connect import kind_of
from lightning_store.healthcheck import HealthCheck
from lightning_store.metrics import events
from lightning_store.metrics.families import FAMILIES
from lightning_store.records import RolloutConfig
from tests.support.clock import SettableClock
from tests.support.factories import claim, span_of
from tests.support.places import on_places
from tests.support.scraping import scrape
from tests.support.until import until

RETRIED = RolloutConfig(max_attempts=2, retry_condition=["failed", "unresponsive"])


@pytest.fixture
async def running(monkeypatch, caplog):
    """Runs daemons over stores until the end of the test, and returns the port of each."""
    monkeypatch.setattr(events, "POLL_SECONDS", 0.02)
    caplog.set_level(logging.INFO)
    started = []

    async def run(store, **options):
        daemon = HealthCheck(store, 0.05, port=0, **options)
        started.append((daemon, store, asyncio.ensure_future(daemon.run())))
        await until(lambda: daemon.port is not None and daemon.health()[1]["sweeps"] > 0)
        return daemon.port

    yield run
    for daemon, store, task in started:
        daemon.stop()
        await asyncio.wait_for(task, 10)
        await store.close()


def told_of(found):
    names = {name for name in found.families if name.startswith("lightning_store_")}
    return {name.removeprefix("lightning_store_").removesuffix("_info") for name in names}


def wanted_of(kind):
    names = {name for name, family in FAMILIES.items() if "daemon" in family.by}
    return {name.removesuffix("_total").removesuffix("_info") for name in names if kind in FAMILIES[name].stores}


def lines_about_metrics(caplog):
    return [record for record in caplog.records if "metrics" in record.getMessage()]


@on_places("redis", "sqlite", "http")
async def test_daemon_tells_what_the_table_says_of_its_kind_of_store(place, running, caplog):
    kind = kind_of(place.url)
    await check(kind, await running(place.open()), caplog)


async def test_daemon_on_a_store_in_memory_does_too(running, caplog):
    await check("memory", await running(InMemoryLightningStore()), caplog)


async def check(kind, port, caplog):
    assert told_of(await scrape(port)) == wanted_of(kind)
    (line,) = lines_about_metrics(caplog)
    assert line.levelno == logging.INFO
    absent = [name for name, family in FAMILIES.items() if "daemon" in family.by and kind not in family.stores]
    assert line.getMessage().partition(": ")[2].split(", ") == absent
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []


async def test_daemon_on_a_file_tells_how_late_it_settled_what(tmp_path, running):
    path = tmp_path / "store.db"
    with_an_earlier_clock = SQLiteLightningStore(path, clock=SettableClock(time.time() - 5))
    await with_an_earlier_clock.start_rollout("task", config=RolloutConfig(timeout_seconds=1))
    await with_an_earlier_clock.close()

    found = await scrape(await running(SQLiteLightningStore(path)))

    assert found("deadline_lateness_seconds_count", cause="timeout") == 1
    assert found("deadline_lateness_seconds_sum", cause="timeout") >= 4


async def test_daemon_on_a_file_tells_what_other_processes_did(tmp_path, running):
    path = tmp_path / "store.db"
    # One whose spans all go as soon as their rollout is finished.
    port = await running(SQLiteLightningStore(path, memory_capacity_bytes=10, high_water_memory_threshold=1 << 40))
    other = SQLiteLightningStore(path)
    for _ in range(4):
        await other.enqueue_rollout("task", config=RETRIED)
    for status in ("succeeded", "failed"):
        claimed = await claim(other)
        await other.add_span(span_of(claimed))
        await other.update_attempt(claimed.rollout_id, "latest", status=status)
    await other.dequeue_rollout("w", lease_seconds=0.05)

    async def has_told_all():
        found = await scrape(port)
        requeues = sum(found.all("namespace_requeues_total").values())
        return (requeues, found("queue_depth", queue="default"), found("evicted_rollouts_total")) == (2, 3, 1)

    await until(has_told_all)
    found = await scrape(port)
    await other.close()

    assert found("queue_oldest_age_seconds", queue="default") > 0
    assert found("namespace_claims_total") == 3
    assert found.all("namespace_attempts_ended_total") == {
        ("agent", "succeeded"): 1, ("agent", "failed"): 1, ("worker_lost", "unresponsive"): 1,
    }  # fmt: skip
    assert found.all("namespace_requeues_total") == {("agent",): 1, ("worker_lost",): 1}
    assert found("namespace_last_claim_timestamp_seconds") > 0
    assert found("last_sweep_timestamp_seconds") > 0
    assert found("spans") == 1
    assert set(found.all("sqlite_file_bytes")) == {("database",), ("log",)}
