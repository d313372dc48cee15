"""Records for tests, complete with as little said as possible."""

import itertools
from collections.abc import Sequence
from typing import Any

from lightning_store.contract import LightningStore
from lightning_store.records import LLM, Attempt, AttemptedRollout, EnqueueRolloutRequest, NamedResources
from lightning_store.spans import Event, Link, OtelResource, Span, SpanContext, TraceStatus

_numbers = itertools.count(1)


def make_span(
    rollout_id: str, attempt_id: str, *, span_id: str | None = None, sequence_id: int = 1, **fields: Any
) -> Span:
    """A span with every field set; its `span_id` is a new one unless given."""
    values: dict[str, Any] = {
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "parent_id": None,
        "name": "step",
        "status": TraceStatus(status_code="OK"),
        "attributes": {},
        "events": [],
        "links": [],
        "start_time": 1_700_000_000.5,
        "end_time": 1_700_000_001.5,
        "context": None,
        "parent": None,
        "resource": OtelResource(attributes={}, schema_url=""),
    }
    return Span(
        rollout_id=rollout_id,
        attempt_id=attempt_id,
        span_id=span_id or f"{next(_numbers):016x}",
        sequence_id=sequence_id,
        **(values | fields),
    )


def span_of(rollout: AttemptedRollout | Attempt, **fields: Any) -> Span:
    """A span of this attempt, or of the attempt in this rollout."""
    attempt = rollout.attempt if isinstance(rollout, AttemptedRollout) else rollout
    return make_span(attempt.rollout_id, attempt.attempt_id, **fields)


def rich_span(rollout_id: str, attempt_id: str, **fields: Any) -> Span:
    """A span with events, links, contexts, and fields that no model knows on every level."""
    context = SpanContext(
        trace_id="1" * 32, span_id="2" * 16, is_remote=True, trace_state={"vendor": "value"}, trace_flags=1
    )
    values: dict[str, Any] = {
        "parent_id": "3" * 16,
        "status": TraceStatus(status_code="ERROR", description="no answer", origin="agent"),
        "attributes": {
            "text": "grüß Gott",
            "flag": True,
            "count": 2**60,
            "ratio": 0.1,
            "names": ["a", "b"],
            "none": [],
        },
        "events": [Event(name="retry", attributes={"n": 1}, timestamp=1_700_000_000.75, dropped=3), Event(name="bare")],
        "links": [Link(context=context, attributes={"kind": "follows"}, weight=0.5), Link(context=context)],
        "context": context,
        "parent": SpanContext(trace_id="1" * 32, span_id="3" * 16, is_remote=False, trace_state={}),
        "resource": OtelResource(attributes={"service.name": "agent"}, schema_url="https://schema", host={"cores": 2}),
        "kind": "INTERNAL",
        "instrumentation": {"name": "tests", "versions": [1, 2.0, None], "nothing": {}},
    }
    return make_span(rollout_id, attempt_id, **(values | fields))


def reward_span(rollout: AttemptedRollout | Attempt, value: float, **fields: Any) -> Span:
    """What the emitter of Agent Lightning 0.3 makes of a reward."""
    attributes = {"agentlightning.reward.0.name": "primary", "agentlightning.reward.0.value": value}
    return span_of(rollout, name="agentlightning.annotation", attributes=attributes, **fields)


def requests_for(inputs: Sequence[Any], **fields: Any) -> list[EnqueueRolloutRequest]:
    """One enqueue request per input; all other fields are shared."""
    return [EnqueueRolloutRequest(input=task, **fields) for task in inputs]


def some_resources(model: str = "small") -> NamedResources:
    """A mapping with one model endpoint."""
    return {"main": LLM(endpoint="http://localhost:8000/v1", model=model)}


async def claim(store: LightningStore, worker_id: str | None = None, **options: Any) -> AttemptedRollout:
    """Dequeue a rollout that must be there."""
    claimed = await store.dequeue_rollout(worker_id, **options)
    assert claimed is not None, "nothing was queued"
    return claimed


async def drain(store: LightningStore, **options: Any) -> list[str]:
    """Ids of all that can be claimed now, in queue order."""
    claimed = await store.dequeue_many_rollouts(limit=1000, **options)
    return [rollout.rollout_id for rollout in claimed]


async def status_of(store: LightningStore, rollout_id: str) -> str:
    """The status of a rollout that must exist."""
    rollout = await store.get_rollout_by_id(rollout_id)
    assert rollout is not None, f"{rollout_id} is unknown"
    return rollout.status


async def attempt_of(store: LightningStore, rollout_id: str, number: int = -1) -> Attempt:
    """One attempt of a rollout by its number, the latest by default."""
    attempts = (await store.query_attempts(rollout_id)).items
    return attempts[number - 1 if number > 0 else number]
