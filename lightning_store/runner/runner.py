"""The runner: so many workers on one event loop, their heartbeats on a thread, and an orderly end."""

import asyncio
import itertools
import logging
import os
import socket
from collections.abc import Sequence
from typing import Any, Final

from lightning_store.background import callable_from_any_thread
from lightning_store.contract import DEFAULT_QUEUES, LightningStore
from lightning_store.errors import InvalidRequestError
from lightning_store.exporter import LightningSpanExporter
from lightning_store.metrics.facts import RunnerFacts
from lightning_store.patience import Reach
from lightning_store.requests import check_free_id, check_lease, check_limit, check_seconds, claim_request
from lightning_store.runner.calling import Agent, check_agent
from lightning_store.runner.renewal import Renewal
from lightning_store.runner.slot import Slot
from lightning_store.runner.stats import RunnerStats
from lightning_store.runner.surroundings import Surroundings
from lightning_store.signals import LastResort, stop_on_signals
from lightning_store.tracing import agent_tracer

logger = logging.getLogger("lightning_store")

DEFAULT_LEASE_SECONDS: Final = 60.0
DEFAULT_GRACE_SECONDS: Final = 30.0
DEFAULT_POLL_SECONDS: Final = 10.0
DEFAULT_CANCEL_SECONDS: Final = 10.0
SHORTEST_POLL_SECONDS: Final = 0.1

RELEASE_SECONDS: Final = 8.0
"""After the grace time: for an agent's last words, its spans, and giving the rollout back."""

LAST_RESORT_SECONDS: Final = 2.0
"""After all that: then the loop is blocked, and the rollouts are given back from the heartbeats' thread."""

_NUMBERS = itertools.count()


