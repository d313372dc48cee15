"""Sorted structures: an index by creation number, and one by the time at which something comes due."""

import heapq
import math
from bisect import bisect_left, insort
from collections.abc import Collection, Iterator
from typing import Final

_CHUNK: Final = 512
"""Numbers per chunk: an insertion moves at most so many, and skipping a page looks at one length per chunk."""

_STALE_ALLOWED: Final = 1024


class CreationIndex:
    """A sorted set of creation numbers, kept in short chunks so that changes do not move what is far away."""

    def __init__(self) -> None:
        self._chunks: list[list[int]] = []
        self._highest: list[int] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, number: int) -> None:
        """Insert a number that is not there."""
        self._length += 1
        if not self._chunks:
            self._chunks.append([number])
            self._highest.append(number)
            return
        at = min(bisect_left(self._highest, number), len(self._chunks) - 1)
        chunk = self._chunks[at]
        insort(chunk, number)
        if len(chunk) > 2 * _CHUNK:
            self._chunks.insert(at + 1, chunk[_CHUNK:])
            del chunk[_CHUNK:]
            self._highest.insert(at, chunk[-1])
        self._highest[at] = self._chunks[at][-1]
        if at + 1 < len(self._chunks):
            self._highest[at + 1] = self._chunks[at + 1][-1]

    def remove(self, number: int) -> None:
        """Take out a number that is there."""
        at = bisect_left(self._highest, number)
        chunk = self._chunks[at]
        del chunk[bisect_left(chunk, number)]
        self._length -= 1
        if chunk:
            self._highest[at] = chunk[-1]
        else:
            del self._chunks[at], self._highest[at]

    def __iter__(self) -> Iterator[int]:
        for chunk in self._chunks:
            yield from chunk

    def since(self, offset: int) -> Iterator[int]:
        """The numbers in order, without the first `offset`."""
        for chunk in self._chunks:
            if offset < len(chunk):
                yield from chunk[offset:]
            offset = max(0, offset - len(chunk))


class TimeIndex:
    """Ids by the time at which they come due: a change costs O(log n), a look at what is due O(due · log n)."""

    def __init__(self) -> None:
        self._times: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def __contains__(self, id: str) -> bool:
        return id in self._times

    def get(self, id: str) -> float:
        """When an id comes due; infinity if it is not there."""
        return self._times.get(id, math.inf)

    def set(self, id: str, time: float) -> None:
        """Note when an id comes due; infinity = never."""
        if math.isinf(time):
            self._times.pop(id, None)
        elif self._times.get(id) != time:
            self._times[id] = time
            heapq.heappush(self._heap, (time, id))
            self._compact()

    def discard(self, id: str) -> bool:
        """Forget an id; whether it was there."""
        return self._times.pop(id, None) is not None

    def soonest(self) -> float:
        """The earliest time; infinity if there is none."""
        while self._heap:
            time, id = self._heap[0]
            if self._times.get(id) == time:
                return time
            heapq.heappop(self._heap)
        return math.inf

    def before(self, now: float, limit: int, spared: Collection[str] = ()) -> list[str]:
        """At most `limit` ids whose time is earlier than `now`, earliest first, then by id; without those spared."""
        found: list[tuple[float, str]] = []
        wanted: list[str] = []
        seen: set[str] = set()
        while len(wanted) < limit and self.soonest() < now:
            entry = heapq.heappop(self._heap)
            if entry[1] in seen:
                continue
            seen.add(entry[1])
            found.append(entry)
            if entry[1] not in spared:
                wanted.append(entry[1])
        for entry in found:
            heapq.heappush(self._heap, entry)
        return wanted

    def _compact(self) -> None:
        """Drop entries of times that were changed, once they are the most."""
        if len(self._heap) > 2 * len(self._times) + _STALE_ALLOWED:
            self._heap = [(time, id) for id, time in self._times.items()]
            heapq.heapify(self._heap)
