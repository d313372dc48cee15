"""Sets the clock of a client process wrong, while it runs, from outside.

The wall clock (`time.time`, `time.time_ns`, `datetime`) follows a number in a shared file; the monotonic clock, which
no wrong setting of a host's time touches, stays. Uses the standard library only: it has to be in place before other
modules take `time_ns` for their own.
"""

import datetime
import mmap
import struct
import time
from pathlib import Path
from typing import Any, Final

_NUMBER: Final = struct.Struct("d")
_NANOS: Final = 1_000_000_000


def set_shift(file: Path, seconds: float) -> None:
    """Say how wrong the clock of the process is that follows this file; makes the file if needed."""
    with file.open("r+b" if file.exists() else "w+b") as out:
        out.write(_NUMBER.pack(seconds))


def follow(file: Path) -> None:
    """From now on the wall clock of this process is wrong by what the file says."""
    with file.open("r+b") as opened:
        shared = mmap.mmap(opened.fileno(), _NUMBER.size)
    right_time, right_nanos = time.time, time.time_ns

    def shift() -> float:
        seconds: float = _NUMBER.unpack_from(shared)[0]
        return seconds

    class Shifted(datetime.datetime):
        """The class itself cannot be changed; what is taken from the module from now on is this one."""

        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            """The shifted time."""
            return cls.fromtimestamp(time.time(), tz)

        @classmethod
        def utcnow(cls) -> Any:
            """The shifted time, without zone."""
            return cls.fromtimestamp(time.time(), datetime.timezone.utc).replace(tzinfo=None)

    time.time = lambda: right_time() + shift()
    time.time_ns = lambda: right_nanos() + int(shift() * _NANOS)
    datetime.datetime = Shifted  # type: ignore[misc]  # the very purpose
