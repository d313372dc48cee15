"""A small process between a program and its embedded Redis: it stops the server when the program is gone.

It runs by file name in an interpreter of its own and uses the standard library only. It is told what to start by one
JSON line on its standard input; that pipe is also the lifeline: its end, or any further byte, means stop. Being told
by the kernel when the parent dies (PR_SET_PDEATHSIG) would not do, as that fires when the *thread* that started
us ends.
"""

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

try:
    import ctypes
except ImportError:  # an interpreter built without libffi; the pipe alone must do then
    ctypes = None  # type: ignore[assignment]  # stands for "not there"

LIFELINE: Final = 0
PARENT_CHECK_MILLISECONDS: Final = 1000
LOG_TAIL_BYTES: Final = 8192
PR_SET_PDEATHSIG: Final = 1
STOP_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


@dataclass(frozen=True)
class Order:
    """What to start, as the first line of the standard input says.

    Attributes:
        binary: The server program.
        config: Its whole configuration, password included: for its standard input, never for a command line.
        parent: Process id of the program that wants the server.
        runtime_dir: Folder to remove at the end.
        log: File that receives what the server prints.
        lock: File that is locked as long as the server runs: two servers would ruin one data folder.
        lock_seconds: How long to wait for a server of before to leave the folder.
        grace_seconds: How long the server may take to end before it is killed.
    """

    binary: str
    config: str
    parent: int
    runtime_dir: str
    log: str
    lock: str
    lock_seconds: float
    grace_seconds: float


def main() -> int:
    """Start the server, say its process id, hold it until it is no longer wanted."""
    line = sys.stdin.buffer.readline()
    if not line:
        return 0
    order = Order(**json.loads(line))
    try:
        return _hold(order, _wake_on_signals())
    finally:
        shutil.rmtree(order.runtime_dir, ignore_errors=True)


def _hold(order: Order, wake: int) -> int:
    try:
        lock = _lock(order)
        server = _start(order, lock)
    except OSError as error:
        _tell(error=str(error))
        return 1
    _tell(pid=server.pid)
    _wait_until_unwanted(server, wake, order.parent)
    _stop(server, order.grace_seconds)
    _tell(exit_code=server.returncode, log=_tail(order.log))
    return 0


def _wake_on_signals() -> int:
    """Turn signals into bytes on a pipe, so that one poll waits for everything."""
    wake, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    # The parent's thread may have signals blocked; the server would inherit that and never hear SIGTERM.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGCHLD, *STOP_SIGNALS):
        signal.signal(number, _only_wake)
    return wake


def _only_wake(number: int, frame: object) -> None:
    """The byte on the pipe says it all."""


def _lock(order: Order) -> IO[bytes]:
    lock = Path(order.lock).open("ab")  # noqa: SIM115 - held until this process ends
    deadline = time.monotonic() + order.lock_seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise OSError(f"the data folder {Path(order.lock).parent} is in use by another server") from error
            time.sleep(0.02)
        else:
            return lock


def _start(order: Order, lock: IO[bytes]) -> "subprocess.Popen[bytes]":
    with Path(order.log).open("ab") as log:
        # The server inherits the lock: should this process be killed, the folder stays locked until the server is gone.
        server = subprocess.Popen(  # noqa: S603 - the program was found by the parent
            [order.binary, "-"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(lock.fileno(),),
            preexec_fn=_end_with_parent(),  # noqa: PLW1509 - this process has one thread
        )
    if server.stdin is not None:
        with contextlib.suppress(BrokenPipeError), server.stdin as stdin:
            stdin.write(order.config.encode())
    return server


def _end_with_parent() -> Callable[[], Any] | None:
    """What the server's process does before it becomes the server: ask to end when this one is killed (Linux)."""
    if ctypes is None or sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait_until_unwanted(server: "subprocess.Popen[bytes]", wake: int, parent: int) -> None:
    poller = select.poll()
    poller.register(LIFELINE, select.POLLIN)
    poller.register(wake, select.POLLIN)
    while server.poll() is None:
        ready = {descriptor for descriptor, _ in poller.poll(PARENT_CHECK_MILLISECONDS)}
        if LIFELINE in ready or (wake in ready and not STOP_SIGNALS.isdisjoint(os.read(wake, 64))):
            return
        # Processes forked from the parent hold copies of the pipe, so its end may come late; the parent's id tells too.
        if os.getppid() != parent:
            return


def _stop(server: "subprocess.Popen[bytes]", grace_seconds: float) -> None:
    if server.poll() is not None:
        return
    server.terminate()
    server.send_signal(signal.SIGCONT)  # a suspended server could not obey
    try:
        server.wait(grace_seconds)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _tail(log: str) -> list[str]:
    with contextlib.suppress(OSError), Path(log).open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
        return file.read().decode(errors="replace").splitlines()[-20:]
    return []


def _tell(**message: object) -> None:
    """One JSON line to the parent, which may be gone."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
