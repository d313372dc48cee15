"""An event loop whose clock jumps to whatever is waited for, so that a test may wait for minutes in no time."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type, unused-ignore]  # chosen per platform
    """Lets the time pass when nothing is ready, instead of waiting."""

    elapsed = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout:
            self.elapsed += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Selector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.elapsed


def run_in_virtual_time(work: Coroutine[Any, Any, T]) -> T:
    """Like `asyncio.run`; nothing may be waited for that happens outside of the loop, such as a server's answer."""
    loop = _Loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()
