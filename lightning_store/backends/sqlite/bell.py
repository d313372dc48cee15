"""How processes tell each other that the file has changed: by the time stamp of the file itself.

Whoever has committed something that others may wait for touches the file; who waits is told by the kernel (inotify), at
once and without polling. Where there is no inotify, nobody is told, and waiters look at their interval.
"""

import ctypes
import os
import selectors
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

_IN_ATTRIB: Final = 0x4
_IN_NONBLOCK: Final = os.O_NONBLOCK
_IN_CLOEXEC: Final = getattr(os, "O_CLOEXEC", 0)
_MANY_BYTES: Final = 65_536


def _inotify() -> Any:
    """The C library, if it has inotify."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None, use_errno=True)
    return library if hasattr(library, "inotify_init1") else None


def ring(path: Path) -> None:
    """Tell other processes that the file has changed."""
    with suppress(OSError):  # they look at their interval anyway
        os.utime(path)


class Bell:
    """Waits for the rings of other processes, and for pokes of this one."""

    def __init__(self, path: Path) -> None:
        self._poked, self._poke = os.pipe()
        os.set_blocking(self._poked, False)
        os.set_blocking(self._poke, False)
        self._rung = _watch(path)
        self._selector = selectors.DefaultSelector()
        for each in (self._poked, self._rung):
            if each is not None:
                self._selector.register(each, selectors.EVENT_READ)

    @property
    def is_rung_by_others(self) -> bool:
        """Whether rings of other processes are heard."""
        return self._rung is not None

    def wait(self, seconds: float | None) -> None:
        """Return when rung or poked, or when the time is over; None = never."""
        for key, _ in self._selector.select(seconds):
            with suppress(BlockingIOError):
                os.read(key.fd, _MANY_BYTES)

    def poke(self) -> None:
        """Wake who waits on this bell; from any thread."""
        with suppress(BlockingIOError):  # it is full of pokes
            os.write(self._poke, b"!")

    def close(self) -> None:
        """Close what was opened."""
        self._selector.close()
        for each in (self._poked, self._poke, self._rung):
            if each is not None:
                os.close(each)


def _watch(path: Path) -> int | None:
    """A descriptor that becomes readable when the file is touched; None if the system has none to give."""
    library = _inotify()
    if library is None:
        return None
    descriptor = int(library.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC))
    if descriptor < 0:
        return None
    if library.inotify_add_watch(descriptor, os.fsencode(path), _IN_ATTRIB) < 0:
        os.close(descriptor)
        return None
    return descriptor
