"""Waiting for a condition instead of for a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

PATIENCE_SECONDS: Final = 30.0
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
