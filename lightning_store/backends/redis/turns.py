"""Turns: so many at a time, the others in the order in which they came."""

import asyncio
from collections import OrderedDict


class Turns:
    """Lets so many have their turn at once."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._left = at_once
        self._behind: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    def __len__(self) -> int:
        return self._at_once - self._left + len(self._behind)

    async def take(self, seconds: float) -> bool:
        """Wait for a turn; whether it came in time. Who has it passes it on in the end."""
        if self._left:
            self._left -= 1
            return True
        turn = asyncio.get_running_loop().create_future()
        self._behind[turn] = None
        try:
            await asyncio.wait({turn}, timeout=None if seconds == float("inf") else max(0.0, seconds))
        except asyncio.CancelledError:
            if turn.done():
                self.pass_on()
            raise
        finally:
            self._behind.pop(turn, None)
        return turn.done()

    def pass_on(self) -> None:
        """Give a turn to the next in line."""
        if self._behind:
            self._behind.popitem(last=False)[0].set_result(None)
        else:
            self._left += 1
