"""The metrics of the HTTP server, as an ASGI application for it to mount, and the folder that its processes share.

Several processes that serve one port (`--workers`) count in files of one folder, because a scrape reaches any one of
them: then every page is the sum of all, as prometheus-client does it.
"""

import os
import shutil
import tempfile
from contextlib import AbstractContextManager
from typing import Any, Final

from prometheus_client import CollectorRegistry, make_asgi_app
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from lightning_store.contract import LightningStore
from lightning_store.metrics.namespace import NamespaceMetrics
from lightning_store.metrics.operations import OTLP_TRACES, MeteredStore, OperationMetrics
from lightning_store.metrics.process import tell_build, tell_process

FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Where the processes of one server count; read by prometheus-client when it is imported."""


class ServerMetrics:
    """Metrics of one process of a server.

    Attributes:
        registry: Where further metrics of the process may be registered.
        store: The store to use instead of the one that was given: its calls are counted.
    """

    def __init__(self, store: LightningStore) -> None:
        """Set up; nothing is asked.

        Args:
            store: The store that is served.
        """
        self.registry = CollectorRegistry()
        self._operations = OperationMetrics(self.registry)
        self.store = MeteredStore(store, self._operations)
        page = self.registry
        if FOLDER_VARIABLE in os.environ:
            page = CollectorRegistry()
            MultiProcessCollector(page)  # type: ignore[no-untyped-call]  # the library has no types there
        else:
            tell_process(page)
        tell_build(page)
        self._namespace = NamespaceMetrics(store, page)
        self._page = make_asgi_app(page)

    def counted_traces(self) -> AbstractContextManager[None]:
        """Counts a request for traces by OTLP, whose calls of the store count besides."""
        return self._operations.counted(OTLP_TRACES)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one HTTP request with all metrics, in the format that it accepts: an ASGI application."""
        await self._namespace.refresh()
        await self._page(scope, receive, send)


class SharedFolder:
    """Where the processes of one server count together, for their parent, which does not count itself.

    Attributes:
        environment: What the processes need in their environment.
    """

    def __init__(self) -> None:
        """Make the folder."""
        # Removed when we say so: a copy of this object in a forked process must not.
        self._folder = tempfile.mkdtemp(prefix="lightning-store-metrics-")
        self.environment = {FOLDER_VARIABLE: self._folder}

    def process_ended(self, pid: int) -> None:
        """Forget what a process that has ended had under way; what it has counted stays."""
        mark_process_dead(pid, self._folder)  # type: ignore[no-untyped-call]  # the library has no types there

    def remove(self) -> None:
        """Remove the folder, when no process counts there any more."""
        shutil.rmtree(self._folder, ignore_errors=True)
