"""Waiting for a condition instead of for a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

PATIENCE_SECONDS: Final = 30.0
AT_ONCE: Final = 3.0
"""Bound for what must be immediate, on a machine that stands still now and then: it only has to be below the 4 s after
which whoever waits on Redis looks by itself at the earliest."""

_LOOK_SECONDS: Final = 0.005


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = PATIENCE_SECONDS) -> float:
    """Look again and again until a condition holds; how many seconds that took.

    Raises:
        AssertionError: It did not hold in time.
    """
    started = time.monotonic()
    while True:
        holds = condition()
        if not isinstance(holds, bool):
            holds = await holds
        if holds:
            return time.monotonic() - started
        assert time.monotonic() - started < seconds, f"did not come true within {seconds:g} s"
        await asyncio.sleep(_LOOK_SECONDS)


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> float:
    """The same for callers without an event loop."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"did not come true within {seconds:g} s"
        time.sleep(_LOOK_SECONDS)
    return time.monotonic() - started
