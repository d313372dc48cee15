"""Processes that do everything to one SQLite file until they are killed, and whoever kills them."""

import asyncio
import itertools
import multiprocessing
import random
import signal
import time
import traceback
from collections.abc import Awaitable, Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final, Literal

from lightning_store.backends.sqlite import SQLiteLightningStore
from lightning_store.errors import NotFoundError
from lightning_store.records import AttemptedRollout, EnqueueRolloutRequest, RolloutConfig
from tests.support.factories import make_span
from tests.support.fire_journal import Journal, own_id

PROCESSES: Final = 4
HANDS: Final = 2
"""Who work at the same time in one process, over one store object."""

LEASE_SECONDS: Final = 2.0
CONFIG: Final = RolloutConfig(max_attempts=1_000, retry_condition=["unresponsive", "failed"])
LARGE: Final = "x" * 50_000
"""In some inputs and spans, so that one operation is many pages of the file."""

_PROCESSES: Final = multiprocessing.get_context("forkserver")
# What is imported once is there in every process.
_PROCESSES.set_forkserver_preload(["tests.support.under_fire"])


class Hand:
    """Calls one operation after the other, at random, and notes each before and after."""

    def __init__(self, store: SQLiteLightningStore, name: str, journal: Journal) -> None:
        self._store = store
        self._name = name
        self._journal = journal
        self._chance = random.Random(name)  # noqa: S311 - an accident, repeatable on purpose
        self._numbers = itertools.count(1)
        self._held: list[AttemptedRollout] = []
        self._mine: list[str] = []
        self._done: list[str] = []

    async def work(self) -> None:
        """Go on until killed."""
        while True:
            deeds = [self.enqueue] * 3 + [self.claim] * 4 + [self.number, self.prune, self.audit]
            deeds += [self.cancel] * bool(self._mine) + [self.delete] * bool(self._done)
            deeds += ([self.add_spans] * 4 + [self.end] * 5 + [self.renew]) * bool(self._held)
            await self._chance.choice(deeds)()

    async def _call(self, what: str, given: Any, call: Callable[[], Awaitable[Any]]) -> Any:
        """Call an operation between two notes; None if what it is about is gone."""
        number = self._journal.intend(self._name, what, given)
        try:
            result, answer = await call()
        except NotFoundError as error:
            result, answer = None, {"error": type(error).__name__}
        self._journal.acknowledge(number, answer)
        return result

    async def enqueue(self) -> None:
        """Some rollouts at once, half of the calls with ids of the caller."""
        tasks = [f"{self._name}/{next(self._numbers)}" for _ in range(self._chance.randint(1, 4))]
        large = self._chance.random() < 0.1
        own = self._chance.random() < 0.5
        requests = [
            EnqueueRolloutRequest(
                input={"task": task, "text": LARGE if large else ""}, config=CONFIG,
                rollout_id=own_id(task) if own else None,
            )
            for task in tasks
        ]  # fmt: skip

        async def call() -> Any:
            rollouts = await self._store.enqueue_many_rollouts(requests)
            return [rollout.rollout_id for rollout in rollouts], [rollout.rollout_id for rollout in rollouts]

        self._mine = await self._call("enqueue", tasks, call) or []

    async def claim(self) -> None:
        """Some work, now and then with a wait for it."""
        limit, timeout = self._chance.randint(1, 3), self._chance.choice([0.0, 0.0, 0.05])

        async def call() -> Any:
            claimed = await self._store.dequeue_many_rollouts(
                limit=limit, worker_id=self._name, lease_seconds=LEASE_SECONDS, timeout=timeout
            )
            return claimed, [(each.rollout_id, each.attempt.sequence_id, each.attempt.attempt_id) for each in claimed]

        self._held += await self._call("claim", limit, call) or []

    async def add_spans(self) -> None:
        """Several spans of one attempt, half of the calls with numbers of the store."""
        held = self._chance.choice(self._held)
        ids = [f"{self._name}.{next(self._numbers)}" for _ in range(self._chance.randint(1, 5))]
        attributes = {"text": LARGE} if self._chance.random() < 0.1 else {}
        spans = [make_span(held.rollout_id, held.attempt.attempt_id, span_id=id, attributes=attributes) for id in ids]
        renumber = self._chance.random() < 0.5

        async def call() -> Any:
            stored = await self._store.add_many_spans(spans, renumber=renumber)
            return None, [span.sequence_id for span in stored] if renumber else []

        await self._call("spans", [held.rollout_id, held.attempt.attempt_id, ids], call)

    async def number(self) -> None:
        """Sequence numbers for spans to come."""
        pairs = [(held.rollout_id, held.attempt.attempt_id) for held in self._held[:3]]

        async def call() -> Any:
            return None, await self._store.get_many_span_sequence_ids(pairs)

        await self._call("numbers", [rollout_id for rollout_id, _ in pairs], call)

    async def end(self) -> None:
        """Report how an attempt ended."""
        held = self._held.pop(self._chance.randrange(len(self._held)))
        status: Literal["failed", "succeeded"] = "failed" if self._chance.random() < 0.1 else "succeeded"

        async def call() -> Any:
            attempt = await self._store.update_attempt(held.rollout_id, held.attempt.attempt_id, status=status)
            return attempt, status

        ended = await self._call("end", [held.rollout_id, held.attempt.attempt_id], call)
        if ended is not None and status == "succeeded" and self._chance.random() < 0.2:
            self._done.append(held.rollout_id)

    async def renew(self) -> None:
        """A sign of life for all that is held."""
        pairs = [(held.rollout_id, held.attempt.attempt_id) for held in self._held]

        async def call() -> Any:
            return None, await self._store.renew(self._name, pairs, {"load": 0.5})

        await self._call("renew", pairs, call)

    async def cancel(self) -> None:
        """Call off what was just asked for, which somebody may be at already."""
        ids, self._mine = self._mine, []
        ids = ids[: self._chance.randint(0, 2)]

        async def call() -> Any:
            return None, await self._store.cancel_rollouts(ids)

        await self._call("cancel", ids, call)

    async def delete(self) -> None:
        """Remove what this one has finished."""
        ids, self._done = self._done, []

        async def call() -> Any:
            return None, await self._store.delete_rollouts(ids)

        await self._call("delete", ids, call)

    async def prune(self) -> None:
        """Remove what was cancelled, but the last few."""

        async def call() -> Any:
            return None, await self._store.prune(status_in=["cancelled"], keep_latest=5)

        await self._call("prune", None, call)

    async def audit(self) -> None:
        """Look whether all is well, in the midst of it."""
        if self._chance.random() > 0.1:  # it reads everything
            return

        async def call() -> Any:
            report = await self._store.audit()
            return None, [str(finding) for finding in report.findings]

        await self._call("audit", None, call)


