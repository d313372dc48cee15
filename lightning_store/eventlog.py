"""A page of a store's log of transitions, for those who read all of it as it grows."""

from collections.abc import Sequence
from dataclasses import dataclass

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