class Runner:
    """Works on rollouts with an agent.

    The agent is a function or a coroutine function of three arguments:

    1. the rollout, an `AttemptedRollout`: `rollout.input` is the task, `rollout.attempt` this attempt;
    2. its resources by name, those that its `resources_id` names as they are now, else the latest; empty if there are
       none;
    3. an OpenTelemetry tracer. Spans of the global tracer belong to the attempt too.

    It returns None, or a number, or numbers by name: then these are its reward, as if it had called `emit_reward`. What
    it raises, and anything else that it returns, fails the attempt; the exception is recorded on the root span and in
    the attempt's metadata under `exception`. Spans that could not be stored are counted there under `lost_spans`.

    A coroutine runs on the runner's event loop, a function on a thread of its own, each with a copy of the context
    variables. When a rollout is cancelled, or its attempt ends or is replaced, the coroutine is cancelled. A function
    cannot be stopped from outside: it should ask `cancelled()` now and then. Whatever it returns is dropped; if it does
    not return in time (`cancel_seconds`), it is left behind and its worker goes on.

    Each of the `concurrency` workers claims one rollout at a time under its own worker id. Heartbeats keep the leases;
    they come from a thread of their own, so a busy agent does not lose its lease, unless it is in C code that never
    lets other threads run. When the store is out of reach, the runner waits for it and goes on.

    Attributes:
        store: The store, or the wrapper that makes it safe to call from any thread.
        worker_ids: Names of the workers.
    """

    def __init__(
        self,
        store: LightningStore,
        agent: Agent,
        *,
        concurrency: int = 1,
        queues: Sequence[str] = DEFAULT_QUEUES,
        lease_seconds: float = DEFAULT_LEASE_SECONDS,
        worker_id: str | None = None,
        grace_seconds: float = DEFAULT_GRACE_SECONDS,
        poll_seconds: float = DEFAULT_POLL_SECONDS,
        cancel_seconds: float = DEFAULT_CANCEL_SECONDS,
    ) -> None:
        """Set up; nothing is sent.

        Args:
            store: Where rollouts come from. If it is not safe to call from any thread, the runner makes a wrapper for
                it; then everybody else has to use that wrapper (`LightningStoreThreaded`) too.
            agent: What works on a rollout.
            concurrency: How many rollouts are worked on at once.
            queues: Queues to claim from, in this order: strict priority.
            lease_seconds: Longest silence of this runner before the store gives its rollouts to others.
            worker_id: Name of the only worker, or the beginning of the workers' names if there are several; None = host
                and process id.
            grace_seconds: How long running agents may take to finish after `stop`; then their rollouts are given back.
            poll_seconds: How long one claim waits for work.
            cancel_seconds: How long an agent may take to stop after its work became unwanted.

        Raises:
            InvalidRequestError: An argument is out of bounds.
        """
        check_limit(concurrency, "concurrency", 1)
        check_lease(lease_seconds)
        claim_request(1, worker_id, queues, poll_seconds, lease_seconds)
        if check_seconds(poll_seconds, "poll_seconds") < SHORTEST_POLL_SECONDS:
            raise InvalidRequestError(f"poll_seconds: expected at least {SHORTEST_POLL_SECONDS}, got {poll_seconds}")
        self.store = callable_from_any_thread(store)
        self._agent = check_agent(agent, _name_of(agent))
        self._queues = tuple(queues)
        self._lease_seconds = lease_seconds
        self._grace_seconds = check_seconds(grace_seconds, "grace_seconds")
        self._poll_seconds = poll_seconds
        self._cancel_seconds = check_seconds(cancel_seconds, "cancel_seconds")
        self.worker_ids: tuple[str, ...] = _worker_ids(worker_id, concurrency)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._stop_asked = False
        self._renewal: Renewal | None = None
        self._slots: Sequence[Slot] = ()
        self._around: Surroundings | None = None

    async def run(self) -> None:
        """Work until `stop` is called; cancelling this gives all rollouts back without grace.

        Raises:
            LightningStoreError: The store refuses for good, for instance because of its schema version.
        """
        self._loop = asyncio.get_running_loop()
        exporter = LightningSpanExporter(self.store)
        around = self._around = self._surroundings(exporter)
        slots = self._slots = [Slot(around, worker_id) for worker_id in self.worker_ids]
        self._renewal = Renewal(self.store, slots, self._lease_seconds, around.stats.read)
        self._renewal.start()
        logger.info("runner started workers=%s queues=%s", ",".join(self.worker_ids), ",".join(self._queues))
        try:
            await self._supervise(slots, around)
        finally:
            self._stopping = None
            await asyncio.to_thread(exporter.shutdown, 1000)
            self._renewal.stop()
            logger.info("runner stopped attempts=%s", around.stats.read()["attempts"])

    def run_forever(self) -> None:
        """Run in an event loop of its own until SIGTERM or SIGINT; a second one ends the process at once (130 or 143).

        Returns when every rollout is finished or given back, at most some seconds after the grace time: an agent that
        blocks by then is left behind, and the process ends with 0 if its rollouts could be given back all the same.

        Raises:
            LightningStoreError: As in `run`.
        """
        last_resort = LastResort(
            self._grace_seconds + RELEASE_SECONDS + LAST_RESORT_SECONDS, self._release_from_outside
        )

        def stop() -> None:
            last_resort.arm()
            self.stop()

        try:
            with stop_on_signals(stop):
                asyncio.run(self.run())
        finally:
            last_resort.disarm()

    def stop(self, grace_seconds: float | None = None) -> None:
        """Claim no more, let running agents finish within the grace time, then end `run`; from any thread.

        Args:
            grace_seconds: Shortens the grace time, if it has not begun yet; None leaves it.
        """
        if grace_seconds is not None:
            self._grace_seconds = min(self._grace_seconds, grace_seconds)
        self._stop_asked = True
        loop, stopping = self._loop, self._stopping
        if loop is not None and stopping is not None and not loop.is_closed():
            loop.call_soon_threadsafe(stopping.set)

    def facts(self) -> RunnerFacts | None:
        """What metrics tell of the runner, from any thread; None before `run`."""
        around = self._around
        if around is None:
            return None
        return RunnerFacts(
            attempts=around.stats.attempts,
            busy=sum(slot.held is not None for slot in self._slots),
            workers=len(self.worker_ids),
            last_poll=around.stats.last_poll,
            lost_spans=around.exporter.lost_in_all,
            buffered_spans=around.exporter.buffered,
            is_answering=around.reach.is_answering,
        )

    def _surroundings(self, exporter: LightningSpanExporter) -> Surroundings:
        around = Surroundings(
            store=self.store,
            agent=self._agent,
            agent_name=_name_of(self._agent),
            tracer=agent_tracer(),
            exporter=exporter,
            queues=self._queues,
            lease_seconds=self._lease_seconds,
            poll_seconds=self._poll_seconds,
            cancel_seconds=self._cancel_seconds,
            reach=Reach("runner"),
            stats=RunnerStats(len(self.worker_ids)),
        )
        self._stopping = around.stopping
        if self._stop_asked:
            around.stopping.set()
        return around

    async def _supervise(self, slots: Sequence[Slot], around: Surroundings) -> None:
        """Until told to stop, or until a slot cannot go on, which stops the others."""
        tasks = [asyncio.ensure_future(slot.run()) for slot in slots]
        stop = asyncio.ensure_future(around.stopping.wait())
        try:
            await asyncio.wait({stop, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            around.stopping.set()
            logger.info("runner stops: claims no more, %d agents running", sum(slot.held is not None for slot in slots))
            await asyncio.wait(tasks, timeout=self._grace_seconds)
        finally:
            stop.cancel()
            around.stopping.set()
            for slot in slots:
                if slot.held is not None:
                    slot.held.interrupt("stopping")
            await asyncio.wait(tasks, timeout=RELEASE_SECONDS)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for error in results:
            if isinstance(error, Exception):
                raise error

    def _release_from_outside(self) -> None:
        """Give rollouts back although the runner's own loop is blocked."""
        logger.error("the runner does not end in time; its rollouts are given back")
        if self._renewal is not None:
            self._renewal.release_all(LAST_RESORT_SECONDS)


def _worker_ids(given: str | None, concurrency: int) -> tuple[str, ...]:
    if given is None:
        base = f"{socket.gethostname()}-{os.getpid()}"
        return tuple(f"{base}-{next(_NUMBERS)}" for _ in range(concurrency))
    check_free_id(given, "worker_id")
    return (given,) if concurrency == 1 else tuple(f"{given}-{number}" for number in range(concurrency))


def _name_of(agent: Any) -> str:
    """Name of the function, through `functools.partial`, or of the class of a callable object."""
    return str(getattr(getattr(agent, "func", agent), "__name__", type(agent).__name__))
