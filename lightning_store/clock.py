"""Clock and id source, both replaceable in tests."""

import os
import time
from typing import Protocol

from lightning_store.repeats import next_digest


class Clock(Protocol):
    """Tells the time in seconds since the epoch."""

    def now(self) -> float:
        """The current time."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> float:
        """Seconds since the epoch; `time.time` is looked up at each use, so that tests may replace it."""
        return time.time()


class IdSource(Protocol):
    """Makes ids that nobody else makes."""

    def rollout_id(self) -> str:
        """A new rollout id."""
        ...

    def attempt_id(self) -> str:
        """A new attempt id, unique within its rollout."""
        ...

    def resources_id(self) -> str:
        """A new id of a resources snapshot."""
        ...

    def token(self) -> str:
        """A new operation token."""
        ...


def random_hex(digits: int) -> str:
    """So many random lower-case hex digits, at most 64; those of an operation that may be sent again follow from it."""
    digest = next_digest()
    return os.urandom(digits // 2).hex() if digest is None else digest[:digits]


class RandomIds:
    """Ids drawn at random: long enough that clients on many hosts need not agree."""

    def rollout_id(self) -> str:
        """`ro-` and 24 hex digits."""
        return "ro-" + random_hex(24)

    def attempt_id(self) -> str:
        """`at-` and 12 hex digits."""
        return "at-" + random_hex(12)

    def resources_id(self) -> str:
        """`rs-` and 12 hex digits: upstream expects 15 characters."""
        return "rs-" + random_hex(12)

    def token(self) -> str:
        """128 bits as hex."""
        return random_hex(32)
