"""Processes that one parent keeps running: started again when they die, told to end by signal, killed in the end.

The parent does none of their work. They end when it does, however it ends: each holds the reading end of a pipe whose
other end only the parent has.
"""

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from lightning_store.exits import ExitCode
from lightning_store.patience import Backoff
from lightning_store.signals import SIGNAL_EXIT_BASE, STOP_SIGNALS, terminate

logger = logging.getLogger("lightning_store")

HEALTHY_SECONDS: Final = 10.0
"""A process that lived so long had no trouble to start, so the next one starts without a long pause."""

MOST_FALSE_STARTS: Final = 3
"""After so many ends before it was ready for the first time, a process cannot start: trying again would hide why."""

CHILD_LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(process)d %(name)s %(message)s"


@dataclass(frozen=True)
class Upkeep:
    """How processes are kept running.

    Attributes:
        name: Of one of them, in the log.
        died: That one has ended by itself, in the log.
        may_finish: One that ends with 0 by itself has done its work: no other is started for it.
        first_pause_seconds: Before another is started for one that has died; it grows with each.
        longest_pause_seconds: Up to this.
        patience_seconds: After all were told to end: then those that still run are killed.
    """

    name: str
    died: str
    may_finish: bool
    first_pause_seconds: float
    longest_pause_seconds: float
    patience_seconds: float


@dataclass(frozen=True)
class Launch:
    """How one process is started: `python -m module`, with the number of a pipe as its argument.

    Attributes:
        module: What it runs.
        order: What it reads from the pipe: it is not on its command line, which everybody can read.
        descriptors: Of the parent, which it gets; the parent's are closed then.
        environment: What it has beside that of the parent.
        is_heard: Whether its standard output comes to `Supervisor._attend`; else it is the parent's.
    """

    module: str
    order: bytes
    descriptors: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    is_heard: bool = False


