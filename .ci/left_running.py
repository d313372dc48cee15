"""Fails when a process of this checkout still runs: a server, its watchdog, a runner."""

import os
import sys
import time
from pathlib import Path

import psutil

CHECKOUT = str(Path(__file__).resolve().parents[1])
WAIT_SECONDS = 10.0


def left_running() -> list[str]:
    """Processes that run this checkout's code or its interpreter, but for us and those that started us."""
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            # A relative name with a folder in it, such as .venv/bin/python, counts from where the process works.
            program = str(Path(process.cwd(), words[0])) if words and "/" in words[0] else ""
        except psutil.Error:
            continue
        if process.pid not in ours and any(word.startswith(CHECKOUT + "/") for word in [program, *words]):
            found.append(f"{process.pid} {' '.join(words)}")
    return found


def main() -> int:
    """Give what is ending some seconds; list what stays."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (found := left_running()) and time.monotonic() < deadline:
        time.sleep(0.1)
    sys.stdout.write("".join(f"still running: {line}\n" for line in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
