"""What runner and daemon know of themselves and metrics tell; needs no extra."""

from collections.abc import Mapping
from typing import NamedTuple


class DaemonFacts(NamedTuple):
    """What a daemon knows of itself.

    Attributes:
        silent_workers: How many it has marked as unknown.
        pruned: How many rollouts it has removed.
    """

    silent_workers: int
    pruned: int


class RunnerFacts(NamedTuple):
    """What a runner knows of itself.

    Attributes:
        attempts: How many have ended, by outcome.
        busy: Workers that hold a rollout.
        workers: All its workers.
        last_poll: When a claim got through last, in seconds since the epoch; None before the first.
        lost_spans: Spans that could not be stored, by reason.
        buffered_spans: Spans on their way to the store.
        is_answering: Whether the store answers.
    """

    attempts: Mapping[str, int]
    busy: int
    workers: int
    last_poll: float | None
    lost_spans: Mapping[str, int]
    buffered_spans: int
    is_answering: bool
