"""One call of every operation that changes a store, on a scene where each finds something to do."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

from lightning_store.contract import LightningStore
from lightning_store.records import AttemptedRollout, EnqueueRolloutRequest, Rollout, RolloutConfig
from tests.support.clock import SettableClock
from tests.support.factories import make_span, requests_for, some_resources, span_of

RETRIED: Final = RolloutConfig(max_attempts=3, retry_condition=["failed", "timeout", "unresponsive"])
WATCHED: Final = RolloutConfig(unresponsive_seconds=5, max_attempts=3, retry_condition=["unresponsive"])


@dataclass(frozen=True)
class Scene:
    """Rollouts in all walks of life."""

    queued: list[Rollout]
    running: AttemptedRollout
    silent: AttemptedRollout
    finished: list[AttemptedRollout]
    resources_id: str


async def set_scene(store: LightningStore, clock: SettableClock) -> Scene:
    """Fill an empty store; two attempts are due when it is done."""
    snapshot = await store.update_resources("rs-scene", some_resources())
    running = await store.start_rollout("running", worker_id="anna", config=RETRIED, group_id="red")
    await store.add_span(span_of(running, span_id="1" * 16, sequence_id=3))
    finished = [await store.start_rollout({"n": n}, worker_id="bert", metadata={"n": n}) for n in range(3)]
    for rollout in finished:
        await store.add_span(span_of(rollout, span_id="2" * 16))
        await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, status="succeeded")
    silent = await store.start_rollout("silent", worker_id="carl", config=WATCHED)
    await store.start_rollout("silent too", worker_id="dora", lease_seconds=5)
    queued = await store.enqueue_many_rollouts(
        [*requests_for(["a", "b"], config=RETRIED, group_id="red"), EnqueueRolloutRequest(input="c", queue="other")]
    )
    await store.acknowledge_completions("reader")
    clock.advance(6)
    return Scene(list(queued), running, silent, finished, snapshot.resources_id)


def _otel_span() -> ReadableSpan:
    span = TracerProvider().get_tracer("tests").start_span("step", start_time=1_700_000_000_000_000_000)
    span.end(1_700_000_001_000_000_000)
    return span  # type: ignore[return-value]  # the SDK's spans are readable


OTEL_SPAN: Final = _otel_span()


async def _audit(store: LightningStore) -> Any:
    """What does not depend on the time that it takes."""
    report = await store.audit(repair=True)
    return report.findings, report.unchecked, report.rollouts


Mutation = Callable[[LightningStore, Scene], Awaitable[Any]]

MUTATIONS: Final[dict[str, Mutation]] = {
    "start_rollout": lambda store, _: store.start_rollout("new", worker_id="emil", lease_seconds=9.0, group_id="red"),
    "enqueue_rollout": lambda store, _: store.enqueue_rollout("new", metadata={"a": 1}, config=RETRIED),
    "enqueue_many_rollouts": lambda store, _: store.enqueue_many_rollouts(requests_for(["x", "y", "z"], queue="other")),
    "dequeue_rollout": lambda store, _: store.dequeue_rollout("emil", lease_seconds=9.0),
    "dequeue_many_rollouts": lambda store, _: store.dequeue_many_rollouts(
        limit=9, worker_id="emil", queues=("other", "default")
    ),
    "start_attempt": lambda store, scene: store.start_attempt(scene.finished[0].rollout_id, "emil"),
    "update_rollout": lambda store, scene: store.update_rollout(
        scene.running.rollout_id, status="failed", metadata={"why": "test"}, mode="val"
    ),
    "cancel_rollouts": lambda store, _: store.cancel_rollouts(group_id="red"),
    "delete_rollouts": lambda store, scene: store.delete_rollouts([each.rollout_id for each in scene.finished[:2]]),
    "prune": lambda store, _: store.prune(keep_latest=1),
    "update_attempt": lambda store, scene: store.update_attempt(
        scene.running.rollout_id, "latest", status="failed", metadata={"why": "test"}
    ),
    "release_attempt": lambda store, scene: store.release_attempt(
        scene.running.rollout_id, scene.running.attempt.attempt_id
    ),
    "renew": lambda store, scene: store.renew(
        "anna", [(scene.running.rollout_id, scene.running.attempt.attempt_id)], {"load": 1}
    ),
    "add_span": lambda store, scene: store.add_span(span_of(scene.running, span_id="3" * 16, sequence_id=7)),
    "add_many_spans": lambda store, scene: store.add_many_spans(
        [make_span(each.rollout_id, each.attempt.attempt_id, span_id=f"{n:016x}")
         for each in (scene.running, *scene.finished) for n in (4, 5)],
        renumber=True,
    ),
    "add_otel_span": lambda store, scene: store.add_otel_span(
        scene.running.rollout_id, scene.running.attempt.attempt_id, OTEL_SPAN
    ),
    "get_next_span_sequence_id": lambda store, scene: store.get_next_span_sequence_id(scene.running.rollout_id, "at"),
    "get_many_span_sequence_ids": lambda store, scene: store.get_many_span_sequence_ids(
        [(scene.running.rollout_id, "at"), (scene.finished[0].rollout_id, "at"), (scene.running.rollout_id, "at")]
    ),
    "add_resources": lambda store, _: store.add_resources(some_resources("large")),
    "update_resources": lambda store, scene: store.update_resources(scene.resources_id, some_resources("large")),
    "update_worker": lambda store, _: store.update_worker("anna", {"load": 2}),
    "acknowledge_completions": lambda store, _: store.acknowledge_completions("trainer"),
    "forget_consumer": lambda store, _: store.forget_consumer("reader"),
    "expire_attempts": lambda store, _: store.expire_attempts(),
    "expire_workers": lambda store, _: store.expire_workers(silent_seconds=3),
    "evict_spans": lambda store, _: store.evict_spans(),
    "audit": lambda store, _: _audit(store),
}  # fmt: skip

ANSWERS_MAY_DIFFER: Final = frozenset({"evict_spans", "expire_attempts", "expire_workers", "renew"})
"""Calls that change nothing when repeated, but tell then that there was nothing left to do."""
