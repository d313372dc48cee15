"""Bringing the spans of one OTLP request into the store, and counting those that it cannot take."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from lightning_store.contract import LightningStore
from lightning_store.conversion import ATTEMPT_ID, ROLLOUT_ID
from lightning_store.errors import InvalidRequestError, NotFoundError
from lightning_store.http.otlp import IncomingSpan
from lightning_store.spans import Span

MAX_CALL_SPANS: Final = 256
MAX_CALL_BYTES: Final = 1 << 20
"""Bounds of one call of the store, so that other requests have their turn in between."""

MAX_BATCH_SPANS: Final = 1024
MAX_BATCH_BYTES: Final = 4 << 20
"""Bounds of what of a request is there as records at once: a record takes several times its bytes, a small one many."""

_TOLD_REASONS: Final = 8
_TOLD_CHARACTERS: Final = 300
_KEPT_REASONS: Final = 1000
_OTHER_REASONS: Final = "other reasons"

UNATTRIBUTED: Final = f"no attribute {ROLLOUT_ID} or {ATTEMPT_ID} on the span or its resource"


@dataclass
class Rejections:
    """Spans that the store does not have and never will, by reason."""

    counts: Counter[str] = field(default_factory=Counter[str])

    def add(self, count: int, reason: str) -> None:
        """Note rejected spans."""
        reason = reason[:_TOLD_CHARACTERS]
        if reason not in self.counts and len(self.counts) >= _KEPT_REASONS:
            reason = _OTHER_REASONS
        if count:
            self.counts[reason] += count

    @property
    def total(self) -> int:
        """How many they are."""
        return self.counts.total()

    def __str__(self) -> str:
        told = [f"{count} rejected: {reason}" for reason, count in self.counts.most_common(_TOLD_REASONS)]
        if len(self.counts) > _TOLD_REASONS:
            told.append(f"{len(self.counts) - _TOLD_REASONS} more reasons")
        return "; ".join(told)


def next_batch(spans: Iterator[IncomingSpan | None]) -> list[IncomingSpan | None]:
    """The next spans of a request, as many as may be there at once; none when there are no more."""
    batch: list[IncomingSpan | None] = []
    size = 0
    while len(batch) < MAX_BATCH_SPANS and size < MAX_BATCH_BYTES:
        try:
            each = next(spans)
        except StopIteration:
            break
        batch.append(each)
        size += 0 if each is None else each.size
    return batch


async def store_spans(store: LightningStore, batch: Sequence[IncomingSpan | None], rejections: Rejections) -> None:
    """Store spans; what cannot be stored costs only itself.

    Spans without a number get the next ones of their rollout, in order. Duplicates are left out and not counted: the
    store has them, usually because the request is repeated after a lost answer.

    Args:
        store: Where they go.
        batch: Spans of a request, in their order; None for those that name no rollout or attempt.
        rejections: Where those are noted that cannot be stored.

    Raises:
        LightningStoreError: The store refuses for a reason that lies not in the spans, such as being out of reach.
            What was stored until then stays; repeating the request stores the rest.
    """
    incoming = [each for each in batch if each is not None]
    rejections.add(len(batch) - len(incoming), UNATTRIBUTED)
    by_rollout: dict[str, list[IncomingSpan]] = {}
    for each in incoming:
        by_rollout.setdefault(each.span.rollout_id, []).append(each)
    for of_rollout in by_rollout.values():
        await _store_rollout(store, of_rollout, rejections)


async def _store_rollout(store: LightningStore, incoming: list[IncomingSpan], rejections: Rejections) -> None:
    """Store the spans of one rollout, those without a number first: they get theirs in the step that stores them."""
    unnumbered = [each for each in incoming if not each.is_numbered]
    numbered = [each for each in incoming if each.is_numbered]
    if len({each.span.attempt_id for each in unnumbered}) > 1:
        # One step stores spans of one attempt, so numbers that run through several are taken beforehand.
        try:
            numbered = await _with_numbers(store, unnumbered) + numbered
        except NotFoundError as error:
            rejections.add(len(incoming), str(error))
            return
        unnumbered = []
    await _store_all(store, unnumbered, rejections, renumber=True)
    await _store_all(store, numbered, rejections, renumber=False)


async def _with_numbers(store: LightningStore, incoming: list[IncomingSpan]) -> list[IncomingSpan]:
    pairs = [(each.span.rollout_id, each.span.attempt_id) for each in incoming]
    numbers = await store.get_many_span_sequence_ids(pairs)
    return [
        IncomingSpan(each.span.model_copy(update={"sequence_id": number}), is_numbered=True, size=each.size)
        for each, number in zip(incoming, numbers, strict=True)
    ]


async def _store_all(
    store: LightningStore, incoming: list[IncomingSpan], rejections: Rejections, *, renumber: bool
) -> None:
    by_attempt: dict[str, list[IncomingSpan]] = {}
    for each in incoming:
        by_attempt.setdefault(each.span.attempt_id, []).append(each)
    for of_attempt in by_attempt.values():
        for batch in _batches(of_attempt):
            await _store_batch(store, batch, rejections, renumber=renumber)
            await asyncio.sleep(0)  # a store in memory never waits by itself


def _batches(incoming: list[IncomingSpan]) -> Iterator[list[Span]]:
    batch: list[Span] = []
    size = 0
    for each in incoming:
        if batch and (len(batch) == MAX_CALL_SPANS or size + each.size > MAX_CALL_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(each.span)
        size += each.size
    if batch:
        yield batch


async def _store_batch(store: LightningStore, spans: list[Span], rejections: Rejections, *, renumber: bool) -> None:
    """Store spans of one attempt; those that are refused are found by halves."""
    try:
        await store.add_many_spans(spans, renumber=renumber)
    except NotFoundError as error:
        rejections.add(len(spans), str(error))
    except InvalidRequestError as error:
        middle = len(spans) // 2
        if not middle:
            rejections.add(1, str(error))
            return
        await _store_batch(store, spans[:middle], rejections, renumber=renumber)
        await _store_batch(store, spans[middle:], rejections, renumber=renumber)
