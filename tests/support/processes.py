"""Looking at processes from outside."""

import time
from collections.abc import Callable

import psutil


def is_gone(pid: int) -> bool:
    """Whether no process with this id runs; one that ended and was not waited for is gone too."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def all_command_lines() -> str:
    """The command lines of all processes, as everybody on this machine may read them."""
    return "\n".join(" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))


def wait_until_gone(pid: int, timeout_seconds: float = 15.0) -> bool:
    """Watch until the process is gone; False when it still runs at the end."""
    return wait_until(lambda: is_gone(pid), timeout_seconds)


def wait_until(condition: Callable[[], bool], timeout_seconds: float = 15.0) -> bool:
    """Look again and again until a condition holds; False when it still does not at the end."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
