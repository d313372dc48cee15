"""A process that lives on a SQLite store until it is killed, and says of each call that it was acknowledged."""

import asyncio
import json
import multiprocessing
import os
import random
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Final

from lightning_store.backends.sqlite import SQLiteLightningStore

from lightning_store.contract import LightningStore
from lightning_store.records import EnqueueRolloutRequest, RolloutConfig
from lightning_store.spans import Span

_PROCESSES: Final = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.support.sqlite_writer"])  # imported once, so that processes start at once

LEASE_SECONDS: Final = 0.5
BULK: Final = 5
SPANS: Final = 3
BLANK: Final[dict[str, Any]] = {
    "parent_id": None, "status": {"status_code": "OK"}, "attributes": {"text": "word " * 100}, "events": [],
    "links": [], "start_time": 1.0, "end_time": 2.0, "context": None, "parent": None,
    "resource": {"attributes": {}, "schema_url": ""},
}  # fmt: skip
CONFIG: Final = RolloutConfig(max_attempts=3, retry_condition=["failed"], max_worker_losses=10_000)


class Writer:
    """Does at random what algorithms and runners do, one call after the other."""

    def __init__(self, store: LightningStore, number: int, journal: int) -> None:
        self._store = store
        self._worker = f"writer-{number}"
        self._journal = journal
        self._chance = random.Random(number)  # noqa: S311 - repeatable on purpose

    async def live(self) -> None:
        """Work without end."""
        while True:
            await (self.bring if self._chance.random() < 1 / 3 else self.work)()

    async def bring(self) -> None:
        """Enqueue a bulk; all of it is there or nothing."""
        requests = [EnqueueRolloutRequest(input=place, config=CONFIG, group_id="all") for place in range(BULK)]
        rollouts = await self._store.enqueue_many_rollouts(requests)
        self._say("enqueued", [rollout.rollout_id for rollout in rollouts])

    async def work(self) -> None:
        """Claim one rollout and live it to its end."""
        rollout = await self._store.dequeue_rollout(self._worker, lease_seconds=LEASE_SECONDS)
        if rollout is None:
            await self.bring()
            return
        ids = (rollout.rollout_id, rollout.attempt.attempt_id)
        self._say("claimed", *ids)
        spans = [self._span(*ids, number) for number in range(SPANS)]
        stored = await self._store.add_many_spans(spans, renumber=True)
        self._say("spans", *ids, [span.span_id for span in stored])
        status: Any = "failed" if self._chance.random() < 0.1 else "succeeded"
        attempt = await self._store.update_attempt(*ids, status=status)
        self._say("ended", *ids, attempt.status)

    def _span(self, rollout_id: str, attempt_id: str, number: int) -> Span:
        names = {"rollout_id": rollout_id, "attempt_id": attempt_id, "trace_id": "1" * 32, "name": "step"}
        return Span(**names, **BLANK, span_id=f"{attempt_id}-{number}", sequence_id=0)

    def _say(self, what: str, *facts: Any) -> None:
        """Acknowledge: in one write, which a kill cannot cut."""
        os.write(self._journal, json.dumps([what, *facts]).encode() + b"\n")


def start_writer(path: Path, number: int) -> tuple[ForkServerProcess, Connection]:
    """A writer process, and where its journal can be read."""
    reading, writing = _PROCESSES.Pipe(duplex=False)
    with writing:
        process = _PROCESSES.Process(target=_live, args=(path, number, writing), daemon=True)
        process.start()
    return process, reading


def read_journal(reading: Connection) -> list[list[Any]]:
    """All that a process that is gone had acknowledged."""
    with reading, os.fdopen(os.dup(reading.fileno()), "rb") as pipe:
        return [json.loads(line) for line in pipe.read().splitlines()]


def _live(path: Path, number: int, journal: Connection) -> None:
    async def run() -> None:
        await Writer(SQLiteLightningStore(path), number, journal.fileno()).live()

    asyncio.run(run())
