"""The queues in the file: places of rollouts, counts of live entries, and retries that wait for their delay.

The rules are those of the memory store. An entry whose rollout is not queued any more is void; it keeps its place, to
which its rollout may return, until it is popped.
"""

# ruff: noqa: S608 - statements are made of constants of ours; values are arguments

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Final

from lightning_store.backends.sqlite.stored import StoredRollout
from lightning_store.status import QUEUED

QUEUED_LIST: Final = ", ".join(f"'{status}'" for status in sorted(QUEUED))

_POP_BATCH: Final = 200


class Queues:
    """The queues of one transaction. Rollouts are changed in memory; whoever changes them writes them back.

    Attributes:
        pushed: Names of queues that got an entry, once for each.
        room: Names of queues that lost one.
    """

    def __init__(self, connection: sqlite3.Connection, on_void: Callable[[int], None]) -> None:
        """Begin.

        Args:
            connection: Where the transaction runs.
            on_void: Called with the number of a rollout whose void entry was dropped.
        """
        self.pushed: list[str] = []
        self.room: set[str] = set()
        self._connection = connection
        self._on_void = on_void
        self._live: defaultdict[str, int] = defaultdict(int)
        self._delayed: defaultdict[str, int] = defaultdict(int)

    def live(self, name: str) -> int:
        """Entries of a queue that can be claimed now."""
        row = self._connection.execute("SELECT live FROM queues WHERE name = ?", (name,)).fetchone()
        return (0 if row is None else int(row[0])) + self._live.get(name, 0)

    def enter(self, stored: StoredRollout, ready_time: float | None) -> None:
        """A rollout begins to wait: at the tail or where its void entry lies; until `ready_time` out of reach."""
        if ready_time is None:
            self._list(stored)
        else:
            stored.queue_place = None
            stored.ready_time = ready_time
            self._delayed[stored.record.queue] += 1

    def leave(self, stored: StoredRollout) -> None:
        """A rollout waits no more: its entry becomes void."""
        name = stored.record.queue
        if stored.queue_place is not None:
            self._live[name] -= 1
            self.room.add(name)
        elif stored.ready_time is not None:
            stored.ready_time = None
            self._delayed[name] -= 1

    def put_first(self, stored: StoredRollout) -> None:
        """A rollout that does not wait enters at the head."""
        self._list(stored, place=self._end(stored.record.queue, "min") - 1)

    def admit(self, stored: StoredRollout) -> None:
        """Move a delayed retry to the tail of its queue."""
        stored.ready_time = None
        self._delayed[stored.record.queue] -= 1
        self._list(stored)

    def pop(self, name: str, wanted: int) -> Iterator[int]:
        """Take live entries from the head: the rollouts' numbers. Void ones on the way are dropped.

        The caller takes away the place of a rollout and writes it before it asks for the next one.

        Args:
            name: The queue.
            wanted: How many will be asked for, so that not more are read; any number may be.
        """
        batch = min(wanted, _POP_BATCH)
        while True:
            entries = self._connection.execute(
                f"SELECT number, status IN ({QUEUED_LIST}) FROM rollouts WHERE queue = ? AND queue_place IS NOT NULL "
                "ORDER BY queue_place LIMIT ?",
                (name, batch),
            ).fetchall()
            for number, is_live in entries:
                if is_live:
                    self._live[name] -= 1
                    self.room.add(name)
                    yield number
                else:
                    self._connection.execute("UPDATE rollouts SET queue_place = NULL WHERE number = ?", (number,))
                    self._on_void(number)
            if len(entries) < batch:
                return
            batch = _POP_BATCH

    def flush(self) -> None:
        """Write the counts."""
        for name in self._live.keys() | self._delayed.keys():
            self._connection.execute(
                "INSERT INTO queues (name, live, delayed) VALUES (?, ?, ?) "
                "ON CONFLICT (name) DO UPDATE SET live = live + excluded.live, delayed = delayed + excluded.delayed",
                (name, self._live.get(name, 0), self._delayed.get(name, 0)),
            )
        self._live.clear()
        self._delayed.clear()

    def forget_counts(self) -> None:
        """The counts are going to be told by the records."""
        self._live.clear()
        self._delayed.clear()

    def _list(self, stored: StoredRollout, place: int | None = None) -> None:
        name = stored.record.queue
        if place is not None or stored.queue_place is None:
            stored.queue_place = self._end(name, "max") + 1 if place is None else place
        self._live[name] += 1
        self.pushed.append(name)

    def _end(self, name: str, which: str) -> int:
        """The first or last place that is taken."""
        [place] = self._connection.execute(
            f"SELECT {which}(queue_place) FROM rollouts WHERE queue = ? AND queue_place IS NOT NULL",
            (name,),
        ).fetchone()
        return int(place or 0)
