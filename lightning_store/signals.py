"""How a process ends that was asked to: gracefully at the first signal, at once at the second, in time in any case."""

import atexit
import contextlib
import gc
import os
import signal
import threading
from collections.abc import Callable, Generator
from types import FrameType
from typing import TYPE_CHECKING, Final

from lightning_store.exits import ExitCode

if TYPE_CHECKING:
    import asyncio

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
SIGNAL_EXIT_BASE: Final = 128
"""Shells add this to the number of the signal that ended a process."""


@contextlib.contextmanager
def stop_on_signals(stop: Callable[[], None]) -> Generator[None, None, None]:
    """Call `stop` at the first SIGTERM or SIGINT; end the process with 128 + the signal's number at the second.

    Handlers are plain ones, not the event loop's: they work while an agent blocks the loop. Outside of the main thread,
    where Python allows no handlers, this does nothing.

    Args:
        stop: Called in the main thread, between any two instructions; it should only tell others.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            os._exit(SIGNAL_EXIT_BASE + number)
        stop()

    before = [(number, signal.signal(number, handle)) for number in STOP_SIGNALS]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


class Terminated(KeyboardInterrupt):
    """SIGTERM, where it does what Ctrl-C does."""


@contextlib.contextmanager
def terminable() -> Generator[None, None, None]:
    """Raise `Terminated` on SIGTERM, so that it ends in the same order as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class LastResort:
    """Ends the process when its orderly end takes too long, because an agent blocks the loop or never returns."""

    def __init__(self, seconds: float, before: Callable[[], None]) -> None:
        """Set up.

        Args:
            seconds: Time from `arm` to the end.
            before: Called first, on a thread; what it raises makes the exit code `FAILED` instead of `OK`.
        """
        self._timer = threading.Timer(seconds, self._end, [before])
        self._timer.daemon = True

    def arm(self) -> None:
        """Start the clock; once is enough."""
        if self._timer.ident is None:  # it was never started
            self._timer.start()

    def disarm(self) -> None:
        """The orderly end was in time."""
        self._timer.cancel()

    @staticmethod
    def _end(before: Callable[[], None]) -> None:
        code = ExitCode.FAILED
        try:
            before()
            code = ExitCode.OK
        finally:
            os._exit(code)


def end_without_sweep() -> None:
    """Have this process end without Python's last searches for garbage; at its end, and no sooner.

    They look at every object of all that was imported: 0.3 to 0.5 s of processor time in a server, seconds on a busy
    machine. For processes that close by themselves what has to be closed.
    """
    atexit.register(gc.freeze)


def terminate(process: "asyncio.subprocess.Process") -> None:
    """Send SIGTERM, whatever came: SIGINT would show tracebacks of processes that are still starting.

    Not by the method for it: that looks first whether the process has ended, and takes its exit code from asyncio then.
    """
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
