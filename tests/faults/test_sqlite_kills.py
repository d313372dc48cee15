"""Processes on one SQLite file die by SIGKILL at any moment, and nothing that was acknowledged is lost."""

import random
import sqlite3
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from lightning_store.backends.sqlite import SQLiteLightningStore

from lightning_store.records import Attempt, Rollout
from tests.support.sqlite_writer import BULK, LEASE_SECONDS, SPANS, read_journal, start_writer

SEED: Final = 7
KILLS: Final = 200
WRITERS: Final = 3
LONGEST_LIFE_SECONDS: Final = 0.3


def journals_of_killed_writers(path: Path) -> list[list[Any]]:
    """Kill writers one after the other, each replaced at once; what all of them had acknowledged."""
    chance = random.Random(SEED)  # noqa: S311 - accidents, repeatable on purpose
    writers = [start_writer(path, number) for number in range(WRITERS)]
    journals: list[list[Any]] = []
    for number in range(KILLS):
        time.sleep(chance.uniform(0, LONGEST_LIFE_SECONDS / WRITERS))
        place = number % WRITERS
        process, reading = writers[place]
        process.kill()
        process.join(30)
        assert process.exitcode == -9, "a writer has ended by itself"
        journals += read_journal(reading)
        writers[place] = start_writer(path, WRITERS + number)
    for process, reading in writers:
        process.kill()
        process.join(30)
        journals += read_journal(reading)
    return journals


def told(journals: list[list[Any]], what: str) -> list[list[Any]]:
    return [entry[1:] for entry in journals if entry[0] == what]


@pytest.mark.timeout(300)
async def test_nothing_acknowledged_is_lost_in_two_hundred_kills(tmp_path):
    path = tmp_path / "store.db"
    journals = journals_of_killed_writers(path)
    counts = Counter(entry[0] for entry in journals)
    sys.stdout.write(f"seed {SEED}, acknowledged {dict(counts)}\n")
    assert min(counts[what] for what in ("enqueued", "claimed", "spans", "ended")) > KILLS / 10, counts

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    store = SQLiteLightningStore(path)
    try:
        await _check(store, journals)
        await _drain(store)
    finally:
        await store.close()


async def _check(store: SQLiteLightningStore, journals: list[list[Any]]) -> None:
    report = await store.audit()
    assert not report.findings, report.findings
    rollouts: dict[str, Rollout] = {each.rollout_id: each for each in await store.query_rollouts()}
    enqueued = [rollout_id for (ids,) in told(journals, "enqueued") for rollout_id in ids]
    assert len(enqueued) == len(set(enqueued))
    assert set(enqueued) <= rollouts.keys()
    assert len(rollouts) % BULK == 0, "a bulk was enqueued in part"

    attempts: dict[str, dict[str, Attempt]] = {
        rollout_id: {each.attempt_id: each for each in await store.query_attempts(rollout_id)}
        for rollout_id in rollouts
    }
    claimed = [tuple(entry) for entry in told(journals, "claimed")]
    assert len(claimed) == len(set(claimed)), "a claim was handed out twice"
    assert all(attempt_id in attempts[rollout_id] for rollout_id, attempt_id in claimed)
    for rollout_id, attempt_id, status in told(journals, "ended"):
        assert attempts[rollout_id][attempt_id].status == status
    succeeded = Counter(each[0] for each in told(journals, "ended") if each[2] == "succeeded")
    assert set(succeeded.values()) <= {1}, "a rollout succeeded twice"

    spans = await store.query_many_spans(list(rollouts))
    stored = {(each.rollout_id, each.span_id) for found in spans.values() for each in found}
    for rollout_id, _, span_ids in told(journals, "spans"):
        assert len(span_ids) == SPANS
        assert {(rollout_id, span_id) for span_id in span_ids} <= stored
    for rollout_id, found in spans.items():
        assert len({each.sequence_id for each in found}) == len(found), f"two spans of {rollout_id} have one number"


async def _drain(store: SQLiteLightningStore) -> None:
    """What the dead left is claimed again when their leases are over, and all comes to an end, once."""
    while True:
        rollout = await store.dequeue_rollout("the last", timeout=4 * LEASE_SECONDS, lease_seconds=60)
        if rollout is None:
            break
        await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, status="succeeded")
    rollouts = list(await store.query_rollouts())
    assert {rollout.status for rollout in rollouts} <= {"succeeded", "failed"}
    completions = await store.completions(limit=10 * len(rollouts))
    assert Counter(each.rollout_id for each in completions.items) == {each.rollout_id: 1 for each in rollouts}
    assert not (await store.audit()).findings
