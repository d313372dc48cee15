"""The spans of the memory store: storing without duplicates, rewards, and eviction by memory thresholds."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import psutil
from pydantic import BaseModel

from lightning_store.backends.memory.copies import copy_record
from lightning_store.errors import InvalidRequestError, StoreFullError
from lightning_store.rewards import reward_of
from lightning_store.spans import Span

SpanSizeEstimator = Callable[[Span], int]

_NODE_BYTES = 56
"""About what a small Python object costs besides its content, its place in a container included."""


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
        is_evicted: Spans were dropped for lack of memory.
        rewards: By attempt; they outlive eviction.
    """

    last_sequence_id: int = 0
    spans: list[Span] = field(default_factory=list)
    known: set[tuple[str, str]] = field(default_factory=set)
    size: int = 0
    is_evicted: bool = False
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


def estimate_bytes(span: Span) -> int:
    """About how much memory a span takes."""
    total = 0
    pending: list[object] = [span]
    while pending:
        value = pending.pop()
        total += _NODE_BYTES
        if isinstance(value, str | bytes):
            total += len(value)
        elif isinstance(value, dict):
            pending.extend(value)
            pending.extend(value.values())
        elif isinstance(value, list | tuple | set):
            pending.extend(value)
        elif isinstance(value, BaseModel):
            pending.extend(value.__dict__.values())
            pending.extend((value.__pydantic_extra__ or {}).values())
    return total


def resolve_threshold(value: float, capacity: int, name: str) -> int:
    """A threshold in bytes: a float up to 1 is a share of the capacity, an integer is bytes.

    Raises:
        InvalidRequestError: It is neither.
    """
    if isinstance(value, float) and 0 < value <= 1:
        return int(capacity * value)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise InvalidRequestError(f"{name}: expected a share above 0 up to 1 or a number of bytes, got {value!r}")


class SpanMemory:
    """How much memory all spans take, and what happens when it is too much.

    Spans of finished rollouts are dropped, the oldest finish first, when the eviction threshold is crossed, until the
    safe threshold is reached. Spans of unfinished rollouts stay; when they fill the capacity, new ones are refused.
    """

    def __init__(
        self,
        *,
        eviction_threshold: float,
        safe_threshold: float | None,
        estimator: SpanSizeEstimator | None,
        capacity_bytes: int | None,
    ) -> None:
        """Resolve the thresholds; see `InMemoryLightningStore` for their meaning."""
        self.capacity = psutil.virtual_memory().total if capacity_bytes is None else capacity_bytes
        self.eviction = resolve_threshold(eviction_threshold, self.capacity, "eviction_memory_threshold")
        if safe_threshold is None:
            self.safe = int(self.eviction * 0.8)
        else:
            self.safe = resolve_threshold(safe_threshold, self.capacity, "safe_memory_threshold")
        if self.safe > self.eviction:
            raise InvalidRequestError("safe_memory_threshold: expected at most eviction_memory_threshold")
        self.used = 0
        self.count = 0
        self._estimate = estimator or estimate_bytes

    def new_spans(self, shelf: SpanShelf, spans: Mapping[int, Span]) -> dict[int, int]:
        """Places of those that the shelf does not know, each span once, with their sizes."""
        first: dict[tuple[str, str], int] = {}
        for place, span in spans.items():
            if not shelf.is_known(span):
                first.setdefault((span.attempt_id, span.span_id), place)
        return {place: self._estimate(spans[place]) for place in first.values()}

    def make_room(self, size: int, evictable: Iterator[SpanShelf]) -> None:
        """Evict for `size` more bytes.

        Args:
            size: Bytes that are wanted.
            evictable: What may be dropped, in this order; what is taken from it is dropped.

        Raises:
            StoreFullError: They do not fit into the capacity even so.
        """
        if self.used + size > self.eviction:
            while self.used + size > self.safe and (shelf := next(evictable, None)) is not None:
                self.clear(shelf)
                shelf.is_evicted = True
        if self.used + size > self.capacity:
            raise StoreFullError(
                f"spans of unfinished rollouts take {self.used} bytes of {self.capacity}, {size} more do not fit"
            )

    def store(self, shelf: SpanShelf, span: Span, size: int, *, renumber: bool) -> Span:
        """Keep a copy of a span that is not known.

        Returns:
            The span itself, or a copy with its new number if `renumber`.
        """
        if renumber:
            span = span.model_copy(update={"sequence_id": shelf.next_sequence_id()})
        else:
            shelf.last_sequence_id = max(shelf.last_sequence_id, span.sequence_id)
        shelf.spans.append(copy_record(span))
        shelf.known.add((span.attempt_id, span.span_id))
        shelf.note_reward(span)
        shelf.size += size
        self.used += size
        self.count += 1
        return span

    def clear(self, shelf: SpanShelf) -> None:
        """Drop the spans of a rollout; its numbers and rewards stay."""
        self.used -= shelf.size
        self.count -= len(shelf.spans)
        shelf.spans.clear()
        shelf.known.clear()
        shelf.size = 0
