"""The spans of the memory store: storing without duplicates, rewards, and eviction by memory thresholds."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import psutil

from lightning_store.errors import StoreFullError
from lightning_store.memory_limits import MemoryThresholds
from lightning_store.rewards import reward_of
from lightning_store.span_json import decode_span
from lightning_store.spans import Span

SpanSizeEstimator = Callable[[Span], int]

SPAN_BYTES: Final = 400
"""About what a span takes besides its JSON: the objects that hold it, and its place among the known ones."""


class KeptSpan(NamedTuple):
    """A span as it is stored. Its JSON is made anyway, to see how large it is, and is smaller than a copied span."""

    attempt_id: str
    span_id: str
    sequence_id: int
    data: bytes

    def span(self, rollout_id: str) -> Span:
        """A copy of the span that was stored."""
        return decode_span(rollout_id, self.attempt_id, self.sequence_id, self.data)


@dataclass
class Reward:
    """The last reward of an attempt, by the sequence id of its span."""

    value: float
    sequence_id: int


@dataclass
class SpanShelf:
    """The spans of one rollout.

    Attributes:
        last_sequence_id: The highest number handed out or stored.
        spans: In the order in which they were stored.
        known: Attempt and span id of each.
        size: Estimated bytes.
        evicted: Attempts with this number or a lower one have lost their spans for lack of memory; 0 = none has.
        rewards: By attempt; they outlive eviction.
    """

    last_sequence_id: int = 0
    spans: list[KeptSpan] = field(default_factory=list)
    known: set[tuple[str, str]] = field(default_factory=set)
    size: int = 0
    evicted: int = 0
    rewards: dict[str, Reward] = field(default_factory=dict)

    def next_sequence_id(self) -> int:
        """Hand out a number."""
        self.last_sequence_id += 1
        return self.last_sequence_id

    def is_known(self, span: Span) -> bool:
        """Whether a span with this attempt and id is stored."""
        return (span.attempt_id, span.span_id) in self.known

    def note_reward(self, span: Span) -> None:
        """Keep the reward of a span, if it has one and no later span had one."""
        value = reward_of(span)
        if value is None:
            return
        last = self.rewards.get(span.attempt_id)
        if last is None or span.sequence_id >= last.sequence_id:
            self.rewards[span.attempt_id] = Reward(value, span.sequence_id)


class SpanMemory:
    """How much memory all spans take, and what happens when it is too much.

    Spans of finished rollouts are dropped, the oldest finish first, when the eviction threshold is crossed, until the
    safe threshold is reached. Spans of unfinished rollouts stay; when they reach high water, new ones are refused.
    """

    def __init__(
        self,
        thresholds: MemoryThresholds,
        *,
        estimator: SpanSizeEstimator | None,
        capacity_bytes: int | None,
        on_evict: Callable[[int], None],
    ) -> None:
        """Resolve the thresholds; see `InMemoryLightningStore` for their meaning.

        Args:
            thresholds: When to evict and to refuse.
            estimator: Estimates the bytes that a span takes; None = what its JSON takes and `SPAN_BYTES`.
            capacity_bytes: What shares are of; None = the memory of this machine.
            on_evict: Told how many rollouts have lost their spans, when some have.
        """
        self._on_evict = on_evict
        self.capacity = psutil.virtual_memory().total if capacity_bytes is None else capacity_bytes
        self.limits = thresholds.of(self.capacity)
        self.used = 0
        self.count = 0
        self._estimate = estimator

    def new_spans(self, shelf: SpanShelf, spans: Mapping[int, tuple[Span, bytes]]) -> dict[int, int]:
        """Places of those that the shelf does not know, each span once, with their sizes."""
        first: dict[tuple[str, str], int] = {}
        for place, (span, _) in spans.items():
            if not shelf.is_known(span):
                first.setdefault((span.attempt_id, span.span_id), place)
        return {place: self._size_of(*spans[place]) for place in first.values()}

    def _size_of(self, span: Span, data: bytes) -> int:
        return SPAN_BYTES + len(data) if self._estimate is None else self._estimate(span)

    def make_room(self, size: int, evictable: Iterator[SpanShelf]) -> None:
        """Evict for `size` more bytes.

        Args:
            size: Bytes that are wanted.
            evictable: What may be dropped, in this order; what is taken from it is dropped.

        Raises:
            StoreFullError: They do not fit below high water even so.
        """
        self.evict(size, evictable)
        high_water = int(self.limits.high_water)
        if self.used + size > high_water:
            raise StoreFullError(
                f"spans take {self.used} of {self.capacity} bytes, {size} more do not fit below "
                f"high_water_memory_threshold ({high_water} bytes); nothing was written"
            )

    def evict(self, size: int, evictable: Iterator[SpanShelf]) -> int:
        """Evict if `size` more bytes cross the threshold; how many rollouts have lost their spans."""
        count = 0
        if self.used + size > self.limits.eviction:
            while self.used + size > self.limits.safe and (shelf := next(evictable, None)) is not None:
                self.clear(shelf)
                count += 1
        if count:
            self._on_evict(count)
        return count

    def take(self, shelf: SpanShelf, span: Span, *, renumber: bool) -> Span:
        """Note number and reward of a span that is not known.

        Returns:
            The span itself, or a copy with its new number if `renumber`.
        """
        if renumber:
            span = span.model_copy(update={"sequence_id": shelf.next_sequence_id()})
        else:
            shelf.last_sequence_id = max(shelf.last_sequence_id, span.sequence_id)
        shelf.note_reward(span)
        return span

    def keep(self, shelf: SpanShelf, span: Span, data: bytes, size: int) -> None:
        """Keep a copy of a span that is not known."""
        shelf.spans.append(KeptSpan(span.attempt_id, span.span_id, span.sequence_id, data))
        shelf.known.add((span.attempt_id, span.span_id))
        shelf.size += size
        self.used += size
        self.count += 1

    def clear(self, shelf: SpanShelf) -> None:
        """Drop the spans of a rollout; its numbers and rewards stay."""
        self.used -= shelf.size
        self.count -= len(shelf.spans)
        shelf.spans.clear()
        shelf.known.clear()
        shelf.size = 0
