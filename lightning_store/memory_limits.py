"""How far memory may fill before spans are evicted, and before new work is refused."""

import math
from dataclasses import dataclass

from lightning_store.errors import InvalidRequestError

SAFE_SHARE = 0.8
"""The safe threshold as a share of the eviction threshold, unless it is given."""


@dataclass(frozen=True)
class MemoryLimits:
    """Thresholds in bytes; infinite where they are shares of a capacity that is not known."""

    safe: float
    eviction: float
    high_water: float


@dataclass(frozen=True)
class MemoryThresholds:
    """Each is a share of the capacity if it is a float, and bytes if it is an integer; see the stores for the meaning.

    Raises:
        InvalidRequestError: One is out of bounds, or they do not rise from safe to eviction to high water.
    """

    eviction: float = 0.7
    safe: float | None = None
    high_water: float = 0.9

    def __post_init__(self) -> None:
        _check(self.eviction, "eviction_memory_threshold")
        _check(self.high_water, "high_water_memory_threshold")
        if self.safe is not None:
            _check(self.safe, "safe_memory_threshold")
            _check_order("safe", self.safe, "eviction", self.eviction)
        _check_order("eviction", self.eviction, "high_water", self.high_water)

    def of(self, capacity: float | None) -> MemoryLimits:
        """The thresholds in bytes.

        Shares and bytes may cross for this capacity: then the one that is to be lower is lowered.

        Args:
            capacity: In bytes; None = not known.
        """
        high_water = _bytes_of(self.high_water, capacity)
        eviction = min(high_water, _bytes_of(self.eviction, capacity))
        safe = SAFE_SHARE * eviction if self.safe is None else _bytes_of(self.safe, capacity)
        return MemoryLimits(min(safe, eviction), eviction, high_water)


def _check(value: object, field: str) -> None:
    is_share = isinstance(value, float) and 0 < value <= 1
    is_size = isinstance(value, int) and not isinstance(value, bool) and value > 0
    if not (is_share or is_size):
        raise InvalidRequestError(
            f"{field}: expected a share above 0 up to 1.0 or a whole number of bytes, got {value!r}"
        )


def _check_order(low_name: str, low: float, high_name: str, high: float) -> None:
    """Shares and bytes can be compared among themselves only; the capacity tells the rest."""
    if isinstance(low, int) == isinstance(high, int) and low > high:
        raise InvalidRequestError(
            f"{low_name}_memory_threshold: expected at most {high_name}_memory_threshold ({high:g}), got {low:g}"
        )


def _bytes_of(value: float, capacity: float | None) -> float:
    if isinstance(value, int):
        return value
    return math.inf if capacity is None else value * capacity
