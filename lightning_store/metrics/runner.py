"""The metrics of a runner, served from a thread of its own: a busy agent cannot keep them from being scraped."""

from collections.abc import Callable, Iterator, Mapping
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from lightning_store.contract import LightningStore
from lightning_store.metrics.facts import RunnerFacts
from lightning_store.metrics.families import FAMILIES
from lightning_store.metrics.operations import MeteredStore, OperationMetrics
from lightning_store.metrics.process import tell_build, tell_process


class RunnerMetrics:
    """Metrics of one runner process.

    Attributes:
        registry: Where they are told.
        store: The store to use instead of the one that was given: its calls are counted.
    """

    def __init__(self, store: LightningStore) -> None:
        """Set up; nothing is asked.

        Args:
            store: The runner's store.
        """
        self.registry = CollectorRegistry()
        self.store = MeteredStore(store, OperationMetrics(self.registry))
        tell_build(self.registry)
        tell_process(self.registry)

    def watch(self, facts: Callable[[], RunnerFacts | None]) -> None:
        """Tell what a runner knows of itself.

        Args:
            facts: Called at every scrape, from any thread; None = it has not begun.
        """
        self.registry.register(_Watch(facts))

    def serve(self, port: int, host: str) -> tuple[WSGIServer, Thread]:
        """Answer `GET /metrics` from now on, on a thread that does not keep the process.

        Args:
            port: Port to listen on; 0 = any free one.
            host: Address to listen on.

        Returns:
            The server, whose `server_port` is the port, and its thread.

        Raises:
            OSError: The port is taken, or not ours to take.
        """
        return start_http_server(port, host, self.registry)


class _Watch(Collector):
    def __init__(self, facts: Callable[[], RunnerFacts | None]) -> None:
        self._facts = facts

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        facts = self._facts()
        if facts is None:
            return
        yield FAMILIES["up"].read(((), float(facts.is_answering)))
        yield FAMILIES["runner_attempts_total"].read(*_by(facts.attempts))
        yield FAMILIES["runner_workers"].read((("busy",), facts.busy), (("waiting",), facts.workers - facts.busy))
        if facts.last_poll is not None:
            yield FAMILIES["runner_last_poll_timestamp_seconds"].read(((), facts.last_poll))
        yield FAMILIES["lost_spans_total"].read(*_by(facts.lost_spans))
        yield FAMILIES["buffered_spans"].read(((), facts.buffered_spans))


def _by(counts: Mapping[str, int]) -> list[tuple[tuple[str], int]]:
    return [((label,), count) for label, count in counts.items()]
