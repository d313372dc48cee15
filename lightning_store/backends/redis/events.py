"""The log of transitions in Redis, read as it grows."""

from dataclasses import dataclass
from typing import Any

from lightning_store.backends.redis import codec
from lightning_store.backends.redis.core import RedisCore
from lightning_store.backends.redis.waiting import is_earlier
from lightning_store.eventlog import EventPage, wrong_cursor
from lightning_store.requests import check_limit


@dataclass(frozen=True)
class _Place:
    """A place in the log.

    Attributes:
        entry: Id of the entry before it.
        number: How many entries there were up to that one, since the log began.
    """

    entry: str
    number: int

    @classmethod
    def read(cls, cursor: str) -> "_Place":
        entry, _, number = cursor.partition("/")
        if not number.isdecimal() or not entry.replace("-", "").isdecimal():
            raise wrong_cursor(cursor)
        return cls(entry, int(number))

    @property
    def cursor(self) -> str:
        return f"{self.entry}/{self.number}"


@dataclass(frozen=True)
class _Log:
    """The log as it was found: id of its last entry, how many it was given (None = not told), how many it has."""

    last: str
    added: int | None
    kept: int

    @property
    def dropped(self) -> int:
        return (self.added or 0) - self.kept

    def missed(self, since: _Place, is_kept: bool) -> int | None:
        """How many entries behind a place are gone; None = not known."""
        if self.added is None:
            return 0 if is_kept or since.entry == "0-0" else None
        if self.added < since.number:  # another log than the one that the place is of
            return None if self.dropped else 0
        return max(0, self.dropped - since.number)


class EventOperations(RedisCore):
    """Reading the log of transitions from a place on."""

    async def events_after(self, cursor: str | None, *, limit: int = 1000) -> EventPage:
        """See BaseStore."""
        check_limit(limit, "limit", 1)
        place = None if cursor is None else _Place.read(cursor)
        after = "+" if place is None else place.entry
        last, added, kept, is_kept, entries = await self._run("read_events", now=self._now(), after=after, limit=limit)
        log = _Log(codec.text(last), None if added == b"" else int(added), kept)
        if place is None or is_earlier(log.last, place.entry):  # a failover undid what was counted
            return EventPage((), _Place(log.last, log.added or 0).cursor, more=False, missed=0)
        more = len(entries) == limit
        return EventPage(
            [codec.event(flat) for _, flat in entries],
            _next_place(place, log, entries, more).cursor,
            more,
            log.missed(place, bool(is_kept)),
        )


def _next_place(place: _Place, log: _Log, entries: list[Any], more: bool) -> _Place:
    last = codec.text(entries[-1][0]) if entries else place.entry
    if not more:
        return _Place(last, log.added or 0)
    is_same_log = log.added is None or log.added >= place.number
    return _Place(last, (max(place.number, log.dropped) if is_same_log else log.dropped) + len(entries))
