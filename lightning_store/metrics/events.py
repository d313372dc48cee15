"""Counts what happens in a whole namespace, from its log of transitions: whoever does it pays nothing for it."""

import asyncio
import logging
from collections import OrderedDict
from typing import Final, get_args

from prometheus_client import CollectorRegistry

from lightning_store.base import BaseStore
from lightning_store.errors import LightningStoreError, StoreUnavailableError
from lightning_store.eventlog import EventPage
from lightning_store.metrics.families import FAMILIES
from lightning_store.records import AttemptCause, EventCause, RolloutEvent
from lightning_store.status import LIVE

logger = logging.getLogger("lightning_store.healthcheck")

POLL_SECONDS: Final = 0.5
"""Between two looks at the log: at the 10,000 transitions that are kept, 20,000 a second can be followed."""

PAGE: Final = 2000

REMEMBERED: Final = 100_000
"""Most rollouts that wait for a retry and are known to; some megabytes."""

_ENDS: Final = frozenset(get_args(AttemptCause))
_CLAIMED: Final = "claimed"
_REQUEUED: Final = "requeuing"


class EventCounter:
    """Follows the log of one store, from the end of the log when it begins."""

    def __init__(self, store: BaseStore, registry: CollectorRegistry) -> None:
        """Register the metrics; nothing is read.

        Args:
            store: The store that keeps the log.
            registry: Where it is told.
        """
        self._store = store
        self._registry = registry
        self._cursor: str | None = None
        self._waiting: OrderedDict[str, None] = OrderedDict()
        self._events = FAMILIES["namespace_events_total"].counter(registry)
        for cause in get_args(EventCause):
            self._events.labels(cause)
        self._claims = FAMILIES["namespace_claims_total"].counter(registry)
        self._ends = FAMILIES["namespace_attempts_ended_total"].counter(registry)
        self._requeues = FAMILIES["namespace_requeues_total"].counter(registry)
        self._last_claim = FAMILIES["namespace_last_claim_timestamp_seconds"].gauge(registry)
        self._missed = FAMILIES["namespace_missed_events_total"].counter(registry)
        self._gaps = FAMILIES["namespace_event_gaps_total"].counter(registry)

    async def run(self) -> None:
        """Count until it is cancelled; an outage is sat out.

        When the store refuses, the metrics are withdrawn with one line in the log: absent is not zero.
        """
        while True:
            try:
                await self.catch_up()
            except StoreUnavailableError:
                pass  # the sweeps tell the outage
            except LightningStoreError as error:
                logger.warning("What happens in the namespace is not counted, the store refuses to tell: %s", error)
                self._withdraw()
                return
            except Exception:
                logger.exception("counting what happens in the namespace failed, trying again")
            await asyncio.sleep(POLL_SECONDS)

    def _withdraw(self) -> None:
        for metric in (
            self._events, self._claims, self._ends, self._requeues, self._last_claim, self._missed, self._gaps
        ):  # fmt: skip
            self._registry.unregister(metric)

    async def catch_up(self) -> None:
        """Count all that has happened by now.

        Raises:
            LightningStoreError: As `BaseStore.events_after`.
        """
        more = True
        while more:
            page = await self._store.events_after(self._cursor, limit=PAGE)
            self._cursor, more = page.cursor, page.more
            self._count(page)

    def _count(self, page: EventPage) -> None:
        if page.missed != 0:
            self._gaps.inc()
            self._missed.inc(page.missed or 0)
        for event in page.events:
            self._events.labels(event.cause).inc()
            if event.cause == _CLAIMED:
                self._claims.inc()
                self._last_claim.set(event.time)
            elif event.cause in _ENDS and self._is_end(event):
                self._ends.labels(event.attempt_status, event.cause).inc()
            self._follow(event)

    def _is_end(self, event: RolloutEvent) -> bool:
        """Whether an attempt ended. Cancelling a rollout has the cause of an end too, whatever its attempt is in."""
        if event.cause == "cancelled" and (event.attempt_status in LIVE or event.rollout_id in self._waiting):
            return False
        return event.attempt_status is not None

    def _follow(self, event: RolloutEvent) -> None:
        """Note which rollouts wait for a retry: what is reported of them meanwhile is no other requeue."""
        if event.status != _REQUEUED:
            self._waiting.pop(event.rollout_id, None)
        elif event.rollout_id not in self._waiting:
            self._requeues.labels(event.cause).inc()
            self._waiting[event.rollout_id] = None
            if len(self._waiting) > REMEMBERED:
                self._waiting.popitem(last=False)
