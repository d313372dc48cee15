"""Measures the SQLite store: `python -m benchmarks.sqlite [directory]`, about two minutes; prints Markdown.

Processes share one file in a new directory, and this machine. Every rate is the median of some rounds; each round
checks that exactly what was put in came out.
"""

import asyncio
import multiprocessing
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from lightning_store.backends.sqlite import SQLiteLightningStore
from lightning_store.backends.sqlite.connection import Synchronous
from lightning_store.records import AttemptedRollout, EnqueueRolloutRequest
from lightning_store.spans import Span

ROUNDS = 5
CALLS = 400
SPANS = 100
SPAN_BYTES = 1000
FEW, MANY = 1_000, 100_000
PAGE = 50
PICKUPS = 300

_CONTEXT = multiprocessing.get_context("spawn")

Work = Callable[[SQLiteLightningStore, int], Awaitable[None]]


def requests(count: int) -> list[EnqueueRolloutRequest]:
    """So many small tasks."""
    return [EnqueueRolloutRequest(input={"number": number, "question": "x" * 150}) for number in range(count)]


def some_span(rollout: AttemptedRollout, number: int) -> Span:
    """A span of about a kilobyte that compression finds little in."""
    text = os.urandom(SPAN_BYTES // 2).hex()
    return Span.from_attributes(
        attributes={"text": text},
        rollout_id=rollout.rollout_id,
        attempt_id=rollout.attempt.attempt_id,
        sequence_id=number,
    )


# -- calls per second --------------------------------------------------------------------------------------------------


async def enqueue(store: SQLiteLightningStore, calls: int) -> None:
    """One call each."""
    for request in requests(calls):
        await store.enqueue_rollout(request.input)


async def claim(store: SQLiteLightningStore, calls: int) -> None:
    """One rollout each, of those that were put there before."""
    for _ in range(calls):
        assert await store.dequeue_rollout("worker", lease_seconds=600) is not None


async def update(store: SQLiteLightningStore, calls: int) -> None:
    """Claims in bulk, then one report each."""
    claimed = await store.dequeue_many_rollouts(limit=calls, lease_seconds=600)
    for rollout in claimed:
        await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, status="succeeded")


async def renew(store: SQLiteLightningStore, calls: int) -> None:
    """Heartbeats for one attempt."""
    [rollout] = await store.dequeue_many_rollouts(limit=1, worker_id="worker", lease_seconds=600)
    for _ in range(calls):
        await store.renew("worker", [(rollout.rollout_id, rollout.attempt.attempt_id)])


async def read(store: SQLiteLightningStore, calls: int) -> None:
    """One rollout by its id."""
    [rollout] = await store.query_rollouts(limit=1)
    for _ in range(calls):
        await store.get_rollout_by_id(rollout.rollout_id)


async def add_spans(store: SQLiteLightningStore, calls: int) -> None:
    """A hundred spans a call, of an attempt of its own."""
    rollout = await store.start_rollout("task")
    for start in range(1, calls * SPANS, SPANS):
        await store.add_many_spans([some_span(rollout, number) for number in range(start, start + SPANS)])


ENDINGS: dict[str, tuple[Work, int, int]] = {
    "enqueue_rollout": (enqueue, CALLS, 1),
    "dequeue_rollout": (claim, CALLS, 1),
    "update_attempt": (update, CALLS, 1),
    "renew": (renew, CALLS, 1),
    "get_rollout_by_id": (read, CALLS, 1),
    "add_many_spans, spans of 1 kB, 100 a call": (add_spans, 20, SPANS),
}
"""What is measured: the work, its calls in each process, and how many things a call brings."""


