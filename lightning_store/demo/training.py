"""What the algorithm is told and what it tells, also as lines of text between two processes."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from pydantic import TypeAdapter

from lightning_store.demo.policy import Policy
from lightning_store.records import RolloutConfig, RolloutMode

REPORT: Final = "report"
RESULT: Final = "result"

Phase: TypeAlias = Literal["enqueued", "finished"]


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    Attributes:
        seed: Decides tasks and chances; the same seed gives the same curve, whoever runs the rollouts.
        iterations: Batches to learn from, and so versions of the policy beyond the first.
        tasks_per_batch: Tasks drawn for each batch.
        group_size: Rollouts of each task, compared with each other.
        learning_rate: Length of a step.
        measurements: Rollouts of each held-out task, for the first and for the last policy.
        config: Limits and retries of every rollout.
        stall_seconds: How long nothing may finish before training gives up.
    """

    seed: int = 0
    iterations: int = 12
    tasks_per_batch: int = 16
    group_size: int = 8
    learning_rate: float = 1.5
    measurements: int = 2
    config: RolloutConfig = field(default_factory=RolloutConfig)
    stall_seconds: float = 60.0


@dataclass(frozen=True)
class BatchReport:
    """What happens to a batch of rollouts.

    Attributes:
        phase: `enqueued` when runners may begin, `finished` when all of its rollouts have.
        version: Version of the policy that it is played with.
        mode: `train`, or `val` when it measures on held-out tasks.
        rollouts: Number of its rollouts.
        mean_reward: Mean over all of them, failed ones counted as 0; None while it runs.
    """

    phase: Phase
    version: int
    mode: RolloutMode
    rollouts: int
    mean_reward: float | None = None


@dataclass(frozen=True)
class TrainingResult:
    """What training came to.

    Attributes:
        policy: The last policy.
        versions: Number of versions published.
        rollouts: Number of rollouts enqueued.
        curve: Mean reward of each training batch, in the order of the versions that played them.
        first: Mean reward of the first version on the held-out tasks.
        last: Mean reward of the last version on the same tasks with the same seeds.
    """

    policy: Policy
    versions: int
    rollouts: int
    curve: Sequence[float]
    first: float
    last: float


def encode(message: BatchReport | TrainingResult) -> str:
    """A message as one line of JSON."""
    key = REPORT if isinstance(message, BatchReport) else RESULT
    return json.dumps({key: dataclasses.asdict(message)})


def decode(line: str) -> BatchReport | TrainingResult:
    """The message in a line that `encode` made.

    Raises:
        ValueError: It is no such line.
    """
    message = json.loads(line)
    if REPORT in message:
        return TypeAdapter(BatchReport).validate_python(message[REPORT])
    return TypeAdapter(TrainingResult).validate_python(message[RESULT])
