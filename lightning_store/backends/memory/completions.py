"""The completion log of the memory store: one entry per finish, in order, with cursors that survive deletions."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lightning_store.records import Completion, CompletionPage


def cursor_of(number: int) -> str:
    """The cursor behind entry `number`; 0 = before the first."""
    return f"{number}-0"


@dataclass
class _Listed:
    """Numbers of the entries of one group; the first `gaps` of them are removed."""

    numbers: list[int] = field(default_factory=list)
    gaps: int = 0


class CompletionLog:
    """Entries 1, 2, 3 ...; a removed one leaves a gap, and gaps at the front are dropped now and then."""

    def __init__(self) -> None:
        self.last = 0
        self._first = 1
        self._gaps = 0
        self._entries: list[Completion | None] = []
        self._groups: defaultdict[str, _Listed] = defaultdict(_Listed)

    def numbered(self) -> dict[int, Completion]:
        """The entries that are not removed, by number; not to be changed."""
        return {number: entry for number, entry in enumerate(self._entries, self._first) if entry is not None}

    def append(self, entry: Completion) -> int:
        """Add an entry, whose cursor is set here; returns its number."""
        self.last += 1
        entry.cursor = cursor_of(self.last)
        self._entries.append(entry)
        if entry.group_id is not None:
            self._groups[entry.group_id].numbers.append(self.last)
        return self.last

    def remove(self, numbers: Iterable[int], group_id: str | None) -> None:
        """Remove entries of one rollout."""
        for number in numbers:
            self._entries[number - self._first] = None
        if group_id is not None:
            self._trim_group(group_id)
        self._trim()

    def page(self, after: int, limit: int, group_id: str | None) -> CompletionPage:
        """At most `limit` entries behind number `after`, and where to go on."""
        items: list[Completion] = []
        for entry in self._behind(after, group_id):
            items.append(entry.model_copy())
            if len(items) == limit:
                return CompletionPage(items=items, cursor=entry.cursor)
        return CompletionPage(items=items, cursor=cursor_of(max(after, self.last)))

    def time_of(self, number: int) -> float:
        """When an entry that is not removed was written."""
        entry = self._entry(number)
        assert entry is not None, number  # noqa: S101 - a rollout knows its entries
        return entry.end_time

    def _behind(self, after: int, group_id: str | None) -> Iterator[Completion]:
        if group_id is None:
            numbers: Iterable[int] = range(max(after + 1, self._first), self.last + 1)
        elif group_id in self._groups:
            listed = self._groups[group_id].numbers
            numbers = (listed[at] for at in range(bisect_right(listed, after), len(listed)))
        else:
            numbers = ()
        for number in numbers:
            entry = self._entry(number)
            if entry is not None:
                yield entry

    def _entry(self, number: int) -> Completion | None:
        return self._entries[number - self._first] if number >= self._first else None

    def _trim(self) -> None:
        while self._gaps < len(self._entries) and self._entries[self._gaps] is None:
            self._gaps += 1
        if self._gaps > len(self._entries) // 2:
            del self._entries[: self._gaps]
            self._first += self._gaps
            self._gaps = 0

    def _trim_group(self, group_id: str) -> None:
        listed = self._groups[group_id]
        while listed.gaps < len(listed.numbers) and self._entry(listed.numbers[listed.gaps]) is None:
            listed.gaps += 1
        if listed.gaps == len(listed.numbers):
            del self._groups[group_id]
        elif listed.gaps > len(listed.numbers) // 2:
            del listed.numbers[: listed.gaps]
            listed.gaps = 0
