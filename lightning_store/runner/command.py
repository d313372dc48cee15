"""The runner as a process of its own."""

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from lightning_store.connect import open_store
from lightning_store.contract import LightningStore
from lightning_store.errors import InvalidRequestError
from lightning_store.metrics.extra import check_installed
from lightning_store.runner.loading import load_agent
from lightning_store.runner.options import RunnerOptions
from lightning_store.runner.processes import run_processes
from lightning_store.runner.runner import Runner
from lightning_store.signals import stop_on_signals

if TYPE_CHECKING:
    from lightning_store.metrics.runner import RunnerMetrics

logger = logging.getLogger("lightning_store")

EXIT_SECONDS: Final = 5.0
"""How long the interpreter may take to end after the runner has: threads that agents left behind could hold it."""


def run_runner(options: RunnerOptions) -> int:
    """Run until SIGTERM or SIGINT; a second one ends the process, or the processes, at once (130 or 143).

    The process ends some seconds after this has returned, whatever threads agents have left behind.

    Returns:
        The exit code: 0, or with several processes as `run_processes` says.

    Raises:
        InvalidRequestError: An option is out of bounds, or the agent cannot be imported.
        LightningStoreError: The store refuses for good.
    """
    if options.processes < 1:
        raise InvalidRequestError(f"processes: expected at least 1, got {options.processes}")
    if options.processes > 1:
        return run_processes(options)
    run_here(options)
    exit_for_certain(0)
    return 0


def run_here(options: RunnerOptions, before: Callable[[Runner], None] | None = None) -> None:
    """Run in this process alone, whatever `processes` says.

    Args:
        options: What to run.
        before: Called with the runner before it starts.
    """
    with stop_on_signals(_exit_before_start):
        agent = load_agent(options.agent)
        store = open_store(options.store_url, options.namespace)
        metrics = None if options.metrics_port is None else _metrics(store)
        runner = Runner(
            store if metrics is None else metrics.store,
            agent,
            concurrency=options.concurrency,
            queues=options.queues,
            lease_seconds=options.lease_seconds,
            worker_id=options.worker_id,
            grace_seconds=options.grace_seconds,
        )
        if metrics is not None and options.metrics_port is not None:
            _serve_metrics(metrics, runner, options.metrics_port, options.metrics_host)
    if before is not None:
        before(runner)
    runner.run_forever()


def _metrics(store: LightningStore) -> "RunnerMetrics":
    check_installed("--metrics-port")
    from lightning_store.metrics.runner import RunnerMetrics  # noqa: PLC0415 - needs the extra

    return RunnerMetrics(store)


def _serve_metrics(metrics: "RunnerMetrics", runner: Runner, port: int, host: str) -> None:
    metrics.watch(runner.facts)
    try:
        server, _ = metrics.serve(port, host)
    except (OSError, OverflowError) as error:
        raise InvalidRequestError(f"--metrics-port: cannot listen on {host}:{port}: {error}") from error
    logger.info("metrics at http://%s:%d/metrics", host, server.server_port)


def exit_for_certain(code: int) -> None:
    """End this process soon, also if threads that agents left behind would keep it; does nothing when there are none.

    Args:
        code: The exit code.
    """
    left = [thread for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()]
    if not left:
        return
    logger.warning("threads that agents left behind: %s", ", ".join(thread.name for thread in left))

    def end() -> None:
        time.sleep(EXIT_SECONDS)
        os._exit(code)

    threading.Thread(target=end, name="lightning-store-exit", daemon=True).start()


def _exit_before_start() -> None:
    """Importing an agent may take long; nothing has been claimed yet."""
    os._exit(0)
