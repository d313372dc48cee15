"""All metrics by name: the one place for their names, units, labels and help, and for who tells them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

from lightning_store.addresses import StoreKind

Kind = Literal["counter", "gauge", "histogram", "info"]
Teller = Literal["server", "daemon", "runner"]
GaugeMode = Literal["livesum", "max"]

PREFIX: Final = "lightning_store_"
UNITS: Final = ("seconds", "bytes")

EVERYONE: Final[tuple[Teller, ...]] = ("server", "daemon", "runner")
OF_THE_NAMESPACE: Final[tuple[Teller, ...]] = ("server", "daemon")
DAEMON: Final[tuple[Teller, ...]] = ("daemon",)
RUNNER: Final[tuple[Teller, ...]] = ("runner",)

STORES: Final[dict[StoreKind, str]] = {"redis": "Redis", "sqlite": "SQLite", "memory": "memory", "http": "a server"}
"""All kinds of stores, with their names for people."""

ANY_STORE: Final[frozenset[StoreKind]] = frozenset(STORES)
DIRECT: Final[frozenset[StoreKind]] = frozenset({"redis", "sqlite", "memory"})
"""Those that a process works on itself, not through a server."""

REDIS: Final[frozenset[StoreKind]] = frozenset({"redis"})
SQLITE: Final[frozenset[StoreKind]] = frozenset({"sqlite"})

LATENCY_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Of calls that do not wait: half a millisecond on loopback, up to the time for which calls are repeated."""

WAIT_SECONDS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0)
"""Of what waits for work, for its turn, or for an end."""


@dataclass(frozen=True)
class Family:
    """One metric.

    Attributes:
        name: As it is written in queries, without the suffixes of histograms.
        help: What it tells, as one sentence.
        by: Who tells it.
        buckets: Upper bounds of a histogram.
        mode: How a gauge of several processes of a server adds up.
        stores: Kinds of stores of which it is known.
    """

    name: str
    kind: Kind
    help: str
    by: tuple[Teller, ...]
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    mode: GaugeMode = "max"
    stores: frozenset[StoreKind] = ANY_STORE

    @property
    def unit(self) -> str:
        """The base unit that the name ends with; `""` for plain numbers."""
        return next((unit for unit in UNITS if self._bare_name.endswith("_" + unit)), "")

    @property
    def series(self) -> tuple[str, ...]:
        """Names of its samples."""
        return tuple(self.name + end for end in ("_bucket", "_sum", "_count")) if self.buckets else (self.name,)

    @property
    def _bare_name(self) -> str:
        return self.name.removesuffix("_total")

    def counter(self, registry: CollectorRegistry) -> Counter:
        """A counter to count with."""
        return Counter(self._bare_name, self.help, self.labels, unit=self.unit, registry=registry)

    def gauge(self, registry: CollectorRegistry) -> Gauge:
        """A gauge to set."""
        return Gauge(self.name, self.help, self.labels, unit=self.unit, registry=registry, multiprocess_mode=self.mode)

    def histogram(self, registry: CollectorRegistry) -> Histogram:
        """A histogram to observe with."""
        return Histogram(
            self.name, self.help, self.labels, unit=self.unit, registry=registry, buckets=self.buckets
        )  # fmt: skip

    def read(self, *samples: tuple[Sequence[str], float]) -> GaugeMetricFamily | CounterMetricFamily:
        """The metric as it is found when it is asked for: pairs of labels and value."""
        make = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = make(self._bare_name, self.help, labels=self.labels, unit=self.unit)
        for labels, value in samples:
            family.add_metric(labels, value)
        return family