def worker(path: str, synchronous: Synchronous, pipe: Connection) -> None:
    """A process that does what it is told, on its own store object."""

    async def serve() -> None:
        store = SQLiteLightningStore(path, synchronous=synchronous)
        await store.statistics()
        pipe.send("ready")
        while (name := await asyncio.to_thread(pipe.recv)) is not None:
            work, calls, _ = ENDINGS[name]
            began = time.perf_counter()
            await work(store, calls)
            pipe.send(time.perf_counter() - began)
        await store.close()

    asyncio.run(serve())


class Crew:
    """Worker processes on one file."""

    def __init__(self, path: Path, synchronous: Synchronous, count: int) -> None:
        self.pipes = []
        self.processes = []
        for _ in range(count):
            ours, theirs = _CONTEXT.Pipe()
            process = _CONTEXT.Process(target=worker, args=(str(path), synchronous, theirs))
            process.start()
            assert ours.recv() == "ready"
            self.pipes.append(ours)
            self.processes.append(process)

    def do(self, name: str) -> float:
        """Have all of them do it at once; things per second of all together."""
        _, calls, things = ENDINGS[name]
        began = time.perf_counter()
        for pipe in self.pipes:
            pipe.send(name)
        for pipe in self.pipes:
            pipe.recv()
        return len(self.pipes) * calls * things / (time.perf_counter() - began)

    def dismiss(self) -> None:
        """End them."""
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            pipe.send(None)
            process.join()


def rates(directory: Path, synchronous: Synchronous, processes: int) -> dict[str, list[float]]:
    """Things per second, by what is measured, of each round."""
    path = directory / f"{synchronous}-{processes}.db"
    found: dict[str, list[float]] = {name: [] for name in ENDINGS}
    store = SQLiteLightningStore(path, synchronous="normal")
    crew = Crew(path, synchronous, processes)
    for _ in range(ROUNDS):
        for name in ENDINGS:
            if name != "enqueue_rollout":
                asyncio.run(fill(store, processes * CALLS))
            before = asyncio.run(store.statistics())
            found[name].append(crew.do(name))
            check(name, processes, before, asyncio.run(store.statistics()))
    crew.dismiss()
    report = asyncio.run(store.audit())
    assert report.findings == [], report
    asyncio.run(store.close())
    return found


def check(name: str, processes: int, before: dict[str, int], after: dict[str, int]) -> None:
    """What was put in came out, once."""
    calls = processes * CALLS
    if name == "enqueue_rollout":
        assert after["total_rollouts"] - before["total_rollouts"] == calls
    elif name in {"dequeue_rollout", "update_attempt"}:
        assert after["total_attempts"] - before["total_attempts"] == calls
    elif name.startswith("add_many_spans"):
        assert after["total_spans"] - before["total_spans"] == processes * ENDINGS[name][1] * SPANS


async def fill(store: SQLiteLightningStore, count: int) -> None:
    """Enqueue in bulk."""
    for start in range(0, count, 2000):
        await store.enqueue_many_rollouts(requests(min(2000, count - start)))


# -- pages -------------------------------------------------------------------------------------------------------------

PAGES: dict[str, dict[str, object]] = {
    "first page": {},
    "first page of a status": {"status_in": ["queuing"]},
    "first page of two statuses": {"status_in": ["queuing", "preparing"]},
    "first page of a group of 100": {"group_id": "group"},
    "latest start first": {"sort_by": "start_time", "sort_order": "desc"},
    "by id": {"sort_by": "rollout_id"},
    "latest end first (no index)": {"sort_by": "end_time", "sort_order": "asc"},
    "ids that contain a text (no index)": {"rollout_id_contains": "abc"},
    "last page": {"offset": -PAGE},
}


