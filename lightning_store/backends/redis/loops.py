"""Values that belong to one event loop of one process."""

import asyncio
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One value per event loop and process, made when first asked for.

    Survives loops that were closed without notice, and forks: a child starts anew and leaves the parent's values alone.
    """

    _abandoned: Final[list[Any]] = []

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
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
        with self._lock:
            value = self._values.get(loop)
            if value is None:
                value = self._values[loop] = self._make()
            return value

    def pop(self) -> T | None:
        """Take the value of the running loop out, if there is one."""
        if self._pid != os.getpid():
            return None
        with self._lock:
            return self._values.pop(asyncio.get_running_loop(), None)
