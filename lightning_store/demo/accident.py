"""The accident of the demo: a runner is killed while it holds rollouts, and what becomes of these."""

from collections.abc import Sequence
from dataclasses import dataclass

from lightning_store.contract import LightningStore
from lightning_store.demo.processes import Child
from lightning_store.records import AttemptedRollout, Worker
from lightning_store.status import ACTIVE


@dataclass(frozen=True)
class Accident:
    """One killed runner.

    Attributes:
        runner: Its name.
        pid: Its process id.
        held: The rollouts that it held when it died.
        workers: Its workers, as the store names them.
    """

    runner: str
    pid: int
    held: tuple[str, ...]
    workers: frozenset[str]


async def kill_busy_runner(store: LightningStore, runners: Sequence[Child]) -> Accident | None:
    """Kill the first runner that holds rollouts; None, and nobody killed, when none holds any.

    Each is frozen while we look, so that what it holds does not change between the look and the kill.
    """
    workers = (await store.query_workers()).items
    for runner in runners:
        names = {worker.worker_id for worker in workers if is_worker_of(worker, runner)}
        runner.freeze()
        held = await _held_by(store, names)
        if held:
            runner.kill()
            return Accident(runner.name, runner.pid, tuple(held), frozenset(names))
        runner.resume()
    return None


async def count_run_again(store: LightningStore, accident: Accident) -> int:
    """How many of the rollouts that the killed runner held have been claimed by another since."""
    rollouts = await store.query_rollouts(rollout_id_in=accident.held)
    return sum(isinstance(rollout, AttemptedRollout) and rollout.attempt.sequence_id > 1 for rollout in rollouts)


def is_worker_of(worker: Worker, runner: Child) -> bool:
    """Whether a worker belongs to this runner process, by what its heartbeats tell."""
    return (worker.heartbeat_stats or {}).get("pid") == runner.pid


async def _held_by(store: LightningStore, names: set[str]) -> list[str]:
    """Ids of the rollouts that the workers of a frozen runner hold."""
    # Asked twice: what the runner sent before it froze may reach the store after the first question, not after its
    # answer.
    await store.query_rollouts(status_in=list(ACTIVE))
    rollouts = await store.query_rollouts(status_in=list(ACTIVE))
    return [
        rollout.rollout_id
        for rollout in rollouts
        if isinstance(rollout, AttemptedRollout) and rollout.attempt.worker_id in names
    ]
