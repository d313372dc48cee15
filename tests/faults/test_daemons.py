"""However many healthcheck daemons run, and whatever becomes of them, the same work comes out."""

import asyncio
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from lightning_store.records import EnqueueRolloutRequest, RolloutConfig
from tests.support.places import Place, on_places
from tests.support.run_process import start

ROLLOUTS: Final = 200
DEAF: Final = 50
QUEUED: Final = [("default", ROLLOUTS - 2 * DEAF), ("once", DEAF), ("twice", DEAF)]
LEASE_SECONDS: Final = 1.0
LONG_LEASE_SECONDS: Final = 600.0
"""Of hosts that work: no machine stands still for so long."""
SECONDS_BETWEEN_KILLS: Final = 1.0
CONFIG: Final = RolloutConfig(max_attempts=2, retry_condition=["unresponsive"])
TRANSITION: Final = re.compile(r"transition rollout=(\S+) attempt=(\S+) ")


class Daemons:
    """Daemons that are started, killed and started again; what they print goes to one file."""

    def __init__(self, log: Path, place: Place) -> None:
        self.kills = 0
        self._log = log
        self._options = {"interval": 0.2, **place.options}
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, number: int) -> None:
        """Start so many."""
        self._running += [start("healthcheck", self._log, **self._options) for _ in range(number)]

    def replace_one(self) -> None:
        """Kill the oldest and start another."""
        if self._running:
            self._end(self._running.pop(0))
            self.kills += 1
            self.start(1)

    def stop(self) -> None:
        """Kill all."""
        while self._running:
            self._end(self._running.pop())

    def reports(self) -> list[tuple[str, str]]:
        """The attempts that they say they ended, as rollout and attempt."""
        return [(match[1], match[2]) for match in TRANSITION.finditer(self._log.read_text())]

    @staticmethod
    def _end(process: "subprocess.Popen[bytes]") -> None:
        process.kill()
        process.wait(10)


@pytest.fixture
def daemons(tmp_path: Path, place: Place) -> Iterator[Daemons]:
    log = tmp_path / "daemons.log"
    log.touch()
    daemons = Daemons(log, place)
    yield daemons
    daemons.stop()
    sys.stdout.write(log.read_text()[-5_000:])


@on_places("redis", "sqlite")
@pytest.mark.parametrize(("number", "is_killed"), [(0, False), (1, True), (5, False)], ids=["none", "killed", "five"])
async def test_outcome_is_the_same(store, daemons, number, is_killed):
    requests = [
        EnqueueRolloutRequest(input=n, config=CONFIG, queue=queue) for queue, count in QUEUED for n in range(count)
    ]
    ids = [rollout.rollout_id for rollout in await store.enqueue_many_rollouts(requests)]
    # Hosts that claim and are never heard of again; half of their work is lost a second time.
    deaf = await store.dequeue_many_rollouts(limit=2 * DEAF, queues=["once", "twice"], lease_seconds=LEASE_SECONDS)
    assert len(deaf) == 2 * DEAF
    lost_twice = {rollout.rollout_id for rollout in deaf if rollout.queue == "twice"}
    daemons.start(number)

    deadline, next_kill = time.monotonic() + 60, 0.0
    while True:
        done = {rollout.rollout_id: rollout for rollout in await store.wait_for_rollouts(rollout_ids=ids, timeout=0)}
        if len(done) == ROLLOUTS:
            break
        assert time.monotonic() < deadline, f"{len(done)} of {ROLLOUTS} finished"
        if is_killed and time.monotonic() > next_kill:
            daemons.replace_one()
            next_kill = time.monotonic() + SECONDS_BETWEEN_KILLS
        await store.dequeue_many_rollouts(limit=20, queues=["twice"], lease_seconds=LEASE_SECONDS)
        for rollout in await store.dequeue_many_rollouts(
            limit=20, queues=["once", "default"], lease_seconds=LONG_LEASE_SECONDS, timeout=0.3
        ):
            await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, status="succeeded")

    assert Counter(rollout.status for rollout in done.values()) == {"succeeded": ROLLOUTS - DEAF, "failed": DEAF}
    assert {id for id, rollout in done.items() if rollout.status == "failed"} == lost_twice
    pages = [await store.query_attempts(id) for id in ids]
    causes = Counter(tuple(attempt.cause for attempt in page) for page in pages)
    assert causes == {
        ("agent",): ROLLOUTS - 2 * DEAF, ("worker_lost", "agent"): DEAF, ("worker_lost", "worker_lost"): DEAF,
    }  # fmt: skip
    finishes = Counter(entry.rollout_id for entry in (await store.completions(limit=10 * ROLLOUTS)).items)
    assert finishes == dict.fromkeys(ids, 1)
    report = await store.audit()
    assert (report.findings, report.rollouts) == ([], ROLLOUTS)
    await asyncio.to_thread(daemons.stop)
    told = Counter(daemons.reports())
    assert set(told.values()) <= {1}, "an attempt was ended twice"
    assert set(told) <= {(attempt.rollout_id, attempt.attempt_id) for page in pages for attempt in page}
    assert (daemons.kills > 0) == is_killed
