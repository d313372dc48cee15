"""What the command line can say of runners."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lightning_store.contract import DEFAULT_QUEUES
from lightning_store.runner.runner import DEFAULT_GRACE_SECONDS, DEFAULT_LEASE_SECONDS


@dataclass(frozen=True)
class RunnerOptions:
    """What the command line can say of runners; see `Runner` for the meaning.

    Attributes:
        agent: `package.module:agent`.
        store_url: Where the store is; holds a password, and is not shown.
        concurrency: Rollouts at once, per process.
        processes: Number of processes; 1 = this one.
        worker_id: As in `Runner`; with several processes, the number of the process is put behind it.
        log_level: Level of the log of the processes that are started.
        metrics_port: Where metrics are told; of several processes, where the first does, and each further one at the
            next port. 0 = at free ports, None = nowhere.
        metrics_host: Address to tell them on.
    """

    agent: str
    store_url: str = field(repr=False)
    namespace: str = "default"
    concurrency: int = 1
    processes: int = 1
    queues: tuple[str, ...] = DEFAULT_QUEUES
    lease_seconds: float = DEFAULT_LEASE_SECONDS
    grace_seconds: float = DEFAULT_GRACE_SECONDS
    worker_id: str | None = None
    log_level: str = "INFO"
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"

    def as_json(self) -> dict[str, Any]:
        """The options as JSON, secrets included."""
        return asdict(self)

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "RunnerOptions":
        """The options that `as_json` was called on."""
        fields: dict[str, Any] = {**given, "queues": tuple(given["queues"])}
        return cls(**fields)
