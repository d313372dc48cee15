"""Spans to store, and the choice of stores that a test concerns."""

from typing import Any

import pytest
from agentlightning.types import OtelResource, Span, TraceStatus

from tests.agentlightning.conftest import OURS


def only(*kinds: str) -> pytest.MarkDecorator:
    """Run a test over these stores only; its docstring says why."""
    return pytest.mark.parametrize("kind", kinds, indirect=True)


ours_only = only(*OURS)


def span_of(claimed: Any, span_id: str = "a" * 16, **fields: Any) -> Span:
    """A span of the attempt of a rollout that was claimed or started."""
    given: dict[str, Any] = {
        "rollout_id": claimed.rollout_id,
        "attempt_id": claimed.attempt.attempt_id,
        "sequence_id": 1,
        "trace_id": "b" * 32,
        "span_id": span_id,
        "parent_id": None,
        "name": "call",
        "status": TraceStatus(status_code="OK"),
        "attributes": {},
        "events": [],
        "links": [],
        "start_time": 1.0,
        "end_time": 2.0,
        "context": None,
        "parent": None,
        "resource": OtelResource(attributes={}, schema_url=""),
    }
    return Span(**{**given, **fields})
