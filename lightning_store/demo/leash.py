"""Becomes another program that the kernel ends together with the one that wanted it.

    python -I -S leash.py PARENT_PID PROGRAM ARGUMENT ...

The demo ends its processes itself. This is for the case that the demo is killed: they would wait for a Redis that is
gone. It runs by file name and uses the standard library only, so that it costs a few milliseconds.
"""

import os
import signal
import sys

try:
    import ctypes
except ImportError:  # an interpreter built without libffi
    ctypes = None  # type: ignore[assignment]  # stands for "not there"

PR_SET_PDEATHSIG = 1


def main(parent: int, program: str, *arguments: str) -> None:
    """Ask for the signal, see that the parent is still there, become the program."""
    if ctypes is not None and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == parent:
        os.execv(program, [program, *arguments])  # noqa: S606 - the very purpose


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
