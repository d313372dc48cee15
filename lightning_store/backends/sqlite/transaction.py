"""One transaction as every operation sees it: its time, what is counted up, and what others may wait for."""

import math
import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from lightning_store.backends.sqlite.codec import Row
from lightning_store.backends.sqlite.queues import Queues
from lightning_store.clock import Clock

READ_NOTE_SECONDS: Final = 1.0
"""Reads note the time only when the last note is older."""


@dataclass(frozen=True)
class Rules:
    """What the options of a store say to its transactions.

    Attributes:
        grace_seconds: A longer gap between calls counts as an outage; so much later silence may end after it.
        events_kept: Events beyond so many are dropped, the oldest first.
    """

    clock: Clock
    grace_seconds: float
    events_kept: int


@dataclass
class News:
    """What a transaction has changed that somebody may wait for, or counts.

    Attributes:
        pushed: Names of queues that got an entry, once for each.
        room: Names of queues that lost one.
        finished: Rollouts that have finished or are gone.
        completed: The completion log got entries.
        due: When the next of what was scheduled comes due; infinity = nothing was.
        stored_spans: How many spans were stored.
        stored_bytes: What these take, without what they are found by.
        evicted: How many rollouts have lost their spans for lack of room.
    """

    pushed: list[str]
    room: set[str]
    finished: set[str] = field(default_factory=set)
    completed: bool = False
    due: float = math.inf
    stored_spans: int = 0
    stored_bytes: int = 0
    evicted: int = 0


class Transaction:
    """One transaction. What it does is written at once, but what is counted up: see `flush`.

    Attributes:
        connection: Where it runs.
        now: The time of the call; it never runs backwards, whatever the clock says.
        is_marked: What was done so far stays, whatever becomes of the call; see `keep`.
    """

    def __init__(self, connection: sqlite3.Connection, rules: Rules) -> None:
        self.connection = connection
        self.queues = Queues(connection, self._forget_place)
        self.news = News(self.queues.pushed, self.queues.room)
        self.is_marked = False
        self.rules = rules
        self.status_counts: Counter[str] = Counter()
        self.totals: Counter[str] = Counter()
        meta = connection.execute(
            "SELECT last_time, resumed_time, last_completion, latest_resources_id FROM meta"
        ).fetchone()
        self._last_time, self.resumed_time, self.last_completion, self.latest_resources_id = meta
        self._meta: Row = meta
        clock = rules.clock.now()
        self.now: float = clock if self._last_time is None else max(clock, self._last_time)

    def _forget_place(self, number: int) -> None:
        """The void entry of a rollout was dropped."""
        raise NotImplementedError

    def note(self) -> None:
        """This call writes: note its time."""
        if self._last_time is not None and self.now - self._last_time > self.rules.grace_seconds:
            self.resumed_time = self.now
        self._last_time = self.now

    def keep(self) -> None:
        """What was done so far stays, also if an error ends the call."""
        self.flush()
        if self.is_marked:
            self.connection.execute("RELEASE kept")
        self.connection.execute("SAVEPOINT kept")
        self.is_marked = True

    def undo(self) -> None:
        """Undo what was done since `keep`; the state cannot be used any more."""
        self.connection.execute("ROLLBACK TO kept")

    def flush(self) -> None:
        """Write what is counted up during the transaction."""
        self.queues.flush()
        for status, change in self.status_counts.items():
            if change:
                self.connection.execute(
                    "INSERT INTO status_counts (status, count) VALUES (?, ?) "
                    "ON CONFLICT (status) DO UPDATE SET count = count + excluded.count",
                    (status, change),
                )
        self.status_counts.clear()
        meta = (self._last_time, self.resumed_time, self.last_completion, self.latest_resources_id)
        if meta != self._meta or self.totals:
            self.connection.execute(
                "UPDATE meta SET last_time = ?, resumed_time = ?, last_completion = ?, latest_resources_id = ?, "
                "attempts = attempts + ?, spans = spans + ?, span_bytes = span_bytes + ?",
                (*meta, self.totals["attempts"], self.totals["spans"], self.totals["span_bytes"]),
            )
            self._meta = meta
            self.totals.clear()

    def span_bytes(self) -> int:
        """Bytes of all spans."""
        [written] = self.connection.execute("SELECT span_bytes FROM meta").fetchone()
        return int(written) + self.totals["span_bytes"]

    def is_note_due(self) -> bool:
        """Whether a read has to note its time: the last note is a while ago."""
        return self._last_time is not None and self.now - self._last_time > READ_NOTE_SECONDS

    def values(self, question: str, arguments: Iterable[Any] = ()) -> list[Any]:
        """The first column of what a query finds."""
        return [row[0] for row in self.connection.execute(question, tuple(arguments))]
