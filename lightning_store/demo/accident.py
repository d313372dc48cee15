"""The accident of the demo: a runner is killed while it holds rollouts, and what becomes of these."""

from collections.abc import Sequence
from dataclasses import dataclass

from lightning_store.contract import LightningStore
from lightning_store.demo.processes import Child
from lightning_store.records import AttemptedRollout
from lightning_store.status import ACTIVE


@dataclass(frozen=True)
class Accident:
    """One killed runner.

    Attributes:
        runner: Its name.
        pid: Its process id.
        held: The rollouts that it held when it died.
        workers: The workers that held them, as the store names them.
    """

    runner: str
    pid: int
    held: tuple[str, ...]
    workers: frozenset[str]


async def kill_busy_runner(store: LightningStore, runners: Sequence[Child]) -> Accident | None:
    """Kill the first runner that holds rollouts; None, and nobody killed, when none holds any.

    Each is frozen while we look, so that what it holds does not change between the look and the kill.
    """
    for runner in runners:
        runner.freeze()
        held = await _held_by(store, runner)
        if held:
            runner.kill()
            workers = frozenset(rollout.attempt.worker_id or "" for rollout in held)
            return Accident(runner.name, runner.pid, tuple(rollout.rollout_id for rollout in held), workers)
        runner.resume()
    return None


async def count_run_again(store: LightningStore, accident: Accident) -> int:
    """How many of the rollouts that the killed runner held have been claimed by another since."""
    rollouts = await store.query_rollouts(rollout_id_in=accident.held)
    return sum(isinstance(rollout, AttemptedRollout) and rollout.attempt.sequence_id > 1 for rollout in rollouts)


async def _held_by(store: LightningStore, runner: Child) -> list[AttemptedRollout]:
    """What the workers of a frozen runner hold."""
    # Asked twice: what the runner sent before it froze may reach the store after the first question, not after its
    # answer.
    await store.query_rollouts(status_in=list(ACTIVE))
    rollouts = await store.query_rollouts(status_in=list(ACTIVE))
    attempted = [rollout for rollout in rollouts if isinstance(rollout, AttemptedRollout)]
    return [rollout for rollout in attempted if is_worker_of(rollout.attempt.worker_id, runner)]


def is_worker_of(worker_id: str | None, runner: Child) -> bool:
    """Whether a worker, by its name in the store, belongs to this runner process."""
    return worker_id is not None and str(runner.pid) in worker_id.split("-")
