"""Many clients of one HTTP server for a while: errors, losses, memory. `python -m benchmarks.server_soak`, minutes.

Client processes enqueue, claim, send spans and report through the server; what has finished is followed by the log of
completions, checked, and pruned. At the end what the clients were told is compared with what the log had.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil

from benchmarks.soak import span_of
from lightning_store import RedisLightningStore
from lightning_store.backends.memory import InMemoryLightningStore
from lightning_store.embedded import EmbeddedRedis
from lightning_store.http.client import LightningStoreClient
from lightning_store.http.foreground import serve_here
from lightning_store.http.options import ServerOptions
from lightning_store.records import AttemptedRollout, EnqueueRolloutRequest, RolloutConfig

T = TypeVar("T")

RESULTS = Path(__file__).parent / "server_soak.md"
CLIENTS = 64
PROCESSES = 2
BULK = 2
SPANS = 3
FAILS_EVERY = 10
LEASE_SECONDS = 60.0
KEEP = 500
EVENTS_KEPT = 2_000
TOKEN_SECONDS = 6.0
"""Answers for repeats are kept for so long here; with the usual 240 s they would pile up all through the soak."""

WARM_UP = 1 / 3
"""Part of the time after which everything that is bounded has reached its bound."""

MOST_GROWTH = 0.1
MIB = 1024 * 1024
READER = "soak"


@dataclass
class Told:
    """What clients were told.

    Attributes:
        enqueued: Ids of the rollouts that they enqueued.
        claimed: Each claim as rollout and attempt id.
        spans: Spans that were stored.
        calls: Calls of the store.
        errors: What was raised.
        seconds: How long calls took, those that waited for work apart.
    """

    enqueued: list[str] = field(default_factory=list)
    claimed: list[tuple[str, str]] = field(default_factory=list)
    spans: int = 0
    calls: int = 0
    errors: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, other: "Told") -> None:
        """Put together what two were told."""
        self.enqueued += other.enqueued
        self.claimed += other.claimed
        self.spans += other.spans
        self.calls += other.calls
        self.errors += other.errors
        self.seconds += other.seconds


@dataclass
class Outcome:
    """What came of one soak.

    Attributes:
        lost: Rollouts that were enqueued and never finished.
        twice: Rollouts that finished, and claims that were made, more than once.
        wrong_spans: Rollouts whose spans are not those that were sent.
        first: The server's resident bytes after the warm-up, the median of some looks.
        last: The same at the end.
    """

    store: str
    clients: int
    elapsed: float
    told: Told
    finished: int
    lost: int
    twice: int
    wrong_spans: int
    first: float
    last: float

    @property
    def growth(self) -> float:
        """By which part the memory has grown."""
        return self.last / self.first - 1

    def is_good(self, most_growth: float) -> bool:
        """Nothing failed, was lost or came twice, and memory is flat."""
        is_whole = bool(self.finished) and not (self.told.errors or self.lost or self.twice or self.wrong_spans)
        return is_whole and self.growth <= most_growth


# -- the server --------------------------------------------------------------------------------------------------------


def be_server(url: str) -> int:
    """Serve a store until SIGTERM; the address goes to standard output."""
    store = InMemoryLightningStore() if url == "memory" else RedisLightningStore(url, events_kept=EVENTS_KEPT)
    options = ServerOptions(access_log=False, answer_seconds=TOKEN_SECONDS)
    return serve_here(
        store, options, None, workers=1, log_level="WARNING", started=lambda address: print(address, flush=True)
    )


@contextmanager
def serving(url: str) -> Iterator[tuple[str, psutil.Process]]:
    """A server in a process of its own: its address, and the process."""
    command = [sys.executable, "-m", "benchmarks.server_soak", "--role", "server", "--store-url", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - this very program
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), psutil.Process(process.pid)
        finally:
            process.terminate()
            assert process.wait(60) == 0


# -- clients -----------------------------------------------------------------------------------------------------------


class Client:
    """One client: lives of rollouts, one after the other."""

    def __init__(self, url: str, name: str) -> None:
        self._store = LightningStoreClient(url)
        self._name = name
        self.told = Told()

    async def run(self, seconds: float) -> Told:
        """Go on for so long; an error ends it."""
        until = time.monotonic() + seconds
        try:
            while time.monotonic() < until:
                await self._enqueue()
                for _ in range(BULK):
                    await self.live_one(timeout=1)
                await self._timed(self._store.update_worker(self._name, {"lives": len(self.told.claimed)}))
        except Exception as error:  # noqa: BLE001 - that there is none is what is to be shown
            self.told.errors.append(f"{type(error).__name__}: {error}")
        finally:
            await self._store.close()
        return self.told

    async def drain(self) -> None:
        """Bring to its end what others have left in the queue."""
        while await self.live_one(timeout=0):
            pass
        await self._store.close()

    async def live_one(self, timeout: float) -> bool:
        """Claim one rollout and bring it to its end; False if there was none."""
        claimed = await self._store.dequeue_rollout(self._name, timeout=timeout, lease_seconds=LEASE_SECONDS)
        self.told.calls += 1
        if claimed is None:
            return False
        self.told.claimed.append((claimed.rollout_id, claimed.attempt.attempt_id))
        await self._work(claimed)
        return True

    async def _enqueue(self) -> None:
        config = RolloutConfig(max_attempts=2, retry_condition=["failed"])
        requests = [EnqueueRolloutRequest(input={"question": "x" * 200}, config=config) for _ in range(BULK)]
        stored = await self._timed(self._store.enqueue_many_rollouts(requests))
        self.told.enqueued += [each.rollout_id for each in stored]

    async def _work(self, claimed: AttemptedRollout) -> None:
        rollout_id, attempt_id = claimed.rollout_id, claimed.attempt.attempt_id
        spans = [span_of(rollout_id, attempt_id, number) for number in range(1, SPANS + 1)]
        self.told.spans += len(await self._timed(self._store.add_many_spans(spans, renumber=True)))
        fails = claimed.attempt.sequence_id == 1 and len(self.told.claimed) % FAILS_EVERY == 0
        await self._timed(self._store.update_attempt(rollout_id, attempt_id, "failed" if fails else "succeeded"))

    async def _timed(self, call: Awaitable[T]) -> T:
        began = time.monotonic()
        answer = await call
        self.told.seconds.append(time.monotonic() - began)
        self.told.calls += 1
        return answer


async def be_clients(url: str, count: int, seconds: float, name: str) -> Told:
    """Some clients at once."""
    told = Told()
    clients = [Client(url, f"{name}-{number}") for number in range(count)]
    for each in await asyncio.gather(*(client.run(seconds) for client in clients)):
        told.add(each)
    return told


# -- what has finished -------------------------------------------------------------------------------------------------


class Follower:
    """Follows the log of completions, checks the spans of what has finished, and prunes it."""

    def __init__(self, url: str) -> None:
        self._store = LightningStoreClient(url)
        self._cursor: str | None = None
        self.finishes: Counter[str] = Counter()
        self.wrong_spans = 0

    async def follow(self, stop: asyncio.Event) -> None:
        """Go on until told to stop, and then to the end of the log."""
        while not stop.is_set() or await self._step(0):
            await self._step(0.5)
        await self._store.close()

    async def _step(self, timeout: float) -> int:
        page = await self._store.completions(self._cursor, timeout=timeout, limit=200)
        self._cursor = page.cursor
        if page.items:
            ids = [each.rollout_id for each in page.items]
            self.finishes.update(ids)
            await self._check_spans(ids)
            await self._store.acknowledge_completions(READER, page.cursor)
            await self._store.prune(keep_latest=KEEP, consumed_cursor=page.cursor)
        return len(page.items)

    async def _check_spans(self, ids: list[str]) -> None:
        for spans in (await self._store.query_many_spans(ids)).values():
            attempts = len({span.attempt_id for span in spans})
            numbers = sorted(span.sequence_id for span in spans)
            self.wrong_spans += numbers != list(range(1, SPANS * attempts + 1)) or not attempts


# -- the soak ----------------------------------------------------------------------------------------------------------


async def soak(name: str, store_url: str, clients: int, seconds: float) -> Outcome:
    """One soak of one store."""
    began = time.monotonic()
    with serving(store_url) as (url, server):
        follower, stop = Follower(url), asyncio.Event()
        following = asyncio.create_task(follower.follow(stop))
        command = [sys.executable, "-m", "benchmarks.server_soak", "--role", "clients", "--store-url", url]
        sizes = ["--clients", str(clients // PROCESSES), "--seconds", str(seconds)]
        processes = [
            await asyncio.create_subprocess_exec(*command, *sizes, "--name", f"c{number}", stdout=subprocess.PIPE)
            for number in range(PROCESSES)
        ]
        reports = asyncio.gather(*(process.communicate() for process in processes))
        looks = await _looks(server, reports)
        told = Told()
        for output, _ in await reports:
            told.add(Told(**json.loads(output)))
        elapsed = time.monotonic() - began
        last = Client(url, "last")
        await last.drain()
        told.add(last.told)
        stop.set()
        await following
    warm = int(len(looks) * WARM_UP)
    few = max(1, len(looks) // 10)
    claims = Counter(map(tuple, told.claimed))
    return Outcome(
        store=name,
        clients=clients,
        elapsed=elapsed,
        told=told,
        finished=follower.finishes.total(),
        lost=len(set(told.enqueued) - set(follower.finishes)),
        twice=sum(1 for counts in (follower.finishes, claims) for count in counts.values() if count > 1),
        wrong_spans=follower.wrong_spans,
        first=statistics.median(looks[warm : warm + few]),
        last=statistics.median(looks[-few:]),
    )


async def _looks(server: psutil.Process, reports: "asyncio.Future[list[tuple[bytes, bytes]]]") -> list[int]:
    """The resident bytes of the server until the clients have ended."""
    looks: list[int] = []
    while not reports.done():
        looks.append(server.memory_info().rss)
        await asyncio.wait({reports}, timeout=0.2)
    return looks


# -- the page ----------------------------------------------------------------------------------------------------------


def render(outcomes: Sequence[Outcome], seconds: float, most_growth: float) -> str:
    """The results as a page."""
    rows = "\n".join(_row(each) for each in outcomes)
    errors = [f"- {each.store}: {error}" for each in outcomes for error in each.told.errors[:10]]
    return "\n".join([
        "# Soak of the server",
        "",
        f"`python -m benchmarks.server_soak`: {outcomes[0].clients} clients in {PROCESSES} processes, {seconds:g} s",
        "a store, against one server process, each with connections of its own. They enqueue a few rollouts at a",
        f"time, claim with a lease, store {SPANS} spans of about 1 kB and report; every {FAILS_EVERY}th first attempt",
        f"fails and is retried. One more client follows the log of completions, checks spans, and prunes to {KEEP}.",
        "",
        "| store | rollouts | calls | calls/s | spans | p50 ms | p99 ms | errors | lost | twice | wrong spans |"
        " MiB after warm-up | MiB at the end | growth |",
        "|---|" + "---:|" * 13,
        rows,
        *errors,
        "",
        "*Lost*: enqueued, and not in the log of completions. *Twice*: finished twice, or a claim that two were given.",
        f"*MiB*: resident memory of the server process, after {WARM_UP:.0%} of the time and at the end; at most",
        f"{most_growth:+.0%} is allowed. The server keeps answers for repeats for {TOKEN_SECONDS:g} s here, not for",
        "the usual 240 s, in which they would pile up all through the soak. Times are those of calls that do not wait,",
        "seen by the clients, which share the machine's processors with server and Redis.",
        "",
    ])  # fmt: skip


def _row(each: Outcome) -> str:
    told = each.told
    slow = statistics.quantiles(told.seconds, n=100)
    cells = [
        each.store, f"{each.finished:,}", f"{told.calls:,}", f"{told.calls / each.elapsed:,.0f}", f"{told.spans:,}",
        f"{slow[49] * 1e3:.0f}", f"{slow[98] * 1e3:.0f}", len(told.errors), each.lost, each.twice, each.wrong_spans,
        f"{each.first / MIB:.1f}", f"{each.last / MIB:.1f}", f"{each.growth:+.1%}",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak and write the page; 1 if anything failed, was lost or came twice, or memory grew."""
    options = _parser().parse_args(arguments)
    if options.role == "server":
        return be_server(options.store_url)
    if options.role == "clients":
        told = asyncio.run(be_clients(options.store_url, options.clients, options.seconds, options.name))
        print(json.dumps(asdict(told)))
        return 0
    outcomes = [asyncio.run(soak("memory", "memory", options.clients, options.seconds))]
    with EmbeddedRedis(settings={"appendonly": "no"}) as redis:
        outcomes.append(asyncio.run(soak("Redis", redis.url, options.clients, options.seconds)))
    page = render(outcomes, options.seconds, options.most_growth)
    options.output.write_text(page, encoding="utf-8")
    print(page)
    return int(not all(each.is_good(options.most_growth) for each in outcomes))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server_soak", description=__doc__)
    parser.add_argument("--clients", type=int, default=CLIENTS, help="at once")
    parser.add_argument("--seconds", type=float, default=60, help="how long, for each store")
    parser.add_argument("--most-growth", type=float, default=MOST_GROWTH, help="of the server's memory, as a part")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the page to write")
    parser.add_argument("--role", choices=("server", "clients"), help=argparse.SUPPRESS)
    parser.add_argument("--name", default="", help=argparse.SUPPRESS)
    parser.add_argument("--store-url", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
