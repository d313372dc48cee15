"""Producers that wait for room in queues of the memory store."""

from collections import defaultdict

from lightning_store.backends.memory.waiting import Wait


class RoomWait(Wait):
    """A producer's place in the line."""

    def __init__(self, queues: tuple[str, ...], timeout: float) -> None:
        super().__init__(timeout)
        self.queues = queues


class RoomLine:
    """Per queue, those that wait for room in it, in the order in which they began; only the first one is woken."""

    def __init__(self) -> None:
        self._waits: defaultdict[str, dict[RoomWait, None]] = defaultdict(dict)

    def join(self, queues: tuple[str, ...], timeout: float) -> RoomWait:
        """Begin to wait, behind all others."""
        wait = RoomWait(queues, timeout)
        for name in queues:
            self._waits[name][wait] = None
        return wait

    def leave(self, wait: RoomWait) -> None:
        """Wait no more: the next one may try."""
        self._withdraw(wait)
        for name in wait.queues:
            self.call(name)

    def is_waited_for(self, queues: tuple[str, ...]) -> bool:
        """Whether somebody waits for room in any of the queues."""
        return any(name in self._waits for name in queues)

    def call(self, name: str) -> None:
        """Wake the first one that waits for room in a queue; those whose event loop is closed never will have any."""
        while (waits := self._waits.get(name)) and not (first := next(iter(waits))).wake():
            self._withdraw(first)

    def call_all(self) -> None:
        """Wake everybody."""
        for wait in {wait for waits in self._waits.values() for wait in waits}:
            wait.wake()

    def _withdraw(self, wait: RoomWait) -> None:
        for name in wait.queues:
            self._waits[name].pop(wait, None)
            if not self._waits[name]:
                del self._waits[name]
