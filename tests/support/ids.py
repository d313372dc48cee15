"""Ids that count instead of being drawn, so that two stores draw the same ones."""

import itertools
from collections.abc import Callable


def _counter(prefix: str, digits: int) -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"{prefix}{next(numbers):0{digits}x}"


class CountingIds:
    """An id source whose ids have the shape of real ones and count from 1, each kind on its own."""

    def __init__(self) -> None:
        self.rollout_id = _counter("ro-", 24)
        self.attempt_id = _counter("at-", 12)
        self.resources_id = _counter("rs-", 12)
        self.token = _counter("", 32)
