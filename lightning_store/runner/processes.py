"""Several runner processes under one parent.

The parent runs no agents. It forwards SIGTERM and SIGINT, and starts again, after a pause, a process that died. Its
processes end when it does, however it ends: each holds the reading end of a pipe whose other end only the parent has.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace
from typing import Final

from lightning_store.exits import ExitCode
from lightning_store.patience import Backoff
from lightning_store.runner.options import RunnerOptions
from lightning_store.signals import SIGNAL_EXIT_BASE, STOP_SIGNALS, terminate

logger = logging.getLogger("lightning_store")

HEALTHY_SECONDS: Final = 10.0
"""A process that lived so long had no trouble to start, so the next one starts without a long pause."""

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 30.0
KILL_SECONDS: Final = 30.0
"""After the grace time: then a process that still runs is killed."""


def run_processes(options: RunnerOptions) -> int:
    """Run `options.processes` processes until SIGTERM or SIGINT.

    Returns:
        The exit code: 0 when all processes ended as they were told; 2 when they cannot start, because an option is out
        of bounds or the agent cannot be imported; 5 when one did not end by itself or ended badly; 130 or 143 after a
        second signal.
    """
    return asyncio.run(_Parent(options).run())


class _Parent:
    """The parent of the processes, on an event loop of its own."""

    def __init__(self, options: RunnerOptions) -> None:
        self._options = options
        self._signals: list[signal.Signals] = []
        self._stopping = asyncio.Event()
        self._running: set[asyncio.subprocess.Process] = set()
        self._codes: list[int] = []

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            keepers = [asyncio.ensure_future(self._keep(number)) for number in range(self._options.processes)]
            await asyncio.gather(*keepers)
        finally:
            for process in self._running:
                process.kill()
        return self._exit_code()

    def _exit_code(self) -> int:
        if len(self._signals) > 1:
            return SIGNAL_EXIT_BASE + self._signals[-1]
        if ExitCode.USAGE in self._codes:
            return ExitCode.USAGE
        # One that was told to end before it could hear the signal as a runner has ended by it, and had claimed nothing.
        return ExitCode.OK if set(self._codes) <= {ExitCode.OK, -signal.SIGTERM} else ExitCode.FAILED

    def _on_signal(self, number: signal.Signals) -> None:
        self._signals.append(number)
        self._stopping.set()
        for process in self._running:
            terminate(process)

    async def _keep(self, number: int) -> None:
        """Have one process running until it ends by itself, or all are told to stop."""
        backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        while not self._stopping.is_set():
            started = time.monotonic()
            code = await self._run_one(number)
            if self._stopping.is_set() or code == ExitCode.OK:
                self._codes.append(code)
                return
            if code == ExitCode.USAGE:
                self._codes.append(code)
                self._on_signal(signal.SIGTERM)
                return
            if time.monotonic() - started > HEALTHY_SECONDS:
                backoff.reset()
            pause = backoff.next_seconds()
            logger.error("process %d died with %d, the next one starts in %.1f s", number, code, pause)
            await _wait(self._stopping, pause)

    async def _run_one(self, number: int) -> int:
        """Start a process and wait for its end.

        Returns:
            Its exit code; negative if a signal ended it.
        """
        reading, writing = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "lightning_store.runner.child", str(reading),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(reading,),
                start_new_session=True,  # Ctrl-C reaches the parent only, which forwards it: once, not twice
            )  # fmt: skip
        finally:
            os.close(reading)
        self._running.add(process)
        try:
            # Not on the command line, which everybody can read: the URL has a password.
            with suppress(BrokenPipeError):  # it has died already
                os.write(writing, json.dumps(self._options_of(number).as_json()).encode() + b"\n")
            return await self._until_its_end(process)
        finally:
            self._running.discard(process)
            os.close(writing)

    async def _until_its_end(self, process: asyncio.subprocess.Process) -> int:
        if self._signals:  # it came between the start and now
            terminate(process)
        end = asyncio.ensure_future(process.wait())
        stop = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({end, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not end.done():
            await asyncio.wait({end}, timeout=self._options.grace_seconds + KILL_SECONDS)
            if not end.done():
                logger.error("process with pid %d does not end and is killed", process.pid)
                process.kill()
        return await end

    def _options_of(self, number: int) -> RunnerOptions:
        name, port = self._options.worker_id, self._options.metrics_port
        return replace(
            self._options,
            processes=1,
            worker_id=None if name is None else f"{name}-{number}",
            metrics_port=port + number if port else port,
        )


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except asyncio.TimeoutError:
        return
