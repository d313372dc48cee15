"""Examples of arguments and answers for the description of the API: one rollout's life, told by its records."""

from typing import Any, Final

from lightning_store.records import (
    LLM,
    Attempt,
    AttemptedRollout,
    AuditReport,
    Completion,
    CompletionPage,
    Consumer,
    EnqueueRolloutRequest,
    ExpiryReport,
    PaginatedResult,
    QueueStats,
    ResourcesUpdate,
    Rollout,
    RolloutConfig,
    RolloutEvent,
    Transition,
    Worker,
)
from lightning_store.spans import OtelResource, Span, TraceStatus

_ROLLOUT: Final = "ro-5f0c2a9d7b3e4816a2c4e6f8"
_ATTEMPT: Final = "at-8d41c07be952"
_RESOURCES: Final = "rs-3a7d90c1f5b2"
_WORKER: Final = "runner-1"
_TIME: Final = 1_700_000_000.25
_CONFIG: Final = RolloutConfig(timeout_seconds=600, max_attempts=3, retry_condition=["failed", "timeout"])
_TASK: Final[dict[str, Any]] = {
    "rollout_id": _ROLLOUT,
    "input": {"question": "What is 6 times 7?"},
    "start_time": _TIME,
    "mode": "train",
    "resources_id": _RESOURCES,
    "config": _CONFIG,
    "metadata": {"epoch": 1},
}

ATTEMPT: Final = Attempt(
    rollout_id=_ROLLOUT, attempt_id=_ATTEMPT, sequence_id=1, start_time=_TIME + 2, worker_id=_WORKER, lease_seconds=60
)
ROLLOUT: Final = Rollout(**_TASK)
FINISHED: Final = Rollout(**_TASK, status="succeeded", end_time=_TIME + 9)
CLAIMED: Final = AttemptedRollout(**_TASK, status="preparing", attempt=ATTEMPT)
SPAN: Final = Span.from_attributes(
    rollout_id=_ROLLOUT,
    attempt_id=_ATTEMPT,
    sequence_id=1,
    trace_id="0af7651916cd43dd8448eb211c80319c",
    span_id="b7ad6b7169203331",
    name="chat",
    start_time=_TIME + 3,
    end_time=_TIME + 4,
    attributes={"gen_ai.request.model": "small", "gen_ai.usage.output_tokens": 12},
    status=TraceStatus(status_code="OK"),
    resource=OtelResource(attributes={"service.name": "agent"}, schema_url=""),
)
RESOURCES: Final = ResourcesUpdate(
    resources_id=_RESOURCES,
    create_time=_TIME - 60,
    update_time=_TIME - 60,
    version=1,
    resources={
        "main": LLM(endpoint="http://localhost:8000/v1", model="small", sampling_parameters={"temperature": 0.7})
    },
)
WORKER: Final = Worker(
    worker_id=_WORKER,
    status="busy",
    heartbeat_stats={"load": 0.5},
    last_heartbeat_time=_TIME + 5,
    current_rollout_id=_ROLLOUT,
    current_attempt_id=_ATTEMPT,
)
COMPLETION: Final = Completion(
    cursor="7-0", rollout_id=_ROLLOUT, status="succeeded", mode="train", start_time=_TIME, end_time=_TIME + 9
)
CONSUMER: Final = Consumer(name="trainer", cursor="7-0", update_time=_TIME + 10)
_ENDED: Final = ATTEMPT.model_copy(update={"status": "succeeded", "end_time": _TIME + 9, "cause": "agent"})
_RELEASED: Final = ATTEMPT.model_copy(update={"status": "failed", "end_time": _TIME + 9, "cause": "released"})


def _page(item: Any) -> PaginatedResult[Any]:
    return PaginatedResult(items=[item], limit=-1, offset=0, total=1)


