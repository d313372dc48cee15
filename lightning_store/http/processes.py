"""A server in processes of its own: one socket, any number of them, and a supervisor that starts again what dies.

The supervisor binds the socket and all processes accept from it. With a socket per process instead (SO_REUSEPORT) the
kernel would deal connections out to each, and those dealt to one that dies or drains would be lost; and a port in use
by another program of the same user would not be noticed.
"""

import asyncio
import concurrent.futures
import logging
import os
import pickle
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from lightning_store.errors import LightningStoreError
from lightning_store.http.listening import tls_context
from lightning_store.http.serving import Plan
from lightning_store.metrics.server import SharedFolder
from lightning_store.supervision import Launch, Supervisor, Upkeep, supervise

logger = logging.getLogger("lightning_store")

KILL_SECONDS: Final = 10.0
"""After the drain: then a process that still runs is killed."""

READY: Final = b"ready\n"


@dataclass(frozen=True)
class Order:
    """What a process is told, through a pipe: not on its command line, which everybody can read.

    Attributes:
        plan: What it serves.
        descriptor: Of the socket that it accepts from.
        log_level: Of its log on standard error; None = it has none.
    """

    plan: Plan
    descriptor: int
    log_level: str | None


class ServerSupervisor(Supervisor):
    """The parent of the processes. It serves nothing itself."""

    def __init__(
        self, plan: Plan, listener: socket.socket, workers: int, *, log_level: str | None, started: Callable[[], None]
    ) -> None:
        """Set up.

        Args:
            plan: What is served; its store has to be one that can be pickled.
            listener: Where; closed at the end.
            workers: Number of processes.
            log_level: Of the log of the processes; None = they have none.
            started: Called on the loop once all processes answer.
        """
        upkeep = Upkeep(
            name="server process",
            died="ended",
            may_finish=False,
            first_pause_seconds=0.2,
            longest_pause_seconds=15.0,
            patience_seconds=plan.options.drain_seconds + KILL_SECONDS,
        )
        super().__init__(workers, upkeep)
        self._plan = plan
        self._log_level = log_level
        self._listener = listener
        self._has_started = started
        self._not_ready = set(range(workers))
        self._counting = SharedFolder()

    def _launch(self, number: int) -> Launch:
        listening = os.dup(self._listener.fileno())  # our own may be closed before the process has come to life
        # The search path first: what the order is made of may have to be found by it.
        order = pickle.dumps(sys.path) + pickle.dumps(Order(self._plan, listening, self._log_level))
        return Launch("lightning_store.http.child", order, (listening,), self._counting.environment, is_heard=True)

    def _was_ready(self, number: int) -> bool:
        return number not in self._not_ready

    async def _attend(self, number: int, process: asyncio.subprocess.Process) -> None:
        """Wait for the word of a process that it answers requests, and read on, so that it can never be held up."""
        if process.stdout is None:
            return
        async for line in process.stdout:
            if line == READY and self._not_ready:
                self._not_ready.discard(number)
                if not self._not_ready:
                    self._has_started()

    def _has_ended(self, pid: int) -> None:
        self._counting.process_ended(pid)

    def _end_begins(self) -> None:
        self._listener.close()  # or who connects now would wait for as long as the last process drains

    def _all_ended(self) -> None:
        self._listener.close()
        self._counting.remove()


class ServerProcesses:
    """One run of a server in processes of its own, with their supervisor on a daemon thread of this one.

    Attributes:
        started: Done once all processes answer; fails when they could not start.
    """

    def __init__(self, plan: Plan, listener: socket.socket, workers: int) -> None:
        """Start them.

        Raises:
            InvalidRequestError: The certificate cannot be read.
            LightningStoreError: The store cannot be sent to another process.
        """
        tls_context(plan.options)  # the processes read it themselves, but here the caller learns what is wrong with it
        try:
            pickle.dumps(plan)
        except Exception as error:
            raise LightningStoreError(f"the store cannot be sent to another process: {error}") from error
        self.started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.started.set_running_or_notify_cancel()  # who waits for it may be cancelled, which must not end the start
        self._plan, self._listener, self._workers = plan, listener, workers
        self._loop = asyncio.new_event_loop()
        self._supervisor: ServerSupervisor | None = None
        self._thread = threading.Thread(target=self._run, name="lightning-store-supervisor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Drain and end all processes, and wait for that."""
        self._tell_to_stop()
        self._thread.join()

    def abandon(self) -> None:
        """End soon: nobody needs it any more."""
        self._tell_to_stop()
        if threading.current_thread() is not self._thread:
            self._thread.join(self._plan.options.drain_seconds + KILL_SECONDS)

    def leave_to_parent(self) -> None:
        """In a forked child: let go of the parent's socket, and of what tells the processes that the parent lives."""
        lifelines = () if self._supervisor is None else self._supervisor.lifelines
        for descriptor in (self._listener.detach(), *lifelines):
            with suppress(OSError):  # it was closed meanwhile
                os.close(descriptor)

    def _tell_to_stop(self) -> None:
        with suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        if self._supervisor is not None:
            self._supervisor.stop()

    def _run(self) -> None:
        try:
            code = self._loop.run_until_complete(self._supervise())
        except BaseException as error:  # noqa: BLE001 - whoever waits for the start learns of it
            self._not_started(error)
        else:
            self._not_started(LightningStoreError(f"the server's processes ended with exit code {code}, see their log"))
        finally:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    async def _supervise(self) -> int:
        self._supervisor = ServerSupervisor(
            self._plan, self._listener, self._workers, log_level=_level(), started=lambda: self.started.set_result(None)
        )
        return await self._supervisor.run()

    def _not_started(self, error: BaseException) -> None:
        if not self.started.done():
            self.started.set_exception(error)


def _level() -> str | None:
    """The level that this process logs at; None where it has set up no log."""
    return logging.getLevelName(logger.getEffectiveLevel()) if logger.hasHandlers() else None


def main_process(plan: Plan, listener: socket.socket, workers: int, log_level: str, started: Callable[[], None]) -> int:
    """Supervise processes from the main thread until SIGTERM or SIGINT.

    Returns:
        The exit code, as `Supervisor.run` says.
    """
    return supervise(lambda: ServerSupervisor(plan, listener, workers, log_level=log_level, started=started))
