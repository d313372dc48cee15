"""Who waits in this process, and for what: any thread may wake them."""

import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from lightning_store.backends.sqlite.transaction import News
from lightning_store.waiting import ClaimLine, FinishWait, FinishWaits, RoomLine, RoomWait, Ticket, Wait


@dataclass(frozen=True)
class Wanted:
    """What somebody waits for.

    Attributes:
        queues: Queues that are waited on.
        producers: Queues in which room is waited for.
        rollouts: Rollouts whose finish is waited for.
    """

    queues: frozenset[str]
    producers: frozenset[str]
    rollouts: frozenset[str]


@dataclass
class Board:
    """The waits of one store object, of all threads and event loops of its process. No method blocks."""

    _lock: threading.RLock = field(default_factory=threading.RLock)
    _line: ClaimLine = field(default_factory=ClaimLine)
    _room: RoomLine = field(default_factory=RoomLine)
    _finishes: FinishWaits = field(default_factory=FinishWaits)
    _claims: set[Ticket] = field(default_factory=set)
    _producers: set[RoomWait] = field(default_factory=set)
    _watched: set[FinishWait] = field(default_factory=set)
    _followers: set[Wait] = field(default_factory=set)

    def __bool__(self) -> bool:
        """Whether anybody waits."""
        return bool(self._claims or self._producers or self._watched or self._followers)

    # -- claims ------------------------------------------------------------------------------------------------------

    def join(self, queues: tuple[str, ...], timeout: float) -> Ticket:
        """Begin to wait for work, behind all others."""
        with self._lock:
            ticket = self._line.join(queues, timeout)
            self._claims.add(ticket)
            return ticket

    def rejoin(self, ticket: Ticket) -> None:
        """Wait on at the old place: a hint came, but others had taken the work."""
        with self._lock:
            self._line.rejoin(ticket)

    def leave(self, ticket: Ticket, *, left: bool) -> None:
        """Wait no more; if work is left, or the hint was not used, the next one may have it."""
        with self._lock:
            self._line.leave(ticket)
            self._claims.discard(ticket)
            if left:
                for name in ticket.queues:
                    self._line.call(name)

    # -- room --------------------------------------------------------------------------------------------------------

    def is_room_waited_for(self, queues: tuple[str, ...]) -> bool:
        """Whether somebody waits for room in any of the queues."""
        with self._lock:
            return self._room.is_waited_for(queues)

    def join_producers(self, queues: tuple[str, ...], timeout: float) -> RoomWait:
        """Begin to wait for room, behind all others."""
        with self._lock:
            wait = self._room.join(queues, timeout)
            self._producers.add(wait)
            return wait

    def leave_producers(self, wait: RoomWait) -> None:
        """Wait no more: the next one may try."""
        with self._lock:
            self._producers.discard(wait)
            self._room.leave(wait)

    # -- finishes and completions ------------------------------------------------------------------------------------

    def expect(self, rollout_ids: Iterable[str], timeout: float) -> FinishWait:
        """Begin to wait until all of these have finished."""
        with self._lock:
            wait = FinishWait(timeout)
            self._finishes.expect(wait, rollout_ids)
            self._watched.add(wait)
            return wait

    def narrow(self, wait: FinishWait, rollout_ids: Collection[str]) -> bool:
        """Only these have not finished, as was just read; whether all of them have finished meanwhile."""
        with self._lock:
            self._finishes.expect(wait, wait.pending & frozenset(rollout_ids))
            return not wait.pending

    def forget(self, wait: FinishWait) -> None:
        """Wait no more."""
        with self._lock:
            self._finishes.forget(wait)
            self._watched.discard(wait)

    def follow(self, timeout: float) -> Wait:
        """Begin to wait for the next completion."""
        with self._lock:
            wait = Wait(timeout)
            self._followers.add(wait)
            return wait

    def unfollow(self, wait: Wait) -> None:
        """Wait no more."""
        with self._lock:
            self._followers.discard(wait)

    # -- news --------------------------------------------------------------------------------------------------------

    def tell(self, news: News) -> None:
        """Wake those whom a transaction concerns."""
        with self._lock:
            for name in news.pushed:
                self._line.call(name)
            for name in news.room:
                self._room.call(name)
            for rollout_id in news.finished:
                self._finishes.finished(rollout_id)
            if news.completed:
                self._wake(self._followers)

    def wanted(self) -> Wanted:
        """What is waited for now."""
        with self._lock:
            return Wanted(
                frozenset(name for ticket in self._claims for name in ticket.queues),
                frozenset(name for wait in self._producers for name in wait.queues),
                frozenset(id for wait in self._watched for id in wait.pending),
            )

    def hint(self, name: str, live: int) -> None:
        """A queue has so many entries that can be claimed: call as many as are not called yet."""
        with self._lock:
            called = sum(ticket.is_called for ticket in self._claims if name in ticket.queues)
            for _ in range(min(live, len(self._claims)) - called):
                self._line.call(name)

    def end_all(self) -> None:
        """End all waits: they answer with what there is."""
        with self._lock:
            for wait in (*self._claims, *self._producers, *self._watched, *self._followers):
                wait.end()

    def wake_all(self) -> None:
        """Let everybody look for itself."""
        with self._lock:
            self._wake((*self._claims, *self._producers, *self._watched, *self._followers))

    def _wake(self, waits: Iterable[Wait]) -> None:
        for wait in waits:
            wait.wake()
