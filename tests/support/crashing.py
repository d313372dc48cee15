"""Runs an operation in a process that is killed as soon as the server has executed so many of its commands."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from lightning_store.backends.redis.cluster import ClusterPool, SlotMap
from lightning_store.backends.redis.connection import Connections
from lightning_store.backends.redis.pool import Pool
from lightning_store.backends.redis.scripts import Argument
from lightning_store.backends.redis.settings import ConnectionSettings
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.loops import PerLoop
from tests.support.clock import START_TIME, SettableClock

_PROCESSES: Final = multiprocessing.get_context("forkserver")
# What is imported once is there in every process.
_PROCESSES.set_forkserver_preload(["tests.support.crashing", "tests.support.long_operations"])

NO_OUTAGE_SECONDS: Final = 10_000.0
"""For `grace_seconds`: the clock jumps, and that is not to be taken for an outage."""

Work = Callable[[RedisLightningStore], Awaitable[Any]]


class _Countdown:
    """Commands that may still be executed before the process ends."""

    def __init__(self, commands: int) -> None:
        self.left = commands


class _CrashingPool(Pool):
    """Kills its process when the server has answered the last command that it may execute, in a pipeline too.

    Calls do not share a connection, so that the order of what several at once are answered is that of their sending.
    """

    def __init__(self, countdown: _Countdown, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._countdown = countdown

    async def send(self, commands: Sequence[Sequence[Argument]], *arguments: Any, **options: Any) -> list[Any]:
        allowed = min(len(commands), self._countdown.left)
        self._countdown.left -= allowed
        answers = await super().send(commands[:allowed], *arguments, **options)
        if self._countdown.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return answers


class _CrashingConnections(Connections):
    def __init__(self, settings: ConnectionSettings, countdown: _Countdown) -> None:
        super().__init__(settings)

        def to_server(settings: ConnectionSettings) -> Pool:
            return _CrashingPool(countdown, settings, most=1)

        def new_pool() -> Pool | ClusterPool:
            return ClusterPool(settings, slots, to_server) if settings.nodes else to_server(settings)

        slots = SlotMap(settings.nodes)
        self._pools = PerLoop(new_pool)
        self._blocking = PerLoop(new_pool)


def run_and_die(url: str, namespace: str, now: float, work: Work, commands: int) -> bool:
    """Let a new process do the work; whether it was killed after so many commands, instead of getting to the end.

    Args:
        url: Of the server.
        namespace: Of the store.
        now: What the time is.
        work: A function of a module.
        commands: After how many the process is killed.
    """
    process = _PROCESSES.Process(target=_work, args=(url, namespace, now, work, commands), daemon=True)
    process.start()
    process.join(30)
    assert process.exitcode in {0, -signal.SIGKILL}, f"the process ended with {process.exitcode}"
    return process.exitcode != 0


def _work(url: str, namespace: str, now: float, work: Work, commands: int) -> None:
    async def run() -> None:
        store = RedisLightningStore(
            url, namespace=namespace, clock=SettableClock(now), grace_seconds=NO_OUTAGE_SECONDS, max_connections=1
        )
        store._connections = _CrashingConnections(store._connections.settings, _Countdown(commands))
        await work(store)
        await store.close()

    asyncio.run(run())


def on_clock(url: str, namespace: str, seconds: float, call: Work) -> Any:
    """What a call answers of a store at some time after the start."""

    async def run() -> Any:
        clock = SettableClock(START_TIME + seconds)
        store = RedisLightningStore(url, namespace=namespace, clock=clock, grace_seconds=NO_OUTAGE_SECONDS)
        try:
            return await call(store)
        finally:
            await store.close()

    return asyncio.run(run())