_ROWS = (
    # -- every process, of itself
    Family("build_info", "info", "The version of lightning_store and of Python, as labels of a constant.", EVERYONE,
           ("version", "python")),
    Family("up", "gauge", "Whether the store has answered the last question in time: 1 or 0.", EVERYONE),
    # -- every process, of the calls that pass through it
    Family("operations_total", "counter", "Calls of the store by operation and outcome: ok, or the code of the error.",
           EVERYONE, ("operation", "outcome")),
    Family("operation_duration_seconds", "histogram", "Duration of calls that were not asked to wait.", EVERYONE,
           ("operation",), LATENCY_SECONDS),
    Family("wait_duration_seconds", "histogram", "Duration of calls that were asked to wait if need be.", EVERYONE,
           ("operation",), WAIT_SECONDS),
    Family("waits_in_progress", "gauge", "Calls under way that were asked to wait if need be.", EVERYONE,
           ("operation",), mode="livesum"),
    Family("claimed_rollouts_total", "counter", "Rollouts claimed by calls of this process, by queue.", EVERYONE,
           ("queue",)),
    Family("queue_wait_seconds", "histogram",
           "Time from enqueuing to the claim, by the store's clock, of first attempts claimed by this process.",
           EVERYONE, (), WAIT_SECONDS),
    Family("last_claim_timestamp_seconds", "gauge", "When a call of this process claimed a rollout last.", EVERYONE),
    Family("stored_spans_total", "counter", "Spans stored by calls of this process; duplicates do not count.",
           EVERYONE),
    Family("stored_span_bytes_total", "counter",
           "Bytes that these spans take in the store; absent where another process writes them.", EVERYONE,
           stores=DIRECT),
    Family("retries_total", "counter",
           "Calls that were sent to Redis again, by the code of the error; absent where another process talks to it.",
           EVERYONE, ("reason",), stores=DIRECT),
    Family("evicted_rollouts_total", "counter",
           "Rollouts whose spans this process dropped for lack of memory; absent where another process does it.",
           EVERYONE, stores=DIRECT),
    # -- server and daemon, of the namespace as it is now
    Family("queue_depth", "gauge", "Rollouts that can be claimed now.", OF_THE_NAMESPACE, ("queue",)),
    Family("queue_delayed", "gauge", "Retries that wait for their delay.", OF_THE_NAMESPACE, ("queue",)),
    Family("queue_oldest_age_seconds", "gauge", "How long the oldest rollout that can be claimed has waited.",
           OF_THE_NAMESPACE, ("queue",)),
    Family("rollouts", "gauge", "Stored rollouts by status.", OF_THE_NAMESPACE, ("status",)),
    Family("attempts", "gauge", "Stored attempts.", OF_THE_NAMESPACE),
    Family("spans", "gauge", "Stored spans.", OF_THE_NAMESPACE),
    Family("workers", "gauge", "Known workers by status.", OF_THE_NAMESPACE, ("status",)),
    # -- the daemon, of the namespace since the daemon began to read its events
    Family("namespace_events_total", "counter", "Transitions of rollouts and attempts by cause.", DAEMON, ("cause",),
           stores=DIRECT),
    Family("namespace_claims_total", "counter", "Rollouts claimed by anybody.", DAEMON, stores=DIRECT),
    Family("namespace_attempts_ended_total", "counter", "Ends of attempts by status and cause.", DAEMON,
           ("status", "cause"), stores=DIRECT),
    Family("namespace_requeues_total", "counter", "Rollouts that went back to their queue, by cause.", DAEMON,
           ("cause",), stores=DIRECT),
    Family("namespace_last_claim_timestamp_seconds", "gauge", "When anybody claimed a rollout last.", DAEMON,
           stores=DIRECT),
    Family("namespace_missed_events_total", "counter",
           "Events that were gone before they were read, so that the counters above lack them.", DAEMON,
           stores=DIRECT),
    Family("namespace_event_gaps_total", "counter",
           "How often events may have been gone before they were read; a server before Redis 7 does not tell how many.",
           DAEMON, stores=DIRECT),
    # -- the daemon, of its own work
    Family("last_sweep_timestamp_seconds", "gauge", "When this daemon completed its last sweep.", DAEMON),
    Family("sweep_duration_seconds", "histogram", "Duration of this daemon's completed sweeps.", DAEMON, (),
           LATENCY_SECONDS),
    Family("deadline_lateness_seconds", "histogram",
           "How long after their deadlines attempts were settled, of those settled by this daemon.", DAEMON,
           ("cause",), WAIT_SECONDS),
    Family("silent_workers_total", "counter", "Workers that this daemon marked as unknown.", DAEMON),
    Family("pruned_rollouts_total", "counter", "Rollouts that this daemon removed.", DAEMON),
    # -- the daemon, of memory and files
    Family("redis_memory_used_bytes", "gauge", "Memory that the Redis server uses, whoever fills it.", DAEMON,
           stores=REDIS),
    Family("redis_memory_limit_bytes", "gauge",
           "Memory that the Redis server may use: its maxmemory, else the memory of its machine.", DAEMON,
           stores=REDIS),
    Family("namespace_memory_bytes", "gauge",
           "Memory of the namespace's keys by kind: sampled, times the number of keys.", DAEMON, ("kind",),
           stores=REDIS),
    Family("sqlite_file_bytes", "gauge",
           "Bytes of the files of a store on SQLite: the database, free room in it included, and the log beside it.",
           DAEMON, ("kind",), stores=SQLITE),
    # -- the runner
    Family("runner_attempts_total", "counter", "Attempts that ended in this runner, by outcome.", RUNNER,
           ("outcome",)),
    Family("runner_workers", "gauge", "Workers of this runner, by whether they hold a rollout.", RUNNER, ("state",)),
    Family("runner_last_poll_timestamp_seconds", "gauge",
           "When a claim of this runner got through last, with or without work.", RUNNER),
    Family("lost_spans_total", "counter", "Spans that this runner could not store, by reason.", RUNNER, ("reason",)),
    Family("buffered_spans", "gauge", "Spans on their way to the store.", RUNNER),
)  # fmt: skip

FAMILIES: Final[dict[str, Family]] = {row.name: replace(row, name=PREFIX + row.name) for row in _ROWS}
"""All metrics, by their names without the prefix."""


def render_markdown() -> str:
    """The table of metrics for docs/metrics.md."""
    rows = ["| metric | labels | kind | told by | what it tells |", "|---|---|---|---|---|"]
    for family in FAMILIES.values():
        labels = ", ".join(f"`{label}`" for label in family.labels)
        rows.append(f"| `{family.name}` | {labels} | {family.kind} | {', '.join(family.by)} | {family.help} |")
    return "\n".join(rows) + "\n"


def render_stores_markdown() -> str:
    """The table of what is not known of every store, for docs/metrics.md."""
    rows = [f"| metric | {' | '.join(STORES.values())} |", "|---" * (len(STORES) + 1) + "|"]
    for family in FAMILIES.values():
        if family.stores != ANY_STORE:
            told = " | ".join("yes" if store in family.stores else "no" for store in STORES)
            rows.append(f"| `{family.name}` | {told} |")
    return "\n".join(rows) + "\n"
