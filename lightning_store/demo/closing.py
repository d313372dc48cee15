"""The closing figures of the demo: counted in the store, not taken from what the algorithm believes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lightning_store.contract import LightningStore
from lightning_store.demo.accident import Accident
from lightning_store.demo.training import TrainingResult
from lightning_store.records import AttemptedRollout, Rollout

CLEAR_RISE: Final = 1.5
"""The last version has to earn so many times the mean reward of the first."""


@dataclass(frozen=True)
class Figures:
    """What the demo came to.

    Attributes:
        enqueued: Rollouts that the algorithm enqueued.
        succeeded: Rollouts that succeeded.
        retried: Rollouts that lost the killed runner and were run again by another.
        lost: Enqueued rollouts that never finished.
        twice: Rollouts with more than one entry in the completion log.
        seconds: From the first rollout's creation to the last one's end.
        first: Mean reward of the first version of the policy on the held-out tasks.
        last: The same of the last version.
        versions: Number of the last version.
    """

    enqueued: int
    succeeded: int
    retried: int
    lost: int
    twice: int
    seconds: float
    first: float
    last: float
    versions: int

    @property
    def rise(self) -> float:
        """How many times the first version's mean reward the last one's is."""
        return self.last / self.first if self.first else 0.0

    def lines(self) -> list[str]:
        """The figures for people."""
        rows = {
            "rollouts enqueued": f"{self.enqueued}",
            "succeeded": f"{self.succeeded}",
            "retried after the kill": f"{self.retried}",
            "lost": f"{self.lost}",
            "finished twice": f"{self.twice}",
            "rollouts per second": f"{self.enqueued / self.seconds:.1f}",
            "mean reward, first version": f"{self.first:.3f}",
            "mean reward, last version": f"{self.last:.3f}  (version {self.versions}: {self.rise:.2f} times the first)",
        }
        return [f"{name:<28}{value}" for name, value in rows.items()]

    def complaints(self) -> list[str]:
        """What is not as it must be, one line each; empty when all is well."""
        checks = {
            f"{self.lost} rollouts were lost": self.lost == 0,
            f"{self.twice} rollouts finished twice": self.twice == 0,
            f"only {self.succeeded} of {self.enqueued} rollouts succeeded": self.succeeded == self.enqueued,
            "no rollout was retried after the kill": self.retried > 0,
            f"the mean reward rose to {self.rise:.2f} times only, not {CLEAR_RISE}": self.rise >= CLEAR_RISE,
        }
        return [complaint for complaint, is_well in checks.items() if not is_well]


async def count(store: LightningStore, result: TrainingResult, accident: Accident | None) -> Figures:
    """Look at every rollout and every completion of the demo's store."""
    rollouts = (await store.query_rollouts()).items
    finishes = await _finishes(store)
    return Figures(
        enqueued=result.rollouts,
        succeeded=sum(rollout.status == "succeeded" for rollout in rollouts),
        retried=await _retried(store, accident, rollouts) if accident else 0,
        lost=result.rollouts - len(finishes),
        twice=sum(times > 1 for times in finishes.values()),
        seconds=_duration(rollouts),
        first=result.first,
        last=result.last,
        versions=result.versions,
    )


async def _finishes(store: LightningStore) -> Counter[str]:
    """Entries of the completion log by rollout."""
    finishes: Counter[str] = Counter()
    page = await store.completions()
    while page.items:
        finishes.update(completion.rollout_id for completion in page.items)
        page = await store.completions(page.cursor)
    return finishes


async def _retried(store: LightningStore, accident: Accident, rollouts: Sequence[Rollout]) -> int:
    """Rollouts with an attempt that ended because the killed runner was gone, and a later one."""
    retried = 0
    for rollout in rollouts:
        if isinstance(rollout, AttemptedRollout) and rollout.attempt.sequence_id > 1:
            attempts = await store.query_attempts(rollout.rollout_id)
            lost = (attempt for attempt in attempts.items[:-1] if attempt.cause == "worker_lost")
            retried += any(attempt.worker_id in accident.workers for attempt in lost)
    return retried


def _duration(rollouts: Sequence[Rollout]) -> float:
    ends = [rollout.end_time for rollout in rollouts if rollout.end_time is not None]
    starts = [rollout.start_time for rollout in rollouts]
    return max(ends) - min(starts) if ends else float("inf")
