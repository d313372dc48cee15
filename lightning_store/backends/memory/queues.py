"""The queues of the memory store: lists of ids, counts of their live entries, and retries that wait for their delay."""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from lightning_store.backends.memory.index import TimeIndex


@dataclass
class Queue:
    """One queue.

    Attributes:
        entries: Ids, head first. An entry whose rollout is not queued any more is void; it stays until it is popped,
            and its rollout may return to it.
        live: Entries that are not void.
        delayed: Retries of this queue that wait for their delay.
    """

    entries: OrderedDict[str, None] = field(default_factory=OrderedDict)
    live: int = 0
    delayed: int = 0


class Queues:
    """All queues of a store, by name."""

    def __init__(self, on_push: Callable[[str], None], on_room: Callable[[str], None]) -> None:
        """Make no queue yet.

        Args:
            on_push: Called with the name of a queue that gets a live entry.
            on_room: Called with the name of a queue that loses one.
        """
        self._queues: dict[str, Queue] = {}
        self._delayed = TimeIndex()
        self._on_push = on_push
        self._on_room = on_room

    def items(self) -> list[tuple[str, Queue]]:
        """The queues that ever had an entry, by name."""
        return sorted(self._queues.items())

    def delayed(self) -> frozenset[str]:
        """The retries that wait for their delay."""
        return frozenset(self._delayed)

    def live(self, name: str) -> int:
        """Entries of a queue that can be claimed now."""
        queue = self._queues.get(name)
        return 0 if queue is None else queue.live

    def enter(self, name: str, id: str, ready_time: float | None) -> None:
        """A rollout begins to wait: at the tail or where its void entry lies; until `ready_time` out of reach."""
        queue = self._named(name)
        if ready_time is None:
            self._list(name, id)
        else:
            queue.entries.pop(id, None)
            self._delayed.set(id, ready_time)
            queue.delayed += 1

    def leave(self, name: str, id: str) -> None:
        """A rollout waits no more: its entry becomes void."""
        queue = self._named(name)
        if id in queue.entries:
            queue.live -= 1
            self._on_room(name)
        elif self._delayed.discard(id):
            queue.delayed -= 1

    def put_first(self, name: str, id: str) -> None:
        """A rollout that does not wait enters at the head."""
        self._list(name, id)
        self._named(name).entries.move_to_end(id, last=False)

    def pop(self, name: str) -> Iterator[str]:
        """Take entries from the head, void ones included; the caller says with `claimed` which of them lived."""
        queue = self._queues.get(name)
        while queue is not None and queue.entries:
            id, _ = queue.entries.popitem(last=False)
            yield id

    def claimed(self, name: str) -> None:
        """An entry that was popped lived."""
        self._named(name).live -= 1
        self._on_room(name)

    def forget(self, name: str, id: str) -> None:
        """Drop the void entry of a rollout that is deleted."""
        if name in self._queues:
            self._queues[name].entries.pop(id, None)

    def soonest(self) -> float:
        """When the next delayed retry is ready; infinity if there is none."""
        return self._delayed.soonest()

    def ready(self, now: float, limit: int) -> list[str]:
        """At most `limit` delayed retries that are ready at `now`, in the order in which they became ready."""
        return self._delayed.before(math.nextafter(now, math.inf), limit)

    def admit(self, name: str, id: str) -> None:
        """Move a delayed retry to the tail of its queue."""
        self._delayed.discard(id)
        self._named(name).delayed -= 1
        self._list(name, id)

    def _named(self, name: str) -> Queue:
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = Queue()
        return queue

    def _list(self, name: str, id: str) -> None:
        queue = self._named(name)
        queue.entries.setdefault(id)
        queue.live += 1
        self._on_push(name)
