"""The consumers of the memory store: how far each reader of the completion log has got."""

from dataclasses import dataclass

from lightning_store.backends.memory.completions import cursor_of
from lightning_store.records import Consumer


@dataclass
class _Place:
    number: int
    time: float


class Consumers:
    """Places by name; they go forward only."""

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}

    def acknowledge(self, name: str, number: int, now: float) -> Consumer:
        """Register a consumer, or move it forward to behind entry `number`."""
        place = self._places.get(name)
        if place is None or number > place.number:
            self._places[name] = _Place(number, now)
        return self._record(name)

    def forget(self, name: str) -> bool:
        """Remove a consumer; whether it was there."""
        return self._places.pop(name, None) is not None

    def records(self) -> list[Consumer]:
        """All of them by name."""
        return [self._record(name) for name in sorted(self._places)]

    def lowest(self) -> int | None:
        """Number of the last entry that all have passed; None when there is no consumer."""
        return min((place.number for place in self._places.values()), default=None)

    def _record(self, name: str) -> Consumer:
        place = self._places[name]
        return Consumer(name=name, cursor=cursor_of(place.number), update_time=place.time)
