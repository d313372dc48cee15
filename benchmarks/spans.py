"""Spans of a known size."""

import random
import string
from functools import cache

from lightning_store.backends.redis import codec
from lightning_store.records import AttemptedRollout
from lightning_store.spans import OtelResource, Span, TraceStatus

SPAN_BYTES = 1000
"""Length of a span as it is stored; short enough not to be compressed."""


def make_spans(rollout: AttemptedRollout, count: int, size: int = SPAN_BYTES) -> list[Span]:
    """Spans of the rollout's attempt with `size` bytes of JSON each, if it can be so few; ids have 16 hex digits."""
    first = int(rollout.attempt.attempt_id[3:], 16) << 16
    return [
        _span(rollout.rollout_id, rollout.attempt.attempt_id, f"{first + number:016x}", number + 1, _filler(size))
        for number in range(count)
    ]


@cache
def bare_bytes() -> int:
    """Length of a span without text."""
    return len(codec.span_payload(_span("", "", "0" * 16, 1, "")))


@cache
def _filler(size: int) -> str:
    letters = random.Random(7)  # noqa: S311 - text that is the same in each run
    return "".join(letters.choices(string.ascii_letters, k=max(0, size - bare_bytes())))


def _span(rollout_id: str, attempt_id: str, span_id: str, sequence_id: int, text: str) -> Span:
    return Span(
        rollout_id=rollout_id,
        attempt_id=attempt_id,
        sequence_id=sequence_id,
        trace_id=f"{1:032x}",
        span_id=span_id,
        parent_id=None,
        name="llm.call",
        status=TraceStatus(status_code="OK"),
        attributes={"completion": text},
        events=[],
        links=[],
        start_time=1_700_000_000.25,
        end_time=1_700_000_001.5,
        context=None,
        parent=None,
        resource=OtelResource(attributes={}, schema_url=""),
    )
