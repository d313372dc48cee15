"""A runner process that waits for work and says when it had it; or the least that such a process could be."""

import asyncio
import multiprocessing
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, Literal

import redis.asyncio as aioredis

from benchmarks import limits
from benchmarks.setting import LEASE_SECONDS
from lightning_store.backends.redis.connection import Connections
from lightning_store.backends.redis.settings import settings_for
from lightning_store.backends.redis.store import RedisLightningStore

Kind = Literal["store", "plain", "pop", "claim"]
"""A runner on the store; a BLPOP with redis-py; on the store's connections a BLPOP, or that of a hint and a claim."""

Wait = Callable[[], Awaitable[str]]

_WAIT_SECONDS = 60
_BLOCK_SECONDS = 10  # as long as a store's blocking reads last at most
_PLAIN_SECONDS = 4  # redis-py ends a read after 5 s
_END_SECONDS = 10


@contextmanager
def idle_runner(kind: Kind, url: str, *names: str) -> Iterator[Connection]:
    """Start a runner process and end it afterwards.

    Args:
        kind: What it does.
        url: The server.
        names: The namespace of a store, or the keys of a limit.

    Yields:
        A pipe: send it a number, and it waits for so many pieces of work one after the other; for each it sends back
        the piece and the time at which it had it, by the clock that all processes of a machine share.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs, kind, url, names), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()  # ends the process
        process.join(_END_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()


def _run(pipe: Connection, kind: Kind, url: str, names: tuple[str, ...]) -> None:
    asyncio.run(_serve(pipe, kind, url, names))


async def _serve(pipe: Connection, kind: Kind, url: str, names: tuple[str, ...]) -> None:
    closing, wait = _waiting(kind, url, names)
    try:
        while True:
            for _ in range(await asyncio.to_thread(pipe.recv)):
                piece = await wait()
                pipe.send((piece, time.monotonic()))
    except EOFError:
        await closing.close()


def _waiting(kind: Kind, url: str, names: tuple[str, ...]) -> tuple[Any, Wait]:
    """What to close in the end, and how to wait for one piece of work."""
    if kind == "store":
        store = RedisLightningStore(url, namespace=names[0])
        return store, lambda: _from_store(store)
    if kind == "plain":
        client = aioredis.Redis.from_url(url)
        return client, lambda: _popped_plainly(client, names[0])
    connections = Connections(settings_for(url))
    if kind == "pop":
        return connections, lambda: _popped(connections, names[0])
    return connections, lambda: _claimed(connections, *names)


async def _from_store(store: RedisLightningStore) -> str:
    rollout = await store.dequeue_rollout(worker_id="idle", timeout=_WAIT_SECONDS, lease_seconds=LEASE_SECONDS)
    return rollout.rollout_id if rollout else ""


async def _popped_plainly(client: aioredis.Redis, queue: str) -> str:
    answer: Any = await client.blpop([queue], timeout=_PLAIN_SECONDS)
    return answer[1].decode() if answer else ""


async def _popped(connections: Connections, queue: str) -> str:
    answer = await connections.block(_BLOCK_SECONDS, "BLPOP", queue, _BLOCK_SECONDS)
    return answer[1].decode() if answer else ""


async def _claimed(connections: Connections, tokens: str, queue: str, records: str) -> str:
    await connections.block(_BLOCK_SECONDS, "BLPOP", tokens, _BLOCK_SECONDS)
    answer = await connections.run(limits.CLAIM.call(queue=queue, records=records, worker_id="idle"))
    return answer.decode() if answer else ""
