"""What is known of the server's memory, from its last reading: whether to look again, to evict, to refuse new work."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from lightning_store.errors import StoreFullError
from lightning_store.memory_limits import MemoryLimits, MemoryThresholds


@dataclass(frozen=True)
class MemorySettings:
    """The thresholds, and how often writers look; None = never."""

    thresholds: MemoryThresholds
    check_seconds: float | None


@dataclass(frozen=True)
class Reading:
    """The server's memory in bytes.

    Attributes:
        capacity: Its limit, else its machine's memory; None when it does not tell.
    """

    used: int
    capacity: int | None
    limits: MemoryLimits


class MemoryWatch:
    """The last reading of the server's memory; may be used from any thread.

    Attributes:
        is_blind: The server has refused to tell.
        may_evict: False once it has refused to let us evict.
    """

    def __init__(self, settings: MemorySettings) -> None:
        self.settings = settings
        self.is_blind = False
        self.may_evict = True
        self._reading: Reading | None = None
        self._read_at = self._looked_at = float("-inf")

    def note(self, infos: Sequence[bytes]) -> Reading | None:
        """Take in answers to `INFO memory`, of which the fullest server counts; None when one does not tell."""
        self._read_at = self._looked_at = time.monotonic()
        readings = [self._read(info) for info in infos]
        if None in readings or not readings:
            self.is_blind = True
            return None
        self._reading = max(filter(None, readings), key=lambda each: each.used / each.limits.high_water)
        return self._reading

    def _read(self, info: bytes) -> Reading | None:
        fields = dict(line.split(":", 1) for line in info.decode("utf-8", "replace").splitlines() if ":" in line)
        if "used_memory" not in fields:
            return None
        capacity = int(fields.get("maxmemory", 0)) or int(fields.get("total_system_memory", 0)) or None
        return Reading(int(fields["used_memory"]), capacity, self.settings.thresholds.of(capacity))

    @property
    def may_look(self) -> bool:
        """Whether writers are to look at the memory."""
        return self.settings.check_seconds is not None and not self.is_blind

    def is_due(self) -> bool:
        """Whether to look again; asked once, it is not due for as long as usual."""
        now = time.monotonic()
        if not self.may_look or now - self._looked_at < (self.settings.check_seconds or 0.0):
            return False
        self._looked_at = now
        return True

    @property
    def is_doubtful(self) -> bool:
        """Whether new work is to be refused by a reading that is too old for it."""
        age = time.monotonic() - self._read_at
        return self.may_look and self._is_full and age > (self.settings.check_seconds or 0.0)

    def refuse_if_full(self) -> None:
        """Refuse new work above high water.

        Raises:
            StoreFullError: By the last reading the server uses too much.
        """
        reading = self._reading
        if self.may_look and reading is not None and self._is_full:
            share = "" if reading.capacity is None else f" of {reading.capacity}"
            raise StoreFullError(
                f"Redis uses {reading.used}{share} bytes, above high_water_memory_threshold "
                f"({reading.limits.high_water:.0f} bytes): new work is refused until it uses less; nothing was written"
            )

    @property
    def _is_full(self) -> bool:
        return self._reading is not None and self._reading.used > self._reading.limits.high_water
