"""Bringing one batch of finished spans into the store, and telling what was lost and why."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan

from lightning_store.contract import LightningStore
from lightning_store.conversion import Identity
from lightning_store.errors import NotFoundError, StoreUnavailableError
from lightning_store.patience import Backoff
from lightning_store.spans import Span

BUFFER_FULL: Final = "buffer_full"
REFUSED: Final = "refused"
UNAVAILABLE: Final = "unavailable"
UNATTRIBUTED: Final = "unattributed"

_BYTES_PER_SPAN: Final = 500
_BYTES_PER_VALUE: Final = 16


@dataclass(frozen=True)
class Loss:
    """Spans that will not be in the store.

    Attributes:
        reason: One of the constants of this module.
        detail: What went wrong, for the log.
    """

    count: int
    reason: str
    detail: str


async def deliver(store: LightningStore, identity: Identity, spans: Sequence[Any], retry_seconds: float) -> list[Loss]:
    """Convert the spans of one attempt and store them, numbered in the order given.

    A store out of reach is tried again for `retry_seconds`. What it refuses is narrowed down by halves, so that one
    bad span does not cost its neighbours.

    Returns:
        What was lost; empty when all is stored.
    """
    losses: list[Loss] = []
    records: list[Span] = []
    for span in spans:
        try:
            records.append(Span.from_opentelemetry(span, *identity, sequence_id=0))
        except Exception as error:  # noqa: BLE001 - a span that cannot be converted must not stop the others
            losses.append(Loss(1, REFUSED, _describe(error)))
    deadline = time.monotonic() + retry_seconds
    return losses + await _store(store, records, deadline)


async def _store(store: LightningStore, records: list[Span], deadline: float) -> list[Loss]:
    if not records:
        return []
    try:
        await _store_patiently(store, records, deadline)
    except StoreUnavailableError as error:
        return [Loss(len(records), UNAVAILABLE, _describe(error))]
    except Exception as error:  # noqa: BLE001 - whatever the store raises, the agent goes on and the loss is counted
        middle = len(records) // 2
        if not middle or isinstance(error, NotFoundError):
            return [Loss(len(records), REFUSED, _describe(error))]
        return await _store(store, records[:middle], deadline) + await _store(store, records[middle:], deadline)
    return []


async def _store_patiently(store: LightningStore, records: list[Span], deadline: float) -> None:
    backoff = Backoff()
    while True:
        try:
            await store.add_many_spans(records, renumber=True)
        except StoreUnavailableError:
            delay = backoff.next_seconds()
            if time.monotonic() + delay > deadline:
                raise
            await asyncio.sleep(delay)
        else:
            return


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]


def approximate_bytes(span: ReadableSpan) -> int:
    """About how much memory a span takes: a fixed part, and its texts."""
    size = _BYTES_PER_SPAN + _bytes_of(span.attributes)
    for event in span.events:
        size += _BYTES_PER_SPAN + _bytes_of(event.attributes)
    return size


def _bytes_of(attributes: Mapping[str, Any] | None) -> int:
    return sum(_bytes_of_value(value) for value in (attributes or {}).values())


def _bytes_of_value(value: Any) -> int:
    if isinstance(value, str | bytes):
        return _BYTES_PER_VALUE + len(value)
    return sum(map(_bytes_of_value, value)) if hasattr(value, "__iter__") else _BYTES_PER_VALUE
