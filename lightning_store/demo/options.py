"""How large the demo is, and where its output goes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lightning_store.demo.tasks import HELD_OUT
from lightning_store.demo.training import TrainingSettings
from lightning_store.records import RolloutConfig

ROLLOUT_CONFIG: Final = RolloutConfig(
    timeout_seconds=60.0, max_attempts=3, retry_condition=["failed", "timeout", "unresponsive"], max_worker_losses=10
)
"""A rollout whose runner is gone runs again; on a machine so busy that leases end too early, as often as need be."""


@dataclass(frozen=True)
class DemoOptions:
    """What the command `demo` was asked for.

    Attributes:
        store_url: A store that is there; None starts a Redis for the time of the demo.
        seed: Decides tasks and moves; the same seed gives the same curve.
        iterations: Batches to learn from, at least 2, so that one of them is midway.
        tasks_per_batch: Tasks of each batch.
        group_size: Rollouts of each task.
        runners: Runner processes.
        concurrency: Rollouts that one of them runs at once.
        lease_seconds: How long a runner may be silent before its rollouts go to others.
        output_dir: Folder of the curve and of the processes' logs; made if missing.
        plain: Lines of text also on a terminal, instead of the live view.
    """

    store_url: str | None = field(default=None, repr=False)  # has a password
    seed: int = 0
    iterations: int = 12
    tasks_per_batch: int = 16
    group_size: int = 8
    runners: int = 4
    concurrency: int = 4
    lease_seconds: float = 2.0
    output_dir: Path = Path("demo-output")
    plain: bool = False

    def __post_init__(self) -> None:
        smallest = {"iterations": 2, "tasks_per_batch": 1, "group_size": 2, "runners": 2, "concurrency": 1}
        for name, least in smallest.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least {least}")

    @property
    def settings(self) -> TrainingSettings:
        """What the algorithm is told."""
        return TrainingSettings(
            seed=self.seed,
            iterations=self.iterations,
            tasks_per_batch=self.tasks_per_batch,
            group_size=self.group_size,
            config=ROLLOUT_CONFIG,
        )

    @property
    def planned_rollouts(self) -> int:
        """Rollouts that the algorithm will enqueue in all."""
        settings = self.settings
        return (
            settings.iterations * settings.tasks_per_batch * settings.group_size + 2 * HELD_OUT * settings.measurements
        )
