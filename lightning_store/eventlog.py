"""A page of a store's log of transitions, for those who read all of it as it grows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lightning_store.errors import InvalidRequestError
from lightning_store.records import RolloutEvent


@dataclass(frozen=True)
class EventPage:
    """Transitions in the order in which they happened.

    Attributes:
        events: What is new, possibly nothing.
        cursor: Where to go on.
        more: There is more already.
        missed: How many transitions before these were dropped from the log unread; None = maybe some, it is not known
            how many.
    """

    events: Sequence[RolloutEvent]
    cursor: str
    more: bool
    missed: int | None


@dataclass(frozen=True)
class NumberedLog:
    """A log whose transitions are numbered 1, 2, ... as they come; the first ones have been dropped.

    A cursor is the number of the transition before it.

    Attributes:
        dropped: How many are gone.
        last: Number of the last one, 0 while there was none.
    """

    dropped: int
    last: int

    def page(self, cursor: str | None, read: Callable[[int], Sequence[RolloutEvent]]) -> EventPage:
        """What `BaseStore.events_after` answers.

        Args:
            cursor: See there.
            read: The transitions behind a number, in order, as many as the page may have.

        Raises:
            InvalidRequestError: The cursor is none.
        """
        if cursor is None:
            return EventPage((), str(self.last), more=False, missed=0)
        if not cursor.isdecimal():
            raise wrong_cursor(cursor)
        asked = min(int(cursor), self.last)  # one beyond the end is of a log that another file replaced
        start = max(asked, self.dropped)
        events = read(start)
        end = start + len(events)
        return EventPage(events, str(end), more=end < self.last, missed=start - asked)


def wrong_cursor(cursor: str) -> InvalidRequestError:
    """What a reader is told whose cursor is of no page."""
    return InvalidRequestError(f"cursor: expected one of an earlier page, got {cursor!r:.100}")