ARGUMENTS: Final[dict[str, dict[str, Any]]] = {
    "start_rollout": {"input": _TASK["input"], "mode": "train", "worker_id": _WORKER},
    "enqueue_many_rollouts": {
        "rollouts": [EnqueueRolloutRequest(input=_TASK["input"], mode="train", config=_CONFIG, metadata={"epoch": 1})]
    },
    "dequeue_many_rollouts": {"limit": 1, "worker_id": _WORKER, "timeout": 30, "lease_seconds": 60},
    "start_attempt": {"worker_id": _WORKER},
    "query_rollouts": {
        "status_in": ["succeeded", "failed"],
        "sort_by": "start_time",
        "sort_order": "desc",
        "limit": 20,
    },
    "update_rollout": {"status": "cancelled"},
    "cancel_rollouts": {"group_id": "question-17"},
    "delete_rollouts": {"rollout_ids": [_ROLLOUT]},
    "prune": {"older_than_seconds": 86_400, "keep_latest": 1000},
    "wait_for_rollouts": {"rollout_ids": [_ROLLOUT], "timeout": 60},
    "completions": {"after": "6-0", "limit": 100, "timeout": 30},
    "acknowledge_completions": {"cursor": "7-0"},
    "query_attempts": {"sort_by": "sequence_id", "limit": 10},
    "update_attempt": {"status": "succeeded"},
    "renew": {"attempts": [[_ROLLOUT, _ATTEMPT]], "stats": {"load": 0.5}},
    "add_span": {"span": SPAN},
    "add_many_spans": {"spans": [SPAN], "renumber": True},
    "get_next_span_sequence_id": {"rollout_id": _ROLLOUT, "attempt_id": _ATTEMPT},
    "get_many_span_sequence_ids": {"rollout_attempt_ids": [[_ROLLOUT, _ATTEMPT]]},
    "query_spans": {"rollout_id": _ROLLOUT, "attempt_id": "latest", "name_contains": "chat"},
    "query_many_spans": {"rollout_ids": [_ROLLOUT], "attempt_id": "latest"},
    "rewards": {"rollout_ids": [_ROLLOUT]},
    "add_resources": {"resources": RESOURCES.resources},
    "update_resources": {"resources": RESOURCES.resources},
    "update_worker": {"heartbeat_stats": {"load": 0.5}},
    "query_workers": {"status_in": ["busy"]},
    "expire_attempts": {"limit": 500},
    "expire_workers": {"silent_seconds": 300},
    "audit": {"repair": False},
}
"""What the path does not carry."""

ANSWERS: Final[dict[str, Any]] = {
    "statistics": {
        "name": "InMemoryLightningStore", "total_rollouts": 1, "total_attempts": 1, "total_spans": 1,
        "total_resources": 1, "total_workers": 1, "uptime": 70.5, "rollouts_by_status": {"preparing": 1},
    },
    "start_rollout": CLAIMED,
    "enqueue_many_rollouts": [ROLLOUT],
    "dequeue_many_rollouts": [CLAIMED],
    "start_attempt": CLAIMED,
    "get_rollout_by_id": CLAIMED,
    "query_rollouts": _page(CLAIMED),
    "update_rollout": FINISHED,
    "cancel_rollouts": [_ROLLOUT],
    "delete_rollouts": [_ROLLOUT],
    "prune": 1,
    "query_queues": [QueueStats(queue="default", depth=12, delayed=1, oldest_seconds=3.5)],
    "query_events": [
        RolloutEvent(
            time=_TIME + 2, rollout_id=_ROLLOUT, attempt_id=_ATTEMPT, status="preparing", attempt_status="preparing",
            cause="claimed",
        )
    ],
    "wait_for_rollouts": [FINISHED],
    "completions": CompletionPage(items=[COMPLETION], cursor="7-0"),
    "acknowledge_completions": CONSUMER,
    "query_consumers": [CONSUMER],
    "forget_consumer": True,
    "query_attempts": _page(ATTEMPT),
    "get_latest_attempt": ATTEMPT,
    "update_attempt": _ENDED,
    "release_attempt": _RELEASED,
    "renew": ["current"],
    "add_span": SPAN,
    "add_many_spans": {"stored": [[0, 1]]},
    "get_next_span_sequence_id": {"sequence_id": 2},
    "get_many_span_sequence_ids": [2],
    "query_spans": _page(SPAN),
    "query_many_spans": {_ROLLOUT: [SPAN]},
    "rewards": {_ROLLOUT: 1.0},
    "add_resources": RESOURCES,
    "update_resources": RESOURCES,
    "get_resources_by_id": RESOURCES,
    "get_latest_resources": RESOURCES,
    "query_resources": _page(RESOURCES),
    "update_worker": WORKER,
    "get_worker_by_id": WORKER,
    "query_workers": _page(WORKER),
    "expire_attempts": ExpiryReport(
        transitions=[
            Transition(
                rollout_id=_ROLLOUT, attempt_id=_ATTEMPT, worker_id=_WORKER, attempt_status="unresponsive",
                rollout_status="requeuing", cause="worker_lost", late_seconds=0.4,
            )
        ],
        more=False, next_seconds=12.5,
    ),
    "expire_workers": ["runner-7"],
    "evict_spans": 0,
    "audit": AuditReport(findings=[], rollouts=1, seconds=0.01),
}  # fmt: skip
"""Bodies of answers, as they are sent."""

PATH_EXAMPLES: Final = {
    "rollout_id": _ROLLOUT,
    "attempt_id": _ATTEMPT,
    "resources_id": _RESOURCES,
    "worker_id": _WORKER,
    "consumer": "trainer",
}
