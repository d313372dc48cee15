"""What client processes do: the real runner, the real daemon, and an algorithm, all on a logged store."""

import asyncio
import importlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from chaos.algorithm import Algorithm
from chaos.history import Journal
from chaos.logged import LoggedStore
from chaos.work import on_loop, on_thread
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.contract import LightningStore
from lightning_store.healthcheck import HealthCheck
from lightning_store.runner import Runner
from lightning_store.signals import stop_on_signals

LOG_FORMAT: Final = "%(relativeCreated)d %(levelname)s %(name)s %(message)s"
POLL_SECONDS: Final = 2.0
DAEMON_INTERVAL_SECONDS: Final = 1.0
SILENT_SECONDS: Final = 30.0
IMPATIENT: Final[Mapping[str, Any]] = {"socket_seconds": 1.0, "retry_seconds": 2.0}
"""Limits of clients that give calls up soon; the others have the usual ones."""


@dataclass(frozen=True)
class Order:
    """What a client process is to do.

    Attributes:
        journal: File for its calls, not there yet.
        number: Of the runner.
        is_impatient: Gives calls up so soon that it often does not know whether they took effect.
        seed: Of the tasks.
        wrapper: `module:name` of what wraps the store below the log; None = nothing. For tests that break the store.
    """

    url: str = field(repr=False)
    namespace: str
    journal: str
    lease_seconds: float
    concurrency: int
    is_impatient: bool
    number: int = 0
    seed: int = 0
    wrapper: str | None = None

    def store(self) -> tuple[RedisLightningStore, LoggedStore]:
        """The store itself, and the logged one that is to be used."""
        limits = IMPATIENT if self.is_impatient else {}
        bare = RedisLightningStore(self.url, namespace=self.namespace, **limits)
        return bare, LoggedStore(_wrapped(bare, self.wrapper), Journal(Path(self.journal)))


def run_runner(order: Order) -> int:
    """Until SIGTERM; every other runner has agents on threads."""
    _, store = order.store()
    runner = Runner(
        store,
        on_loop if order.number % 2 else on_thread,
        concurrency=order.concurrency,
        lease_seconds=order.lease_seconds,
        poll_seconds=POLL_SECONDS,
    )
    runner.run_forever()
    return 0


def run_daemon(order: Order) -> int:
    """Until SIGTERM."""
    bare, store = order.store()
    daemon = HealthCheck(store, DAEMON_INTERVAL_SECONDS, silent_seconds=SILENT_SECONDS)

    async def run() -> None:
        try:
            await daemon.run()
        finally:
            await bare.close()

    with stop_on_signals(daemon.stop):
        asyncio.run(run())
    return 0


def run_algorithm(order: Order) -> int:
    """Enqueue until SIGTERM, then wait until all is finished."""
    bare, store = order.store()
    algorithm = Algorithm(store, order.seed)

    async def run() -> None:
        try:
            await algorithm.run()
        finally:
            await bare.close()

    with stop_on_signals(algorithm.stop):
        asyncio.run(run())
    return 0


def _wrapped(store: LightningStore, wrapper: str | None) -> LightningStore:
    if wrapper is None:
        return store
    module, _, name = wrapper.partition(":")
    wrap = cast("Callable[[LightningStore], LightningStore]", getattr(importlib.import_module(module), name))
    return wrap(store)


def _with_log(role: Callable[[Order], int]) -> Callable[[Order], int]:
    def run(order: Order) -> int:
        logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
        return role(order)

    return run


ROLES: Final[Mapping[str, Callable[[Order], int]]] = {
    name: _with_log(role)
    for name, role in (("runner", run_runner), ("daemon", run_daemon), ("algorithm", run_algorithm))
}