async def pages(directory: Path, count: int) -> dict[str, float]:
    """Milliseconds of a page, by kind."""
    store = SQLiteLightningStore(directory / f"pages-{count}.db", synchronous="normal")
    await store.enqueue_many_rollouts([EnqueueRolloutRequest(input=1, group_id="group") for _ in range(100)])
    await fill(store, count - 100)
    await store.dequeue_rollout()
    found = {}
    for name, query in PAGES.items():
        arguments = {"limit": PAGE, **query}
        if query.get("offset"):
            arguments["offset"] = count - PAGE
        spent = []
        for _ in range(25):
            began = time.perf_counter()
            page = await store.query_rollouts(**arguments)  # type: ignore[arg-type]
            spent.append(1e3 * (time.perf_counter() - began))
            assert len(page) <= PAGE
        found[name] = statistics.median(spent)
    await store.close()
    return found


# -- pickups -----------------------------------------------------------------------------------------------------------


def waiter(path: str, pipe: Connection) -> None:
    """A process that waits for work and tells when it had it."""

    async def serve() -> None:
        store = SQLiteLightningStore(path)
        while True:
            pipe.send("waits")
            claimed = await store.dequeue_rollout("waiter", timeout=60, lease_seconds=60)
            pipe.send(time.monotonic())
            if claimed is None or claimed.input == "last":
                break
        await store.close()

    asyncio.run(serve())


async def pickups(directory: Path) -> list[float]:
    """Milliseconds from just before the enqueuing call of one process to the return of the waiting one of another."""
    path = directory / "pickup.db"
    store = SQLiteLightningStore(path)
    await store.statistics()
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=waiter, args=(str(path), theirs))
    process.start()
    spent = []
    for number in range(PICKUPS):
        ours.recv()
        await asyncio.sleep(0.02)  # until it waits
        began = time.monotonic()
        await store.enqueue_rollout("last" if number == PICKUPS - 1 else number)
        spent.append(1e3 * (await asyncio.to_thread(ours.recv) - began))
    process.join()
    await store.close()
    return sorted(spent)


# -- the report --------------------------------------------------------------------------------------------------------


def median(values: Sequence[float]) -> str:
    """The middle, with the lowest and the highest."""
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        directory = Path(name)
        print("# Results of the SQLite store\n\nWritten by `python -m benchmarks.sqlite`.\n")
        print(
            f"- SQLite {sqlite3.sqlite_version}, Python {platform.python_version()}, {platform.system()}, "
            f"{os.cpu_count()} cores shared by all processes and whatever else runs"
        )
        print(f"- medians of {ROUNDS} rounds, with the lowest and the highest\n\n## Calls\n")
        print("Each process makes one call after the other; things per second of all processes together.\n")
        columns: list[tuple[Synchronous, int]] = [("full", 1), ("full", 4), ("normal", 1), ("normal", 4)]
        found = [rates(directory, synchronous, processes) for synchronous, processes in columns]
        print(
            "| call | " + " | ".join(f"{sync}, {count} process{'es' * (count > 1)}" for sync, count in columns) + " |"
        )
        print("|---|" + "---:|" * len(columns))
        for call in ENDINGS:
            print(f"| {call} | " + " | ".join(median(each[call]) for each in found) + " |")
        print(f"\n## Pages\n\nMilliseconds of a page of {PAGE}, medians of 25.\n")
        few, many = (asyncio.run(pages(directory, count)) for count in (FEW, MANY))
        print(f"| page | among {FEW:,} | among {MANY:,} |\n|---|---:|---:|")
        for kind in PAGES:
            print(f"| {kind} | {few[kind]:.1f} | {many[kind]:.1f} |")
        spent = asyncio.run(pickups(directory))
        print("\n## Pickup by a waiting process\n")
        print("From just before `enqueue_rollout` in one process to the return of `dequeue_rollout` in another, with")
        print(f'`synchronous="full"`, both calls included; {PICKUPS} pickups.\n')
        print("| p50 | p90 | p99 | longest |\n|---:|---:|---:|---:|")
        places = (len(spent) // 2, int(0.9 * len(spent)), int(0.99 * len(spent)), -1)
        print("| " + " | ".join(f"{spent[place]:.1f} ms" for place in places) + " |")


if __name__ == "__main__":
    main()
