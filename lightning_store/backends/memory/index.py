"""Sorted structures: an index by creation number, and one by the time at which something comes due."""

import heapq
import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterator, Sequence
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

    def up_to(self, number: int) -> int:
        """How many numbers are at most `number`."""
        at = bisect_left(self._highest, number)
        before = sum(map(len, self._chunks[:at]))
        return before + bisect_right(self._chunks[at], number) if at < len(self._chunks) else before

    def behind(self, number: int) -> Iterator[int]:
        """The numbers above `number`, in order."""
        first = bisect_right(self._highest, number)
        for at in range(first, len(self._chunks)):
            chunk = self._chunks[at]
            yield from chunk[bisect_right(chunk, number) :] if at == first else chunk

    def highest(self) -> int:
        """The highest number; 0 when there is none."""
        return self._highest[-1] if self._highest else 0


def merged(indexes: Sequence[CreationIndex], offset: int) -> Iterator[int]:
    """The numbers of indexes that share none, in order, without the first `offset`."""
    if len(indexes) == 1:
        return indexes[0].since(offset)
    low, high = 0, max((index.highest() for index in indexes), default=0)
    while low < high and offset > 0:  # halving finds the number up to which `offset` numbers lie
        middle = (low + high) // 2
        if sum(index.up_to(middle) for index in indexes) < offset:
            low = middle + 1
        else:
            high = middle
    return heapq.merge(*(index.behind(low) for index in indexes))


class TimeIndex:
    """Ids by the time at which they come due: a change costs O(log n), a look at what is due O(due · log n)."""

    def __init__(self) -> None:
        self._times: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def __contains__(self, id: str) -> bool:
        return id in self._times

    def __iter__(self) -> Iterator[str]:
        return iter(self._times)

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
