"""The metrics of the healthcheck daemon: of its own work, and of the whole namespace."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from lightning_store.addresses import StoreKind
from lightning_store.base import BaseStore
from lightning_store.contract import LightningStore
from lightning_store.errors import UnsupportedOperationError
from lightning_store.forwarding import innermost
from lightning_store.metrics.events import EventCounter
from lightning_store.metrics.facts import DaemonFacts
from lightning_store.metrics.families import FAMILIES
from lightning_store.metrics.namespace import NamespaceMetrics
from lightning_store.metrics.operations import MeteredStore, OperationMetrics
from lightning_store.metrics.process import tell_build, tell_process
from lightning_store.records import ExpiryReport

logger = logging.getLogger("lightning_store.healthcheck")

FOOTPRINT_SECONDS: Final = 30.0
"""How long the memory by kind is kept: it takes some thousand short commands."""


class DaemonMetrics:
    """Metrics of one daemon; for one event loop.

    Attributes:
        registry: Where they are told.
        store: The store to use instead of the one that was given: its calls are counted.
    """

    def __init__(self, store: LightningStore, facts: Callable[[], DaemonFacts]) -> None:
        """Set up; nothing is asked.

        Args:
            store: The store that the daemon sweeps.
            facts: What the daemon knows of itself; called at every scrape.
        """
        registry = self.registry = CollectorRegistry()
        self.store = MeteredStore(store, OperationMetrics(registry))
        tell_build(registry)
        tell_process(registry)
        inner = innermost(store)
        # Through an HTTP server neither the log nor memory and files can be seen.
        self._inner = inner if isinstance(inner, BaseStore) else None
        self._events = None if self._inner is None else EventCounter(self._inner, registry)
        further = () if self._inner is None else (FootprintReader(self._inner), partial(read_files, self._inner))
        self._namespace = NamespaceMetrics(store, registry, *further)
        self._last_sweep = FAMILIES["last_sweep_timestamp_seconds"].gauge(registry)
        self._sweeps = FAMILIES["sweep_duration_seconds"].histogram(registry)
        self._lateness = FAMILIES["deadline_lateness_seconds"].histogram(registry)
        registry.register(_Watch(facts))

    async def run(self) -> None:
        """Count what happens in the namespace until it is cancelled; the log tells first what there is not."""
        kind: StoreKind = "http" if self._inner is None else self._inner.kind
        absent = [name for name, row in FAMILIES.items() if "daemon" in row.by and kind not in row.stores]
        if absent:
            logger.info("metrics that a store of this kind (%s) does not have: %s", kind, ", ".join(absent))
        if self._events is not None:
            await self._events.run()

    async def page(self, accept: str) -> tuple[str, bytes]:
        """All metrics.

        Args:
            accept: What the reader accepts, as in HTTP.

        Returns:
            Content type and text, in the format of Prometheus or OpenMetrics.
        """
        await self._namespace.refresh()
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self.registry)

    def swept(self, seconds: float) -> None:
        """A sweep is complete."""
        self._sweeps.observe(seconds)
        self._last_sweep.set(time.time())

    def settled(self, report: ExpiryReport) -> None:
        """Attempts were ended."""
        for transition in report.transitions:
            self._lateness.labels(transition.cause).observe(max(0.0, transition.late_seconds))


class _Watch(Collector):
    def __init__(self, facts: Callable[[], DaemonFacts]) -> None:
        self._facts = facts

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        facts = self._facts()
        yield FAMILIES["silent_workers_total"].read(((), facts.silent_workers))
        yield FAMILIES["pruned_rollouts_total"].read(((), facts.pruned))


@dataclass
class FootprintReader:
    """Reads the memory of a namespace, now and then, for `NamespaceMetrics`."""

    store: BaseStore
    clock: Callable[[], float] = time.monotonic
    _due: float = float("-inf")

    def __post_init__(self) -> None:
        self._found: list[Metric] = []

    async def __call__(self) -> list[Metric]:
        """What the store tells, at most half a minute old."""
        if self.clock() >= self._due:
            self._found = await self._read()
            self._due = self.clock() + FOOTPRINT_SECONDS
        return self._found

    async def _read(self) -> list[Metric]:
        try:
            footprint = await self.store.footprint()
        except UnsupportedOperationError:
            return []
        found: list[Metric] = [
            FAMILIES["redis_memory_used_bytes"].read(((), footprint.used)),
            FAMILIES["namespace_memory_bytes"].read(*(((kind,), size) for kind, size in footprint.by_kind.items())),
        ]
        if footprint.limit is not None:
            found.append(FAMILIES["redis_memory_limit_bytes"].read(((), footprint.limit)))
        return found


async def read_files(store: BaseStore) -> list[Metric]:
    """Reads the sizes of the files of a store, for `NamespaceMetrics`; nothing if it has none."""
    sizes = await store.file_sizes()
    return [FAMILIES["sqlite_file_bytes"].read(*(((kind,), size) for kind, size in sizes.items()))] if sizes else []
