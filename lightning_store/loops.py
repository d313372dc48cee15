"""Values that belong to one event loop, sockets that outlive theirs, and time limits that are sound on every Python."""

import asyncio
import os
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

if sys.version_info >= (3, 12):
    from asyncio import timeout as timeout  # noqa: PLC0414 - for others
else:
    from async_timeout import timeout as timeout  # noqa: PLC0414

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One value per event loop and process, made when first asked for.

    Survives loops that were closed without notice, and forks: a child starts anew and leaves the parent's values alone.
    """

    _abandoned: Final[list[Any]] = []

    def __init__(self, make: Callable[[], T], discard: Callable[[T], None] | None = None) -> None:
        """Note how values are made.

        Args:
            make: Makes the value of a loop.
            discard: Told of values whose loop was closed; such a value often holds its loop, so nothing else ends it.
        """
        self._make = make
        self._discard = discard
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._values: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, T] = weakref.WeakKeyDictionary()

    def get(self) -> T:
        """The value of the running loop."""
        if self._pid != os.getpid():
            self._abandoned.append(self._values)  # finalising them here would touch sockets of the parent
            self._reset()
        loop = asyncio.get_running_loop()
        value = self._values.get(loop)  # without the lock: only this thread makes or takes away what its loop has
        if value is not None:
            return value
        with self._lock:
            closed = [self._values.pop(other) for other in list(self._values) if other.is_closed()]
            value = self._values[loop] = self._make()
        self._discard_all(closed)
        return value

    def pop(self) -> T | None:
        """Take the value of the running loop out, if there is one."""
        if self._pid != os.getpid():
            return None
        with self._lock:
            closed = [self._values.pop(other) for other in list(self._values) if other.is_closed()]
            value = self._values.pop(asyncio.get_running_loop(), None)
        self._discard_all(closed)
        return value

    def _discard_all(self, values: list[T]) -> None:
        if self._discard is not None:
            for value in values:
                self._discard(value)


def hang_up(transport: Any) -> None:
    """Close a transport whose loop is closed; with TLS, the one below it has the socket."""
    below = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    if below is not None:
        hang_up(below)  # first: Python 3.10 does not take the one above for closed when this one complains
    sock, abort = getattr(transport, "_sock", None), getattr(transport, "abort", None)
    if abort is not None:  # the transport of a fake server has nothing to end
        with suppress(RuntimeError):  # it marks itself as closing before it finds out that the loop is closed
            abort()
    if sock is not None:
        transport._sock = None  # noqa: SLF001 - or it complains when it is collected
        sock.close()
