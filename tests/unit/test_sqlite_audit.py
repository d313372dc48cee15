"""The audit of the SQLite store finds damage to the file, and mends what the records themselves tell."""

import asyncio
import sqlite3
from contextlib import closing

import pytest

from lightning_store import SQLiteLightningStore
from tests.support.clock import SettableClock
from tests.support.damages import DELAYED, FINISHED, QUEUED, RUNNING, set_sound_scene
from tests.support.ids import CountingIds

ROLLOUT = "UPDATE rollouts SET {} WHERE rollout_id = '{}'".format
ATTEMPT = (
    "UPDATE attempts SET {} WHERE sequence_id = 1 AND rollout = (SELECT number FROM rollouts WHERE rollout_id = '{}')"
).format

MENDED = [
    ("orphan", "INSERT INTO tasks VALUES (77, x'00', NULL)"),
    ("orphan", "UPDATE spans SET rollout = 77"),
    ("attempts", ROLLOUT("uncounted = 2", RUNNING)),
    ("attempts", ROLLOUT("losses = 1", RUNNING)),
    ("attempts", ROLLOUT("attempts = 3", RUNNING)),
    ("queue", ROLLOUT("queue_place = NULL", QUEUED)),
    ("queue", ROLLOUT("ready_time = 7", QUEUED)),
    ("queue", ROLLOUT("ready_time = NULL", DELAYED)),
    ("queue", ROLLOUT("ready_time = 7", RUNNING)),
    ("queue", "DELETE FROM queues"),
    ("counter", "UPDATE queues SET live = 9"),
    ("counter", "UPDATE queues SET delayed = 9"),
    ("counter", "UPDATE meta SET attempts = 9"),
    ("counter", "UPDATE meta SET spans = 9"),
    ("counter", "UPDATE meta SET span_bytes = 9"),
    ("status_index", "UPDATE status_counts SET count = count + 1 WHERE status = 'queuing'"),
    ("status_index", "DELETE FROM status_counts WHERE status = 'running'"),
    ("status_index", "INSERT INTO status_counts VALUES ('lost', 1)"),
    ("deadline", ROLLOUT("deadline = NULL", RUNNING)),
    ("deadline", ROLLOUT("deadline = 9e12", RUNNING)),
    ("deadline", ROLLOUT("deadline = 1", FINISHED)),
    ("completion", "DELETE FROM completions"),
    ("completion", "UPDATE completions SET status = 'failed'"),
    ("completion", "UPDATE meta SET last_completion = 0"),
    ("completion", ROLLOUT("finish_number = NULL", FINISHED)),
    ("completion", ROLLOUT("end_time = NULL", FINISHED)),
    ("completion", ROLLOUT("end_time = 7", RUNNING)),
    ("spans", "DELETE FROM spans WHERE number = 1"),
    ("spans", ROLLOUT("span_bytes = 1", RUNNING)),
    ("spans", ROLLOUT("last_sequence_id = 1", RUNNING)),
]
LEFT = [
    ("record", "DELETE FROM tasks"),
    ("record", ATTEMPT("end_time = NULL", FINISHED)),
    ("attempts", ATTEMPT("cause = 'agent'", RUNNING)),
    ("attempts", ATTEMPT("cause = NULL", FINISHED)),
    ("attempts", ATTEMPT("sequence_id = 2", RUNNING)),
    ("spans", "UPDATE spans SET attempt = 5"),
    ("spans", ROLLOUT("evicted = 1", RUNNING)),
    ("worker", "UPDATE workers SET current_rollout_id = NULL WHERE worker_id = 'w'"),
    ("worker", "UPDATE workers SET status = 'idle' WHERE worker_id = 'w'"),
    ("worker", "UPDATE workers SET status = 'busy' WHERE worker_id = 'idle'"),
    ("resources", "UPDATE meta SET latest_resources_id = 'rs-none'"),
]


@pytest.fixture
async def store(tmp_path):
    store = SQLiteLightningStore(tmp_path / "store.db", clock=SettableClock(), ids=CountingIds(), synchronous="normal")
    await set_sound_scene(store)
    yield store
    await store.close()


def plant(store, damage):
    with closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
        assert connection.execute(damage).rowcount > 0


def rules(report):
    return {finding.rule for finding in report.findings}


async def test_sound_file_has_no_findings(store):
    assert (await store.audit()).findings == (await store.audit(repair=True)).findings == []


@pytest.mark.parametrize(("rule", "damage"), [*MENDED, *LEFT])
async def test_damage_is_found(store, rule, damage):
    plant(store, damage)

    report = await store.audit()

    assert rule in rules(report)
    assert report.rollouts == 5
    assert all(finding.repaired == 0 for finding in report.findings)
    assert (await store.audit()).findings == report.findings, "an audit without repair changes nothing"


@pytest.mark.parametrize(("rule", "damage"), MENDED)
async def test_damage_that_the_records_tell_is_mended(store, rule, damage):
    plant(store, damage)

    mended = await store.audit(repair=True)

    assert rule in rules(mended)
    assert mended.unrepaired == 0, mended
    assert (await store.audit()).findings == []


@pytest.mark.parametrize(("rule", "damage"), LEFT)
async def test_damage_that_nothing_tells_is_left(store, rule, damage):
    plant(store, damage)

    report = await store.audit(repair=True)

    assert report.unrepaired > 0
    assert rule in rules(await store.audit())


@pytest.mark.parametrize("damage", [ROLLOUT("queue_place = NULL", QUEUED), ROLLOUT("ready_time = NULL", DELAYED)])
async def test_rollout_that_was_out_of_reach_is_claimed_after_the_mend(store, damage):
    plant(store, damage)
    await store.audit(repair=True)
    claimed = [each.rollout_id for each in await store.dequeue_many_rollouts(limit=9)]
    assert (QUEUED if "NULL" in damage and QUEUED in damage else DELAYED) in claimed


async def test_lost_index_entries_are_found_by_sqlite_itself(store):
    with closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = replace(sql, 'IS NOT NULL', 'IS NULL') WHERE name = 'rollouts_by_group'"
        )
    await store.close()

    report = await store.audit()

    assert "record" in rules(report)
    assert "rollouts_by_group" in report.findings[0].examples[0].problem


async def test_work_goes_on_while_the_file_is_audited(store):
    """Reading one snapshot does not keep writers waiting."""
    audits = [asyncio.create_task(store.audit()) for _ in range(4)]
    await asyncio.gather(*(store.enqueue_rollout(number) for number in range(20)))
    assert [(await audit).findings for audit in audits] == [[]] * 4