def _live(path: Path, name: str, journal_path: Path) -> None:
    journal = Journal(journal_path)

    async def live() -> None:
        store = SQLiteLightningStore(path)
        await asyncio.gather(*(Hand(store, f"{name}-{hand}", journal).work() for hand in range(HANDS)))

    try:
        asyncio.run(live())
    except BaseException:
        journal.crash(traceback.format_exc())
        raise


class Firing:
    """Kills processes at random moments, one or all at once, and starts others in their place."""

    def __init__(self, path: Path, journals: Path, seed: int) -> None:
        self.kills = 0
        self.volleys = 0
        self._path = path
        self._journals = journals
        self._chance = random.Random(seed)  # noqa: S311
        self._seed = seed
        self._started = itertools.count(1)
        self._living: list[BaseProcess] = []

    def fire(self, kills: int, mean_seconds: float) -> None:
        """Kill so many, in the mean one every so many seconds; then no process is left.

        Raises:
            AssertionError: A process has ended by itself.
        """
        self._living = [self._start() for _ in range(PROCESSES)]
        try:
            while self.kills < kills:
                time.sleep(self._chance.expovariate(1 / mean_seconds))
                if self._chance.random() < 0.1:  # nobody is left: the next to come finds what SQLite has to recover
                    self.volleys += 1
                    self._kill(range(PROCESSES))
                else:
                    self._kill([self._chance.randrange(PROCESSES)])
        finally:
            self._kill(range(PROCESSES), replace=False)

    def _start(self) -> BaseProcess:
        name = f"s{self._seed}p{next(self._started)}"
        arguments = (self._path, name, self._journals / name)
        process = _PROCESSES.Process(target=_live, args=arguments, daemon=True)
        process.start()
        return process

    def _kill(self, places: "range | list[int]", *, replace: bool = True) -> None:
        processes = [self._living[place] for place in places]
        for process in processes:
            process.kill()
        for process in processes:
            process.join(30)
            assert process.exitcode == -signal.SIGKILL, f"a process has ended with {process.exitcode}"
            self.kills += 1
        for place in places if replace else ():
            self._living[place] = self._start()
