"""Where the figures are taken: a server, stores in namespaces of this run, and what the server tells about itself."""

import asyncio
import gc
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from benchmarks.measuring import Sizes
from lightning_store.backends.redis.connection import Connections
from lightning_store.backends.redis.keys import Keys
from lightning_store.backends.redis.settings import settings_for
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.embedded import EmbeddedRedis
from lightning_store.records import EnqueueRolloutRequest

INPUT_BYTES = 200
LEASE_SECONDS = 3600.0
"""Longer than any run, so that nothing comes due by itself."""

_FILL_BULK = 500
_FROM_STORES = ("evalsha", "eval", "blpop")


@contextmanager
def server_at(url: str | None) -> Iterator[str]:
    """The server that was given, or an embedded one with its usual settings, but no rewriting of its file meanwhile."""
    if url is not None:
        yield url
        return
    with EmbeddedRedis(settings={"auto-aof-rewrite-percentage": "0"}) as server:
        yield server.url


@dataclass(frozen=True)
class Spent:
    """What some calls took.

    Attributes:
        seconds: Wall time of all calls together.
        redis_seconds: CPU time of the server.
        client_seconds: CPU time of this process.
    """

    calls: int
    seconds: float
    redis_seconds: float
    client_seconds: float

    @property
    def rate(self) -> float:
        """Calls per second."""
        return self.calls / self.seconds

    @property
    def redis_micros(self) -> float:
        """Microseconds of server CPU per call."""
        return 1e6 * self.redis_seconds / self.calls

    @property
    def client_micros(self) -> float:
        """Microseconds of this process' CPU per call."""
        return 1e6 * self.client_seconds / self.calls


class Bench:
    """One run against one server.

    Attributes:
        bare: Connections like those of the stores, for what the limits send.
        peers: Names of the peers to measure.
    """

    def __init__(self, url: str, sizes: Sizes, peers: Collection[str] = ()) -> None:
        self.url = url
        self.sizes = sizes
        self.peers = peers
        self.bare = Connections(settings_for(url))
        self._run = secrets.token_hex(3)
        self._namespaces: dict[str, str] = {}
        self._stores: list[RedisLightningStore] = []

    async def __aenter__(self) -> "Bench":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.clear()
        finally:
            await self.bare.close()

    def namespace(self, part: str) -> str:
        """A namespace that nobody else uses; its name is as long as `default`, because names cost memory."""
        return self._namespaces.setdefault(part, f"{self._run}{len(self._namespaces):x}")

    def key(self, part: str, kind: str) -> str:
        """A key for a limit; it goes with the part."""
        return Keys(self.namespace(part)).control(f"bare-{kind}")

    def store(self, part: str, *, url: str | None = None, **options: Any) -> RedisLightningStore:
        """A store of a part, closed and cleared with it; `url` is another way to the same server."""
        store = RedisLightningStore(url or self.url, namespace=self.namespace(part), **options)
        self._stores.append(store)
        return store

    async def clear(self) -> None:
        """Remove all keys of this run and close its stores."""
        for store in self._stores:
            await store.close()
        self._stores.clear()
        for namespace in self._namespaces.values():
            await self.remove(Keys(namespace).control("*"))
            await self.remove(f"ls:{namespace}:*")
        self._namespaces.clear()

    async def remove(self, pattern: str) -> int:
        """Remove the keys that match, and wait until their memory is free; how many there were."""
        cursor, removed = "0", 0
        while True:
            next_cursor, names = await self.bare.command("SCAN", cursor, "MATCH", pattern, "COUNT", 2000)
            if names:
                removed += await self.bare.command("UNLINK", *names)
            cursor = next_cursor.decode()
            if cursor == "0":
                break
        while int((await self.info("memory")).get("lazyfree_pending_objects", "0")):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
        return removed

    async def info(self, section: str) -> dict[str, str]:
        """A section of the server's INFO."""
        text = (await self.bare.command("INFO", section)).decode()
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    async def redis_cpu(self) -> float:
        """CPU seconds that the server has used."""
        cpu = await self.info("cpu")
        return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])

    async def script_time(self) -> tuple[int, float]:
        """How many cached scripts the server has run, and the seconds that they took."""
        line = (await self.info("commandstats")).get("cmdstat_evalsha", "calls=0,usec=0")
        fields = dict(pair.split("=") for pair in line.split(","))
        return int(fields["calls"]), int(fields["usec"]) / 1e6

    async def client_commands(self) -> int:
        """How many commands the server has had from stores: the ones that wait, and scripts, not what these call."""
        stats = await self.info("commandstats")
        lines = [stats.get(f"cmdstat_{name}", "calls=0,") for name in _FROM_STORES]
        return sum(int(line.partition("calls=")[2].partition(",")[0]) for line in lines)

    async def blocked_clients(self) -> int:
        """How many connections wait in a blocking command."""
        return int((await self.info("clients"))["blocked_clients"])

    async def timed(self, count: int, step: Callable[[int], Awaitable[object]], *, coroutines: int = 1) -> Spent:
        """Call `step` with 0, 1, ... `count` - 1 from so many coroutines."""
        numbers = iter(range(count))

        async def work() -> None:
            for number in numbers:
                await step(number)

        gc.collect()
        gc.freeze()  # what the benchmark itself holds is not to be walked meanwhile
        redis_before, client_before, before = await self.redis_cpu(), time.process_time(), time.perf_counter()
        if coroutines == 1:
            await work()
        else:
            await asyncio.gather(*(work() for _ in range(coroutines)))
        seconds, client = time.perf_counter() - before, time.process_time() - client_before
        gc.unfreeze()
        return Spent(count, seconds, await self.redis_cpu() - redis_before, client)


def task(number: int) -> dict[str, Any]:
    """A task whose JSON has `INPUT_BYTES` bytes."""
    head = {"task": number, "prompt": ""}
    prompt = "x" * (INPUT_BYTES - len(f'{{"task":{number},"prompt":""}}'))
    return {**head, "prompt": prompt}


async def fill(store: RedisLightningStore, count: int, *, bulk: int = _FILL_BULK, **options: Any) -> list[str]:
    """Enqueue tasks 0, 1, ... so many a call; the ids in order."""
    ids: list[str] = []
    for start in range(0, count, bulk):
        requests = [
            EnqueueRolloutRequest(input=task(number), **options) for number in range(start, min(count, start + bulk))
        ]
        ids += [rollout.rollout_id for rollout in await store.enqueue_many_rollouts(requests)]
    return ids


async def used_memory(bench: Bench) -> int:
    """Bytes that the server uses."""
    return int((await bench.info("memory"))["used_memory"])
