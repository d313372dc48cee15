"""What a workload asks of Redis: memory, processor, commands and network, by arithmetic on what was measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from lightning_store import measured_costs as costs
from lightning_store.errors import InvalidRequestError
from lightning_store.measured_costs import Call
from lightning_store.memory_limits import MemoryThresholds

KEEP_SECONDS: Final = 3600.0
"""How long finished rollouts are kept, unless something else is said."""

ENOUGH: Final = 0.6
"""Up to this share of a core, answers come as fast as they do when there is nothing else to do."""

_MICROS: Final = 1e6


@dataclass(frozen=True)
class Workload:
    """What is to be carried.

    Attributes:
        span_bytes: Of a span as it is stored: JSON, compressed if over 2 kB.
        keep_seconds: How long finished rollouts are kept; None = an hour, unless `keep` says how many.
        keep: How many finished rollouts are kept.
        queued: How many rollouts wait at most.
        processes: Runner processes per host.
        concurrency: Workers per process.
        spans_per_call: Spans of an attempt that are sent together.

    Raises:
        InvalidRequestError: One is out of bounds; it is named as on the command line.
    """

    rollouts_per_second: float
    spans_per_rollout: float
    span_bytes: float
    input_bytes: float = 200
    keep_seconds: float | None = None
    keep: int | None = None
    queued: int = 0
    hosts: int = 1
    processes: int = 1
    concurrency: int = 1
    spans_per_call: float = 1

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= _MOST:
                option = "--" + name.replace("_", "-")
                raise InvalidRequestError(f"{option}: expected a number from {least} to {_MOST:g}, got {value}")
        if self.keep is not None and self.keep_seconds is not None:
            raise InvalidRequestError("--keep: expected this or --keep-seconds, not both")

    @property
    def kept(self) -> float:
        """Finished rollouts in the store."""
        if self.keep is not None:
            return self.keep
        return self.rollouts_per_second * (KEEP_SECONDS if self.keep_seconds is None else self.keep_seconds)

    @property
    def workers(self) -> int:
        """Most rollouts that run at once."""
        return self.hosts * self.processes * self.concurrency

    @property
    def span_calls(self) -> float:
        """Calls per rollout that carry spans."""
        return min(self.spans_per_rollout, math.ceil(self.spans_per_rollout / self.spans_per_call))

    @property
    def connections(self) -> int:
        """Connections of all runner processes."""
        return self.hosts * self.processes * costs.CONNECTIONS


_MOST: Final = 1e12

_LEAST: Final = {
    "rollouts_per_second": 0, "spans_per_rollout": 0, "span_bytes": 0, "input_bytes": 0, "keep_seconds": 0, "keep": 0,
    "queued": 0, "hosts": 1, "processes": 1, "concurrency": 1, "spans_per_call": 1,
}  # fmt: skip


class Part(NamedTuple):
    """So many things of so many bytes."""

    name: str
    number: float
    bytes_each: float

    @property
    def bytes(self) -> float:
        """Of all together."""
        return self.number * self.bytes_each


class Load(NamedTuple):
    """What happens so often per second.

    Attributes:
        commands: That clients send for one.
    """

    name: str
    per_second: float
    cost: Call
    commands: float = 1

    @property
    def core(self) -> float:
        """Share of a core."""
        return self.per_second * self.cost.micros / _MICROS


@dataclass(frozen=True)
class Cluster:
    """The smallest Cluster for a workload.

    Attributes:
        namespaces: On different primaries, among which the work has to be divided.
    """

    primaries: int
    namespaces: int


Verdict = Literal["enough", "at its limit", "too little"]
"""What one Redis is for a workload."""


@dataclass(frozen=True)
class Estimate:
    """What a workload asks of Redis."""

    workload: Workload
    memory: Sequence[Part]
    loads: Sequence[Load]

    @property
    def bytes(self) -> float:
        """Memory of all parts."""
        return sum(part.bytes for part in self.memory)

    @property
    def maxmemory(self) -> float:
        """The least `maxmemory` with which no spans are evicted."""
        return self.bytes / MemoryThresholds().eviction

    @property
    def core(self) -> float:
        """Share of a core that one Redis needs."""
        return sum(load.core for load in self.loads)

    @property
    def commands(self) -> float:
        """Per second."""
        return sum(load.per_second * load.commands for load in self.loads)

    @property
    def bytes_in(self) -> float:
        """From clients, per second."""
        return sum(load.per_second * load.cost.bytes_in for load in self.loads)

    @property
    def bytes_out(self) -> float:
        """To clients, per second."""
        return sum(load.per_second * load.cost.bytes_out for load in self.loads)

    @property
    def verdict(self) -> Verdict:
        """Whether one Redis carries it."""
        if self.core < ENOUGH:
            return "enough"
        return "at its limit" if self.core <= 1 else "too little"

    @property
    def cluster(self) -> Cluster:
        """With no primary over `ENOUGH` of a core.

        Spans are spread over all primaries, the control plane of a namespace lies on one of them. A call with spans
        takes a step in the slot of the spans, and one before and one after it in the control slot.
        """
        spans = sum(load.core for load in self.loads if load.name in _SPREAD)
        steps = sum(load.core for load in self.loads if load.name == _SPAN_CALLS)
        control = self.core - spans + 2 * steps
        primaries = max(1, math.ceil((control + spans) / ENOUGH))
        return Cluster(primaries, max(1, math.ceil(control / (ENOUGH - spans / primaries))))


_SPAN_CALLS: Final = "calls with spans"
_SPREAD: Final = frozenset({_SPAN_CALLS, "spans"})


def estimate(workload: Workload) -> Estimate:
    """What a workload asks of Redis."""
    return Estimate(workload, _memory(workload), _loads(workload))


def _memory(work: Workload) -> list[Part]:
    spans_bytes = _spans_bytes(work.spans_per_rollout, work.span_bytes)
    calls = 2 + work.span_calls
    return [
        Part("queued rollouts", work.queued, costs.QUEUED_BYTES + work.input_bytes),
        Part("running rollouts", work.workers, costs.FINISHED_BYTES + work.input_bytes),
        Part("finished rollouts", work.kept, costs.FINISHED_BYTES + work.input_bytes),
        Part("spans of a running one", work.workers, spans_bytes),
        Part("spans of a finished one", work.kept, spans_bytes),
        Part("tokens of calls", work.rollouts_per_second * calls * costs.TOKEN_SECONDS, costs.TOKEN_BYTES),
        Part("workers", work.workers, costs.WORKER_BYTES),
        Part("connections", work.connections, costs.CONNECTION_BYTES),
        Part("log of events", 1, costs.EVENTS_BYTES),
    ]


def _spans_bytes(spans: float, span_bytes: float) -> float:
    """Memory of the spans of a rollout; below one span, of so many rollouts that have one."""
    if spans < 1:
        return spans * _spans_bytes(1, span_bytes) if spans else 0.0
    entry = span_bytes + costs.ENTRY_BYTES
    per_node = max(1, costs.NODE_CAPACITY // entry)
    full = math.ceil(spans / per_node) - 1
    return (
        costs.STREAM_BYTES
        + full * (costs.NODE_BYTES + _allocated(per_node * entry))
        + max(costs.NODE_CAPACITY, _allocated(entry))
    )


def _allocated(size: float) -> float:
    """What jemalloc, the allocator of Redis, gives for it: it has four sizes between a power of two and the next."""
    step = 2.0 ** (math.ceil(math.log2(size)) - 3)
    return math.ceil(size / step) * step


def _loads(work: Workload) -> list[Load]:
    rate = work.rollouts_per_second
    processes = work.hosts * work.processes
    micros = costs.SPAN.micros + costs.SPAN_KILOBYTE_MICROS * work.span_bytes / 1000
    span = Call(micros, costs.SPAN.bytes_in + work.span_bytes, costs.SPAN.bytes_out)
    return [
        Load("enqueues", rate, costs.ENQUEUE._replace(bytes_in=costs.ENQUEUE.bytes_in + work.input_bytes)),
        Load("claims", rate, costs.CLAIM._replace(bytes_out=costs.CLAIM.bytes_out + work.input_bytes)),
        Load(_SPAN_CALLS, rate * work.span_calls, costs.SPAN_CALL),
        Load("spans", rate * work.spans_per_rollout, span, commands=0),
        Load("reports of the end", rate, costs.SUCCESS),
        Load("heartbeats", work.workers / costs.HEARTBEAT_SECONDS, costs.HEARTBEAT),
        Load("waits for work", processes, costs.WAITING, costs.WAITING_COMMANDS),
    ]
