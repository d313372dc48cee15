"""Room for spans: the thresholds, and what is evicted when they are crossed."""

# ruff: noqa: S608 - statements are made of constants of ours; values are arguments

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from lightning_store.backends.sqlite.state import State
from lightning_store.backends.sqlite.stored import StoredRollout
from lightning_store.errors import StoreFullError
from lightning_store.memory_limits import MemoryLimits
from lightning_store.status import FINISHED

_LARGEST: Final = (1 << 63) - 1
_FINISHED_LIST: Final = ", ".join(f"'{status}'" for status in sorted(FINISHED))


@dataclass(frozen=True)
class Room:
    """How much room there is for spans."""

    limits: MemoryLimits
    capacity: int


def make_room(state: State, room: Room, size: int, except_id: str) -> None:
    """Evict for `size` more bytes, but not the spans of one rollout.

    Raises:
        StoreFullError: They do not fit below high water even so.
    """
    evict(state, room, size, except_id)
    high_water = int(room.limits.high_water)
    used = state.span_bytes()
    if used + size > high_water:
        raise StoreFullError(
            f"spans take {used} of {room.capacity} bytes, {size} more do not fit below "
            f"high_water_memory_threshold ({high_water} bytes); nothing was written"
        )


def evict(state: State, room: Room, size: int, except_id: str) -> int:
    """Evict if `size` more bytes cross the threshold; how many rollouts have lost their spans."""
    used = state.span_bytes() + size
    if used <= room.limits.eviction:
        return 0
    count = 0
    for stored in _evictable(state, except_id):
        if used <= room.limits.safe:
            break
        used -= stored.span_bytes
        state.connection.execute("DELETE FROM spans WHERE rollout = ?", (stored.number,))
        state.count_spans(stored, -stored.spans, -stored.span_bytes)
        stored.evicted = stored.attempts
        state.save(stored)
        count += 1
    state.news.evicted += count
    return count


def _evictable(state: State, except_id: str) -> Iterator[StoredRollout]:
    """Finished rollouts with spans, the oldest finish first, as far as all consumers have passed them."""
    [passed] = state.values("SELECT min(number) FROM consumers")
    rows = state.connection.execute(
        "SELECT number, rollout_id FROM rollouts WHERE finish_number IS NOT NULL AND spans > 0 "
        f"AND status IN ({_FINISHED_LIST}) AND finish_number <= ? ORDER BY finish_number",
        (_LARGEST if passed is None else passed,),
    )
    for number, id in rows.fetchall():
        if id != except_id:
            yield state.numbered(number)
