"""The healthcheck daemon: settles what is due while nobody calls, and tells what it did.

The truth does not depend on it: every store settles in passing. Any number of daemons may run.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lightning_store.connect import kind_of, open_store
from lightning_store.contract import LightningStore
from lightning_store.errors import MissingExtraError, StoreUnavailableError
from lightning_store.healthz import Healthz
from lightning_store.metrics.extra import EXTRA, is_installed
from lightning_store.metrics.facts import DaemonFacts
from lightning_store.patience import Backoff, Reach, is_hopeless
from lightning_store.records import ExpiryReport, Transition
from lightning_store.requests import check_limit, check_seconds
from lightning_store.retention import Retention, RetentionOptions
from lightning_store.signals import stop_on_signals

if TYPE_CHECKING:
    from lightning_store.metrics.daemon import DaemonMetrics

logger = logging.getLogger("lightning_store.healthcheck")

DEFAULT_INTERVAL_SECONDS: Final = 5.0
DEFAULT_BATCH: Final = 500
DEFAULT_SILENT_SECONDS: Final = 120.0
DEFAULT_HOST: Final = "127.0.0.1"
SHORTEST_SLEEP_SECONDS: Final = 0.02
HEALTHY_INTERVALS: Final = 3
HEALTHY_MARGIN_SECONDS: Final = 5.0
METRICS_PATH: Final = "/metrics"


T = TypeVar("T")


@dataclass(frozen=True)
class HealthCheckOptions:
    """What the command line can say; see `HealthCheck` for the meaning.

    Attributes:
        store_url: Where the store is; may hold a password, and is not shown.
        eviction_memory_threshold: As the store takes it; None = its default.
        safe_memory_threshold: As the store takes it; None = its default.
    """

    store_url: str = field(repr=False)
    namespace: str = "default"
    interval: float = DEFAULT_INTERVAL_SECONDS
    batch: int = DEFAULT_BATCH
    silent_seconds: float = DEFAULT_SILENT_SECONDS
    port: int | None = None
    host: str = DEFAULT_HOST
    retention: RetentionOptions = field(default_factory=RetentionOptions)
    eviction_memory_threshold: float | None = None
    safe_memory_threshold: float | None = None


def run_healthcheck(options: HealthCheckOptions) -> int:
    """The daemon as a process: runs until SIGTERM or SIGINT; a second one ends the process at once (130 or 143).

    Returns:
        The exit code: 0.

    Raises:
        LightningStoreError: The store refuses for good, or an option is out of bounds.
        OSError: The port cannot be listened on.
    """
    store = open_store(options.store_url, options.namespace, **_settings(options))
    daemon = HealthCheck(
        store, options.interval, options.batch, options.silent_seconds, options.port, options.host, options.retention
    )  # fmt: skip

    async def run() -> None:
        try:
            await daemon.run()
        finally:
            await store.close()

    with stop_on_signals(daemon.stop):
        asyncio.run(run())
    return 0


def _settings(options: HealthCheckOptions) -> dict[str, Any]:
    thresholds = {
        "eviction_memory_threshold": options.eviction_memory_threshold,
        "safe_memory_threshold": options.safe_memory_threshold,
    }
    given = {name: value for name, value in thresholds.items() if value is not None}
    # A daemon brings no new work. A server has thresholds of its own, and refuses any that are given.
    return given if kind_of(options.store_url) == "http" else {**given, "high_water_memory_threshold": 1.0}


@dataclass
class SweepFacts:
    """What the daemon has done so far.

    Attributes:
        finished_at: When the last sweep was completed, by `time.monotonic`; the daemon's start before the first.
        longest_seconds: Longest sweep.
        latest_seconds: Last completed sweep.
    """

    finished_at: float = field(default_factory=time.monotonic)
    sweeps: int = 0
    transitions: int = 0
    silent_workers: int = 0
    latest_seconds: float = 0.0
    longest_seconds: float = 0.0


class HealthCheck:
    """Sweeps a store again and again.

    One sweep settles all deadlines that are due, in batches, and marks workers that have been silent. Then the daemon
    sleeps until the next deadline, at most for the interval. Beside that it prunes what it is told to, and evicts spans
    when memory runs short.
    """

    def __init__(
        self,
        store: LightningStore,
        interval: float = DEFAULT_INTERVAL_SECONDS,
        batch: int = DEFAULT_BATCH,
        silent_seconds: float = DEFAULT_SILENT_SECONDS,
        port: int | None = None,
        host: str = DEFAULT_HOST,
        retention: RetentionOptions | None = None,
    ) -> None:
        """Set up; nothing is sent.

        Args:
            store: The store.
            interval: Longest time between two sweeps, in seconds.
            batch: Most deadlines that one call settles.
            silent_seconds: Workers without a sign of life for so long become `unknown`.
            port: Answer `GET /healthz` here, and `GET /metrics` where the extra `metrics` is installed; 0 = any free
                port, None = do not.
            host: Address to listen on.
            retention: What to prune; None = nothing.

        Raises:
            InvalidRequestError: An option is out of bounds.
        """
        self._metrics = None if port is None else self._make_metrics(store)
        self._store = store if self._metrics is None else self._metrics.store
        self._interval = max(check_seconds(interval, "interval"), SHORTEST_SLEEP_SECONDS)
        self._batch = check_limit(batch, "batch", 1)
        self._silent_seconds = check_seconds(silent_seconds, "silent_seconds")
        self._healthz = None if port is None else self._make_healthz(host, check_limit(port, "port", 0))
        self._retention = Retention(self._store, retention or RetentionOptions(), self._interval)
        self._reach = Reach("healthcheck")
        self._facts = SweepFacts()
        self._next_look_at_workers = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._stop_asked = False

    @property
    def port(self) -> int | None:
        """The port that is listened on; None when there is none, or before `run`."""
        return None if self._healthz is None else self._healthz.port

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Whether a sweep was completed in time (three intervals and some seconds), and figures."""
        age = time.monotonic() - self._facts.finished_at
        is_healthy = age <= HEALTHY_INTERVALS * self._interval + HEALTHY_MARGIN_SECONDS
        return is_healthy, {
            "status": "ok" if is_healthy else "late",
            "seconds_since_sweep": round(age, 3),
            "sweeps": self._facts.sweeps,
            "transitions": self._facts.transitions,
            "silent_workers": self._facts.silent_workers,
            "pruned": self._retention.pruned,
            "evicted": self._retention.evicted,
            "latest_sweep_seconds": round(self._facts.latest_seconds, 6),
            "longest_sweep_seconds": round(self._facts.longest_seconds, 6),
        }

    async def run(self) -> None:
        """Sweep until `stop` is called.

        Raises:
            LightningStoreError: The store refuses for good, for instance because of its schema version.
            OSError: The port cannot be listened on.
        """
        self._loop = asyncio.get_running_loop()
        stopping = self._stopping = asyncio.Event()
        self._facts = SweepFacts()
        if self._stop_asked:
            stopping.set()
        if self._healthz is not None:
            await self._healthz.start()
        logger.info("started interval_seconds=%g batch=%d port=%s", self._interval, self._batch, self.port)
        stop = asyncio.ensure_future(stopping.wait())
        beside = {asyncio.ensure_future(self._retention.run())}
        if self._metrics is not None:
            beside.add(asyncio.ensure_future(self._metrics.run()))
        try:
            await self._sweep_on(stop)
        finally:
            self._stopping = None
            stop.cancel()
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)
            if self._healthz is not None:
                await self._healthz.stop()
            logger.info("stopped sweeps=%d transitions=%d", self._facts.sweeps, self._facts.transitions)

    def stop(self) -> None:
        """End `run` soon, also while the store does not answer; from any thread."""
        self._stop_asked = True
        loop, stopping = self._loop, self._stopping
        if loop is not None and stopping is not None and not loop.is_closed():
            loop.call_soon_threadsafe(stopping.set)

    async def _sweep_on(self, stop: "asyncio.Future[Any]") -> None:
        backoff = Backoff(most_seconds=self._interval)
        while not stop.done() and not self._stop_asked:
            try:
                delay = await _unless(stop, self._sweep()) or SHORTEST_SLEEP_SECONDS
            except Exception as error:
                if is_hopeless(error):
                    raise
                self._failed(error)
                delay = backoff.next_seconds()
            else:
                backoff.reset()
            await asyncio.wait({stop}, timeout=delay)

    async def _sweep(self) -> float:
        """Settle all that is due, and look for silent workers.

        Returns:
            How long to sleep until something is due again, or the interval is over.
        """
        started = time.monotonic()
        report = await self._settle_batch()
        while report.more:
            report = await self._settle_batch()
        if started >= self._next_look_at_workers:
            await self._mark_silent_workers()
            self._next_look_at_workers = started + self._interval
        self._reach.answered()
        self._finished(started)
        next_seconds = self._interval if report.next_seconds is None else report.next_seconds
        return min(max(next_seconds, SHORTEST_SLEEP_SECONDS), self._interval)

    async def _mark_silent_workers(self) -> None:
        """Done once per interval only, since it looks at every worker."""
        silent = await self._store.expire_workers(silent_seconds=self._silent_seconds)
        self._facts.silent_workers += len(silent)
        for worker_id in silent:
            logger.warning("silent worker=%s silent_seconds=%g", worker_id, self._silent_seconds)

    async def _settle_batch(self) -> ExpiryReport:
        report = await self._store.expire_attempts(limit=self._batch)
        self._facts.transitions += len(report.transitions)
        if self._metrics is not None:
            self._metrics.settled(report)
        for transition in report.transitions:
            _log(transition)
        return report

    def _finished(self, started: float) -> None:
        now = time.monotonic()
        self._facts.sweeps += 1
        self._facts.finished_at = now
        self._facts.latest_seconds = now - started
        self._facts.longest_seconds = max(self._facts.longest_seconds, now - started)
        if self._metrics is not None:
            self._metrics.swept(now - started)

    def _make_metrics(self, store: LightningStore) -> "DaemonMetrics | None":
        if not is_installed():
            return None
        from lightning_store.metrics.daemon import DaemonMetrics  # noqa: PLC0415 - needs the extra

        return DaemonMetrics(store, lambda: DaemonFacts(self._facts.silent_workers, self._retention.pruned))

    def _make_healthz(self, host: str, port: int) -> Healthz:
        if self._metrics is not None:
            return Healthz(host, port, self.health, {METRICS_PATH: self._metrics.page})
        reason = str(MissingExtraError.of(METRICS_PATH, EXTRA))
        logger.info("no metrics: %s", reason)
        return Healthz(host, port, self.health, {METRICS_PATH: reason})

    def _failed(self, error: Exception) -> None:
        if isinstance(error, StoreUnavailableError):
            self._reach.failed(error)
        else:
            logger.error("sweep failed, trying again", exc_info=error)


async def _unless(stop: "asyncio.Future[Any]", work: Coroutine[Any, Any, T]) -> T | None:
    """The result of the work, or None because it was left when told to stop; sweeps can be left anywhere."""
    task = asyncio.ensure_future(work)
    either: set[asyncio.Future[Any]] = {task, stop}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()


def _log(transition: Transition) -> None:
    logger.warning(
        "transition rollout=%s attempt=%s worker=%s attempt_status=%s rollout_status=%s cause=%s late_seconds=%.3f",
        transition.rollout_id, transition.attempt_id, transition.worker_id, transition.attempt_status,
        transition.rollout_status, transition.cause, transition.late_seconds,
    )  # fmt: skip