class Supervisor:
    """The parent of the processes, which are numbered from 0, on an event loop of its own.

    Attributes:
        lifelines: Descriptors whose end tells the processes that their parent has gone.
    """

    def __init__(self, count: int, upkeep: Upkeep) -> None:
        """Set up.

        Args:
            count: Number of processes.
            upkeep: How they are kept.
        """
        self.lifelines: set[int] = set()
        self._count = count
        self._upkeep = upkeep
        self._signals: list[int] = []
        self._stopping = asyncio.Event()
        self._running: set[asyncio.subprocess.Process] = set()
        self._codes: list[int] = []

    async def run(self) -> int:
        """Run the processes until told to stop.

        Returns:
            The exit code: 0 when all ended as they were told; 2 when they cannot start, because of what they were told;
            5 when one did not end by itself or ended badly; 130 or 143 after a second signal.
        """
        try:
            await asyncio.gather(*(self._keep(number) for number in range(self._count)))
        finally:
            for process in self._running:
                process.kill()
            self._all_ended()
        return self._exit_code()

    def take_signals(self) -> None:
        """Have SIGTERM and SIGINT end all processes. In the main thread, on the loop."""
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)

    def stop(self) -> None:
        """Tell all processes to end. On the loop."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._end_begins()
        self._terminate_all()

    # -- what each kind of processes has of its own ------------------------------------------------------------------

    def _launch(self, number: int) -> Launch:
        """How a process is started, this time."""
        raise NotImplementedError

    def _was_ready(self, number: int) -> bool:
        """Whether there was a process of this number that could start."""
        return True

    async def _attend(self, number: int, process: asyncio.subprocess.Process) -> None:
        """Stay with a process for its whole life."""

    def _has_ended(self, pid: int) -> None:
        """A process has ended."""

    def _end_begins(self) -> None:
        """All are about to be told to end."""

    def _all_ended(self) -> None:
        """None is left."""

    # -- all together ------------------------------------------------------------------------------------------------

    def _on_signal(self, number: int) -> None:
        self._signals.append(number)
        if self._stopping.is_set():
            self._terminate_all()  # the second one ends them at once
        else:
            self.stop()

    def _terminate_all(self) -> None:
        for process in self._running:
            terminate(process)

    def _exit_code(self) -> int:
        if len(self._signals) > 1:
            return SIGNAL_EXIT_BASE + self._signals[-1]
        if ExitCode.USAGE in self._codes:
            return ExitCode.USAGE
        # One that was told to end before it could hear the signal has ended by it, and had begun nothing.
        return ExitCode.OK if set(self._codes) <= {ExitCode.OK, -signal.SIGTERM} else ExitCode.FAILED

    # -- each of them ------------------------------------------------------------------------------------------------

    async def _keep(self, number: int) -> None:
        """Have one process running until it has done its work, or all are told to end."""
        upkeep = self._upkeep
        backoff = Backoff(upkeep.first_pause_seconds, upkeep.longest_pause_seconds)
        false_starts = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            code = await self._run_one(number)
            false_starts += not self._was_ready(number)
            is_hopeless = code == ExitCode.USAGE or false_starts == MOST_FALSE_STARTS
            if self._stopping.is_set() or is_hopeless or (upkeep.may_finish and code == ExitCode.OK):
                self._codes.append(code)
                if is_hopeless:
                    self.stop()
                return
            if time.monotonic() - started > HEALTHY_SECONDS:
                backoff.reset()
            pause = backoff.next_seconds()
            logger.error(
                "%s %d %s with %d, the next one starts in %.1f s", upkeep.name, number, upkeep.died, code, pause
            )
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _run_one(self, number: int) -> int:
        """Start a process and wait for its end.

        Returns:
            Its exit code; negative if a signal ended it.
        """
        launch = self._launch(number)
        reading, writing = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", launch.module, str(reading),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if launch.is_heard else None,
                pass_fds=(reading, *launch.descriptors),
                env={**os.environ, **launch.environment},
                start_new_session=True,  # Ctrl-C reaches the parent only, which forwards it: once, not twice
            )  # fmt: skip
        finally:
            for descriptor in (reading, *launch.descriptors):
                os.close(descriptor)
        self._running.add(process)
        self.lifelines.add(writing)
        # On a thread: a long order has to wait until the process reads.
        telling = asyncio.get_running_loop().run_in_executor(None, _tell, writing, launch.order)
        try:
            return await self._until_its_end(number, process)
        finally:
            self._running.discard(process)
            self._has_ended(process.pid)
            await telling
            self.lifelines.discard(writing)
            os.close(writing)

    async def _until_its_end(self, number: int, process: asyncio.subprocess.Process) -> int:
        if self._stopping.is_set():  # it came between the start and now
            terminate(process)
        attending = asyncio.ensure_future(self._attend(number, process))
        end = asyncio.ensure_future(process.wait())
        stop = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({end, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not end.done():
            await asyncio.wait({end}, timeout=self._upkeep.patience_seconds)
            if not end.done():
                logger.error("%s with pid %d does not end and is killed", self._upkeep.name, process.pid)
                process.kill()
        code = await end
        await attending
        return code


def _tell(writing: int, order: bytes) -> None:
    with suppress(BrokenPipeError), os.fdopen(os.dup(writing), "wb") as pipe:  # it may have died already
        pipe.write(order)


def supervise(make: Callable[[], Supervisor]) -> int:
    """Supervise processes from the main thread until SIGTERM or SIGINT.

    Args:
        make: Makes their supervisor, on its loop.

    Returns:
        The exit code, as `Supervisor.run` says.
    """

    async def run() -> int:
        supervisor = make()
        supervisor.take_signals()
        return await supervisor.run()

    return asyncio.run(run())


def end_with_parent(lifeline: int, stop: Callable[[], None], seconds: float) -> None:
    """In such a process: end when the parent has gone.

    Args:
        lifeline: Number of the pipe whose other end only the parent has; all of the order was read.
        stop: Begins the orderly end; called on a thread.
        seconds: After that this process ends, whatever it does.
    """

    def watch() -> None:
        os.read(lifeline, 1)  # returns at the end of the pipe: the parent writes nothing more
        logger.error("the parent process is gone, so this one ends")
        stop()
        time.sleep(seconds)
        os._exit(ExitCode.FAILED)

    threading.Thread(target=watch, name="lightning-store-parent", daemon=True).start()
