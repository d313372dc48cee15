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
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from lightning_store.errors import LightningStoreError
from lightning_store.exits import ExitCode
from lightning_store.http.listening import tls_context
from lightning_store.http.serving import Plan
from lightning_store.metrics.server import SharedFolder
from lightning_store.patience import Backoff
from lightning_store.signals import SIGNAL_EXIT_BASE, STOP_SIGNALS, terminate

logger = logging.getLogger("lightning_store")

HEALTHY_SECONDS: Final = 10.0
"""A process that lived so long had no trouble to start, so the next one starts without a long pause."""

FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 15.0
MOST_FALSE_STARTS: Final = 3
"""After so many ends before its first answer, a process cannot start: trying again would hide why."""

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


class Supervisor:
    """The parent of the processes, on an event loop of its own. It serves nothing itself.

    Attributes:
        lifelines: Descriptors whose end tells the processes that their parent has gone.
    """

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
        self._plan = plan
        self._log_level = log_level
        self._listener = listener
        self.lifelines: set[int] = set()
        self._workers = workers
        self._has_started = started
        self._not_ready = set(range(workers))
        self._patience = plan.options.drain_seconds + KILL_SECONDS
        self._signals: list[int] = []
        self._stopping = asyncio.Event()
        self._running: set[asyncio.subprocess.Process] = set()
        self._codes: list[int] = []
        self._counting = SharedFolder()

    async def run(self) -> int:
        """Run the processes until told to stop.

        Returns:
            The exit code: 0 when all ended as they were told; 2 when they cannot start, because of what they were told;
            5 when one did not end by itself or ended badly; 130 or 143 after a second signal.
        """
        try:
            await asyncio.gather(*(self._keep(number) for number in range(self._workers)))
        finally:
            for process in self._running:
                process.kill()
            self._listener.close()
            self._counting.remove()
        return self._exit_code()

    def take_signals(self) -> None:
        """Have SIGTERM and SIGINT drain and end all processes. In the main thread."""
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)

    def stop(self) -> None:
        """Drain and end all processes. On the loop."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._listener.close()  # or who connects now would wait for as long as the last process drains
        for process in self._running:
            terminate(process)

    def _on_signal(self, number: int) -> None:
        self._signals.append(number)
        if self._stopping.is_set():
            for process in self._running:
                terminate(process)  # the second one ends it at once
        else:
            self.stop()

    def _exit_code(self) -> int:
        if len(self._signals) > 1:
            return SIGNAL_EXIT_BASE + self._signals[-1]
        if ExitCode.USAGE in self._codes:
            return ExitCode.USAGE
        # One that was told to end before it could hear the signal as a server has ended by it, and accepted nothing.
        return ExitCode.OK if set(self._codes) <= {ExitCode.OK, -signal.SIGTERM} else ExitCode.FAILED

    async def _keep(self, number: int) -> None:
        """Have one process running until all are told to stop."""
        backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        false_starts = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            code = await self._run_one(number)
            false_starts += number in self._not_ready
            if self._stopping.is_set() or code == ExitCode.USAGE or false_starts == MOST_FALSE_STARTS:
                self._codes.append(code)
                self.stop()
                return
            if time.monotonic() - started > HEALTHY_SECONDS:
                backoff.reset()
            pause = backoff.next_seconds()
            logger.error("server process %d ended with %d, the next one starts in %.1f s", number, code, pause)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _run_one(self, number: int) -> int:
        """Start a process and wait for its end.

        Returns:
            Its exit code; negative if a signal ended it.
        """
        reading, writing = os.pipe()
        listening = os.dup(self._listener.fileno())  # our own may be closed before the process has come to life
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "lightning_store.http.child", str(reading),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                pass_fds=(reading, listening),
                env={**os.environ, **self._counting.environment},
                start_new_session=True,  # Ctrl-C reaches the parent only, which forwards it: once, not twice
            )  # fmt: skip
        finally:
            os.close(reading)
            os.close(listening)
        self._running.add(process)
        self.lifelines.add(writing)
        order = Order(self._plan, listening, self._log_level)
        telling = asyncio.get_running_loop().run_in_executor(None, _tell, writing, order)
        try:
            return await self._until_its_end(number, process)
        finally:
            self._running.discard(process)
            self._counting.process_ended(process.pid)
            await telling
            self.lifelines.discard(writing)
            os.close(writing)

    async def _until_its_end(self, number: int, process: asyncio.subprocess.Process) -> int:
        if self._stopping.is_set():  # it came between the start and now
            terminate(process)
        hearing = asyncio.ensure_future(self._hear(number, process))
        end = asyncio.ensure_future(process.wait())
        stop = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({end, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not end.done():
            await asyncio.wait({end}, timeout=self._patience)
            if not end.done():
                logger.error("server process with pid %d does not end and is killed", process.pid)
                process.kill()
        code = await end
        await hearing
        return code

    async def _hear(self, number: int, process: asyncio.subprocess.Process) -> None:
        """Wait for the word of a process that it answers requests, and read on, so that it can never be held up."""
        if process.stdout is None:
            return
        async for line in process.stdout:
            if line == READY and self._not_ready:
                self._not_ready.discard(number)
                if not self._not_ready:
                    self._has_started()


def _tell(writing: int, order: Order) -> None:
    # The search path first: what the order is made of may have to be found by it.
    with suppress(BrokenPipeError), os.fdopen(os.dup(writing), "wb") as pipe:
        pickle.dump(sys.path, pipe)
        pickle.dump(order, pipe)


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
        self._supervisor: Supervisor | None = None
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
        self._supervisor = Supervisor(
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

    async def run() -> int:
        supervisor = Supervisor(plan, listener, workers, log_level=log_level, started=started)
        supervisor.take_signals()
        return await supervisor.run()

    return asyncio.run(run())
