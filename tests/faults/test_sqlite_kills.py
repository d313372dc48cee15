"""Processes that share one SQLite file die by SIGKILL at any moment: what was acknowledged stays, the rest is whole."""

import asyncio
import os
import sqlite3
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from lightning_store.backends.sqlite import SQLiteLightningStore
from tests.support.fire_findings import findings, holding_of
from tests.support.fire_journal import read_journals
from tests.support.under_fire import LEASE_SECONDS, Firing

SEED: Final = int(os.environ.get("LIGHTNING_STORE_SEED", "23"))
KILLS: Final = 200
MEAN_SECONDS: Final = 0.06
LONGEST_SECONDS: Final = 60.0


@pytest.fixture
def audited():
    """Nothing of it lies on a Redis; the tests audit the file themselves."""


def check_integrity(path: Path) -> list[str]:
    """What SQLite itself says of the file: `ok` if all is well."""
    connection = sqlite3.connect(path)
    try:
        return [text for (text,) in connection.execute("PRAGMA integrity_check")]
    finally:
        connection.close()


async def finish_all(store: SQLiteLightningStore) -> None:
    """Do the work that those who were killed have left, as soon as their leases are over."""
    began = time.monotonic()
    while True:
        counts = (await store.statistics())["rollouts_by_status"]
        if not any(counts[status] for status in ("queuing", "requeuing", "preparing", "running")):
            return
        assert time.monotonic() - began < LONGEST_SECONDS, f"work is left: {counts}"
        claimed = await store.dequeue_many_rollouts(limit=100, worker_id="survivor", timeout=LEASE_SECONDS)
        for rollout in claimed:
            await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, status="succeeded")


async def audit_of(store: SQLiteLightningStore) -> list[object]:
    return list((await store.audit()).findings)


@pytest.mark.timeout(300)
async def test_nothing_acknowledged_is_lost_and_nothing_half_done_stays(tmp_path, capsys):
    path, journals = tmp_path / "store.db", tmp_path / "journals"
    journals.mkdir()
    firing = Firing(path, journals, SEED)
    await asyncio.to_thread(firing.fire, KILLS, MEAN_SECONDS)

    assert check_integrity(path) == ["ok"]
    store = SQLiteLightningStore(path)
    try:
        assert await audit_of(store) == []
        story = read_journals(journals)
        assert findings(story, await holding_of(store)) == []
        await finish_all(store)
        assert await audit_of(store) == []
        held = await holding_of(store)
    finally:
        await store.close()
    assert check_integrity(path) == ["ok"]
    statuses = Counter(rollout.status for rollout in held.rollouts.values())
    assert set(statuses) <= {"succeeded", "cancelled"}
    assert set(held.finishes) == set(held.rollouts)
    lost = sum(attempt.cause == "worker_lost" for tried in held.attempts.values() for attempt in tried)
    assert lost, "no kill has hit a worker at work"
    called = Counter(call.what for call in story.calls)
    broken_off = Counter(call.what for call in story.calls if call.is_pending)
    assert broken_off.total() >= KILLS / 2, "the kills did not hit operations"
    with capsys.disabled():
        sys.stdout.write(
            f"\nseed {SEED}: {firing.kills} kills, {firing.volleys} times all at once; {called.total()} operations "
            f"called {dict(called)}, {broken_off.total()} broken off {dict(broken_off)}; {len(held.rollouts)} rollouts "
            f"left, {lost} attempts lost\n"
        )
