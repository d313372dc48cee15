"""Runners die by SIGKILL all the time, and no work is lost or done twice."""

import asyncio
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from lightning_store.contract import LightningStore
from lightning_store.records import Attempt, EnqueueRolloutRequest, RolloutConfig
from tests.support.places import Place, on_places
from tests.support.run_process import start

SEED: Final = 20
RUNNERS: Final = 4
ROLLOUTS: Final = 2_000
LEASE_SECONDS: Final = 2.0
SECONDS_BETWEEN_KILLS: Final = 2.0
LONGEST_SECONDS: Final = 240.0
SPANS_OF_A_SUCCESS: Final = ["first", "second", "agentlightning.annotation", "slower"]


class Fleet:
    """So many runner processes; one that is killed is replaced."""

    def __init__(self, log: Path, place: Place) -> None:
        self.kills = 0
        self._log = log
        self._options = {
            "agent": "tests.support.agents:slower", "concurrency": 4, "lease_seconds": LEASE_SECONDS, **place.options,
        }  # fmt: skip
        self._runners = [self._start() for _ in range(RUNNERS)]

    def _start(self) -> "subprocess.Popen[bytes]":
        return start("runner", self._log, **self._options)

    def kill_one(self, chance: random.Random) -> None:
        """Kill a runner at random and start another."""
        number = chance.randrange(RUNNERS)
        assert self._runners[number].poll() is None, "a runner has ended by itself"
        self._runners[number].kill()
        self._runners[number].wait()
        self.kills += 1
        self._runners[number] = self._start()

    def stop(self) -> list[int]:
        """End all runners in good order; their exit codes."""
        for runner in self._runners:
            runner.terminate()
        return [runner.wait(60) for runner in self._runners]

    def kill(self) -> None:
        """End whatever still runs."""
        for runner in self._runners:
            if runner.poll() is None:
                runner.kill()
            runner.wait(10)


@pytest.fixture
def fleet(tmp_path: Path, place: Place) -> Iterator[Fleet]:
    log = tmp_path / "runners.log"
    fleet = Fleet(log, place)
    yield fleet
    fleet.kill()
    sys.stdout.write(log.read_text()[-20_000:])


async def attempts_of(store: LightningStore, rollout_ids: list[str]) -> dict[str, list[Attempt]]:
    pages = [await store.query_attempts(rollout_id) for rollout_id in rollout_ids]
    return {rollout_id: list(page) for rollout_id, page in zip(rollout_ids, pages, strict=True)}


@on_places("redis", "sqlite")
@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_all_rollouts_succeed_once_while_runners_are_killed(store, fleet, place_kind, capsys):
    chance = random.Random(SEED)  # noqa: S311 - an accident, repeatable on purpose
    config = RolloutConfig(max_attempts=100, retry_condition=["unresponsive"])
    requests = [EnqueueRolloutRequest(input=number, config=config) for number in range(ROLLOUTS)]
    ids = [rollout.rollout_id for rollout in await store.enqueue_many_rollouts(requests)]
    started = time.monotonic()
    while True:
        done = await store.wait_for_rollouts(rollout_ids=ids, timeout=SECONDS_BETWEEN_KILLS)
        if len(done) == ROLLOUTS:
            break
        assert time.monotonic() - started < LONGEST_SECONDS, f"{len(done)} of {ROLLOUTS} finished"
        fleet.kill_one(chance)
    seconds = time.monotonic() - started

    assert Counter(rollout.status for rollout in done) == {"succeeded": ROLLOUTS}
    page = await store.completions(limit=10 * ROLLOUTS)
    assert Counter(completion.rollout_id for completion in page.items) == dict.fromkeys(ids, 1)
    attempts = await attempts_of(store, ids)
    assert {rollout_id: attempts[rollout_id][-1].status for rollout_id in ids} == dict.fromkeys(ids, "succeeded")
    lost = [attempt for tried in attempts.values() for attempt in tried[:-1]]
    assert any(attempt.cause == "worker_lost" for attempt in lost), "no kill has hit a runner at work"
    assert await store.rewards(ids) == {rollout_id: float(number) for number, rollout_id in enumerate(ids)}
    spans = await store.query_many_spans(ids, "latest")
    assert all([span.name for span in spans[rollout_id]] == SPANS_OF_A_SUCCESS for rollout_id in ids)
    assert (await asyncio.to_thread(fleet.stop)) == [0] * RUNNERS
    with capsys.disabled():
        sys.stdout.write(
            f"\n{place_kind}: {ROLLOUTS} rollouts in {seconds:.0f} s, seed {SEED}: {fleet.kills} runners killed, "
            f"{len(lost)} attempts lost, all {ROLLOUTS} succeeded, none completed twice\n"
        )
