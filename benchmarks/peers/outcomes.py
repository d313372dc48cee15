"""What a contender did in a round, checked: each job ran exactly once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.measuring import check_once, percentile


@dataclass(frozen=True)
class Outcome:
    """One round of one contender.

    Attributes:
        rate: Jobs per second, from start to start, after some to warm up.
        redis_micros: CPU time of the server per job.
        worker_micros: CPU time of the worker process per job.
        enqueue_rate: Jobs enqueued per second, one at a time.
        latencies: Seconds from enqueuing a job to its start in an idle worker; empty when this was not measured.
    """

    rate: float
    redis_micros: float
    worker_micros: float
    enqueue_rate: float
    latencies: tuple[float, ...] = ()

    @property
    def pickup_millis(self) -> float:
        """The median pickup."""
        return 1e3 * percentile(self.latencies, 50)


def outcome(
    enqueued: int,
    enqueuing: Mapping[str, float],
    redis_seconds: float,
    jobs: Mapping[str, Any],
    pickups: Mapping[str, Any] | None = None,
) -> Outcome:
    """Check what a worker wrote of its jobs and pickups.

    Args:
        enqueued: How many jobs.
        enqueuing: How many of them were timed, and how long that took.
        redis_seconds: CPU time of the server for all jobs.
        jobs: What the worker wrote when all jobs had begun.
        pickups: The same of pickups.

    Raises:
        AssertionError: A job did not run, or ran twice.
    """
    check_once(_numbers(enqueued), [str(number) for number in jobs["ids"]])
    latencies: tuple[float, ...] = ()
    if pickups is not None:
        latencies = tuple(pickups["latencies"])
        check_once(_numbers(len(latencies)), [str(number) for number in pickups["ids"]])
        late = pickups["jobs"] - enqueued
        assert late == 0, f"{late} of {enqueued} more than once"
    return Outcome(
        rate=jobs["timed"] / jobs["seconds"],
        redis_micros=1e6 * redis_seconds / enqueued,
        worker_micros=1e6 * jobs["cpu_seconds"] / jobs["timed"],
        enqueue_rate=enqueuing["timed"] / enqueuing["seconds"],
        latencies=latencies,
    )


def _numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]
