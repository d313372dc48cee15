"""Random histories of a store: every operation that changes something, in any order, while time passes."""

from collections.abc import Callable
from typing import Any, get_args

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from lightning_store.contract import LightningStore
from lightning_store.records import AttemptStatus, EnqueueRolloutRequest, RolloutConfig, RolloutStatus
from lightning_store.spans import Span
from tests.model.pair import Pair
from tests.support.clock import SettableClock
from tests.support.factories import make_span, some_resources

MakeStores = Callable[[SettableClock], tuple[LightningStore, LightningStore]]

WORKERS = st.sampled_from([None, "w1", "w2", "w3"])
QUEUES = st.sampled_from(["default", "a"])
GROUPS = st.sampled_from([None, None, "g", "h"])
LEASES = st.sampled_from([None, None, 2, 6])
SOME_TEXT = st.sampled_from([{}, {"a": 1}, {"n": 1.0}])
ROLLOUT_STATUS = st.sampled_from(get_args(RolloutStatus))
ATTEMPT_STATUS = st.sampled_from(get_args(AttemptStatus))
STEPS = st.sampled_from([0.25, 0.5, 1, 2, 3, 5, 7.5, 14, 16, 40, -3])
"""Fractions that floats hold exactly; two of them are longer than the grace of 15 s, one goes back."""

CONFIGS = st.builds(
    RolloutConfig,
    timeout_seconds=st.sampled_from([None, None, 4, 20]),
    unresponsive_seconds=st.sampled_from([None, None, 3, 10]),
    max_attempts=st.integers(1, 3),
    retry_condition=st.lists(st.sampled_from(["failed", "timeout", "unresponsive"]), unique=True),
    retry_delay_seconds=st.sampled_from([0, 0, 0, 3, 8]),
    max_worker_losses=st.sampled_from([None, None, 0, 1, 2]),
)
REQUESTS = st.builds(
    EnqueueRolloutRequest,
    input=st.integers(0, 1),
    mode=st.sampled_from([None, "train", "val"]),
    config=st.none() | CONFIGS,
    metadata=st.none() | SOME_TEXT,
    rollout_id=st.sampled_from([None, None, None, "own1", "own2"]),
    group_id=GROUPS,
    queue=QUEUES,
)


class StoreMachine(RuleBasedStateMachine):
    """Tells both stores the same and compares what can be seen. Bundles hold ids in the common language of `Pair`."""

    rollouts = Bundle("rollouts")
    attempts = Bundle("attempts")
    some_rollout = st.one_of(rollouts, rollouts, rollouts, st.just("ro-unknown"))
    some_attempt = st.one_of(attempts, attempts, attempts, st.just(("ro-unknown", "at-unknown")))

    def __init__(self, make_stores: MakeStores) -> None:
        super().__init__()
        self.clock = SettableClock()
        self.pair = Pair(*make_stores(self.clock))
        self.both = self.pair.both
        self.spans = 0

    def teardown(self) -> None:
        self.look_at_everything()
        self.both("query_events", limit=-1)
        self.pair.close()

    def attempt_in(self, answer: Any) -> Any:
        """The attempt of an answer as a member of the bundle; none if there is none."""
        if not answer or "attempt" not in answer:
            return multiple()
        return (answer["rollout_id"], answer["attempt"]["attempt_id"])

    def span(self, attempt: tuple[str, str], number: int, span_id: str | None, reward: float | None) -> Span:
        self.spans += 1
        attributes = {} if reward is None else {"agentlightning.reward.0.value": reward}
        return make_span(
            *attempt, span_id=span_id or f"{self.spans:016x}", sequence_id=number, attributes=attributes
        )  # fmt: skip

    # -- time --------------------------------------------------------------------------------------------------------

    @rule(seconds=STEPS)
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    # -- rollouts and queue ------------------------------------------------------------------------------------------

    @initialize(target=rollouts, requests=st.lists(REQUESTS, min_size=1, max_size=3))
    def begin(self, requests: list[EnqueueRolloutRequest]) -> Any:
        return self.enqueue_many_rollouts(requests)

    @rule(target=rollouts, requests=st.lists(REQUESTS, max_size=4))
    def enqueue_many_rollouts(self, requests: list[EnqueueRolloutRequest]) -> Any:
        answer = self.both("enqueue_many_rollouts", rollouts=requests) or []
        return multiple(*(rollout["rollout_id"] for rollout in answer))

    @rule(target=rollouts, request=REQUESTS)
    def enqueue_rollout(self, request: EnqueueRolloutRequest) -> Any:
        answer = self.both("enqueue_rollout", **dict(request))
        return answer["rollout_id"] if answer else multiple()

    @rule(target=attempts, request=REQUESTS, worker_id=WORKERS, lease_seconds=LEASES)
    def start_rollout(self, request: EnqueueRolloutRequest, worker_id: str | None, lease_seconds: float | None) -> Any:
        arguments = {**dict(request), "worker_id": worker_id, "lease_seconds": lease_seconds}
        return self.attempt_in(self.both("start_rollout", **arguments))

    @rule(target=rollouts, attempt=attempts)
    def rollout_of_an_attempt(self, attempt: tuple[str, str]) -> str:
        """Puts started rollouts among those that other rules choose from."""
        return attempt[0]

    @rule(target=attempts, worker_id=WORKERS, lease_seconds=LEASES, queues=st.lists(QUEUES, min_size=1, max_size=2))
    def dequeue_rollout(self, worker_id: str | None, lease_seconds: float | None, queues: list[str]) -> Any:
        answer = self.both("dequeue_rollout", worker_id=worker_id, lease_seconds=lease_seconds, queues=queues)
        return self.attempt_in(answer)

    @rule(target=attempts, limit=st.integers(-1, 4), worker_id=WORKERS, lease_seconds=LEASES)
    def dequeue_many_rollouts(self, limit: int, worker_id: str | None, lease_seconds: float | None) -> Any:
        answer = self.both(
            "dequeue_many_rollouts",
            limit=limit,
            worker_id=worker_id,
            lease_seconds=lease_seconds,
            queues=["a", "default"],
        )
        return multiple(*(self.attempt_in(rollout) for rollout in answer))

    @rule(target=attempts, rollout_id=some_rollout, worker_id=WORKERS, lease_seconds=LEASES)
    def start_attempt(self, rollout_id: str, worker_id: str | None, lease_seconds: float | None) -> Any:
        answer = self.both("start_attempt", rollout_id=rollout_id, worker_id=worker_id, lease_seconds=lease_seconds)
        return self.attempt_in(answer)

    @rule(rollout_id=some_rollout, status=ROLLOUT_STATUS)
    def update_rollout(self, rollout_id: str, status: RolloutStatus) -> None:
        self.both("update_rollout", rollout_id=rollout_id, status=status)

    @rule(
        rollout_id=some_rollout,
        changes=st.fixed_dictionaries(
            {},
            optional={
                "config": CONFIGS,
                "metadata": st.none() | SOME_TEXT,
                "mode": st.sampled_from([None, "test"]),
                "resources_id": st.sampled_from([None, "rs"]),
                "input": st.integers(0, 1),
                "status": ROLLOUT_STATUS,
            },
        ),
    )
    def update_fields_of_a_rollout(self, rollout_id: str, changes: dict[str, Any]) -> None:
        self.both("update_rollout", rollout_id=rollout_id, **changes)

    @rule(ids=st.lists(some_rollout, max_size=3))
    def cancel_rollouts(self, ids: list[str]) -> None:
        self.both("cancel_rollouts", rollout_ids=ids)

    @rule(group_id=st.sampled_from(["g", "h"]), status_in=st.none() | st.lists(ROLLOUT_STATUS, max_size=3))
    def cancel_group(self, group_id: str, status_in: list[RolloutStatus] | None) -> None:
        self.both("cancel_rollouts", group_id=group_id, status_in=status_in)

    @rule(ids=st.lists(some_rollout, max_size=3))
    def delete_rollouts(self, ids: list[str]) -> None:
        self.both("delete_rollouts", rollout_ids=ids)

    @rule(
        older_than_seconds=st.sampled_from([None, None, 0, 5]),
        keep_latest=st.sampled_from([None, None, 1, 3]),
        status_in=st.none() | st.lists(st.sampled_from(["succeeded", "failed", "cancelled", "running"]), max_size=2),
        consumed=st.booleans(),
    )
    def prune(self, consumed: bool, **limits: Any) -> None:
        self.pair.prune(consumed=consumed, **limits)

    # -- consumers ---------------------------------------------------------------------------------------------------

    @rule(consumer=st.sampled_from(["c1", "c2", "no name"]), cursor=st.sampled_from([None, "latest", "0-0", "-"]))
    def acknowledge_completions(self, consumer: str, cursor: str | None) -> None:
        self.both("acknowledge_completions", consumer=consumer, cursor=cursor)

    @rule(consumer=st.sampled_from(["c1", "c2", "no name"]))
    def forget_consumer(self, consumer: str) -> None:
        self.both("forget_consumer", consumer=consumer)

    # -- attempts ----------------------------------------------------------------------------------------------------

    @rule(attempt=some_attempt, status=ATTEMPT_STATUS)
    def update_attempt(self, attempt: tuple[str, str], status: AttemptStatus) -> None:
        self.both("update_attempt", rollout_id=attempt[0], attempt_id=attempt[1], status=status)

    @rule(rollout_id=some_rollout, status=ATTEMPT_STATUS)
    def update_latest_attempt(self, rollout_id: str, status: AttemptStatus) -> None:
        self.both("update_attempt", rollout_id=rollout_id, attempt_id="latest", status=status)

    @rule(
        attempt=some_attempt,
        since=st.sampled_from([None, -9, 0, 4]),
        changes=st.fixed_dictionaries(
            {},
            optional={
                "worker_id": st.sampled_from(["", "w1", "w4"]),
                "metadata": SOME_TEXT,
                "resources_id": st.sampled_from([None, "rs"]),
                "resources_version": st.sampled_from([None, 2]),
            },
        ),
    )
    def update_fields_of_an_attempt(
        self, attempt: tuple[str, str], since: float | None, changes: dict[str, Any]
    ) -> None:
        heartbeat = {} if since is None else {"last_heartbeat_time": self.clock.now() + since}
        self.both("update_attempt", rollout_id=attempt[0], attempt_id=attempt[1], **heartbeat, **changes)

    @rule(attempt=some_attempt)
    def release_attempt(self, attempt: tuple[str, str]) -> None:
        self.both("release_attempt", rollout_id=attempt[0], attempt_id=attempt[1])

    @rule(
        worker_id=st.sampled_from(["w1", "w2"]),
        attempts=st.lists(some_attempt, max_size=3),
        stats=st.sampled_from([None, {}, {"load": 0.5}]),
    )
    def renew(self, worker_id: str, attempts: list[tuple[str, str]], stats: dict[str, Any] | None) -> None:
        self.both("renew", worker_id=worker_id, attempts=attempts, stats=stats)

    # -- spans -------------------------------------------------------------------------------------------------------

    @rule(
        attempt=some_attempt,
        number=st.integers(0, 9),
        span_id=st.sampled_from([None, None, "s1", "ff00000000000001"]),
        reward=st.sampled_from([None, 0.5, 1]),
    )
    def add_span(self, attempt: tuple[str, str], number: int, span_id: str | None, reward: float | None) -> None:
        self.both("add_span", span=self.span(attempt, number, span_id, reward))

    @rule(
        attempts=st.lists(some_attempt, max_size=4),
        number=st.integers(0, 9),
        span_id=st.sampled_from([None, None, "s1"]),
        renumber=st.booleans(),
    )
    def add_many_spans(self, attempts: list[tuple[str, str]], number: int, span_id: str | None, renumber: bool) -> None:
        spans = [self.span(attempt, number, span_id, 0.25) for attempt in attempts]
        self.both("add_many_spans", spans=spans, renumber=renumber)

    @rule(rollout_id=some_rollout)
    def get_next_span_sequence_id(self, rollout_id: str) -> None:
        self.both("get_next_span_sequence_id", rollout_id=rollout_id, attempt_id="x")

    @rule(ids=st.lists(some_rollout, max_size=3))
    def get_many_span_sequence_ids(self, ids: list[str]) -> None:
        self.both("get_many_span_sequence_ids", rollout_attempt_ids=[(rollout_id, "x") for rollout_id in ids])

    # -- resources, workers, upkeep ----------------------------------------------------------------------------------

    @rule(model=st.sampled_from(["small", "large"]))
    def add_resources(self, model: str) -> None:
        self.both("add_resources", resources=some_resources(model))

    @rule(resources_id=st.sampled_from(["rs", "other"]), model=st.sampled_from(["small", "large"]))
    def update_resources(self, resources_id: str, model: str) -> None:
        self.both("update_resources", resources_id=resources_id, resources=some_resources(model))

    @rule(worker_id=st.sampled_from(["w1", "w2", "w5"]), stats=st.none() | SOME_TEXT)
    def update_worker(self, worker_id: str, stats: dict[str, Any] | None) -> None:
        self.both("update_worker", worker_id=worker_id, **({} if stats is None else {"heartbeat_stats": stats}))

    @rule(limit=st.integers(1, 4))
    def expire_attempts(self, limit: int) -> None:
        self.both("expire_attempts", limit=limit)

    @rule(silent_seconds=st.sampled_from([0, 3, 20]))
    def expire_workers(self, silent_seconds: float) -> None:
        self.both("expire_workers", silent_seconds=silent_seconds)

    @rule()
    def evict_spans(self) -> None:
        """There is room, so nothing is dropped."""
        self.both("evict_spans")

    @rule(repair=st.booleans())
    def audit(self, repair: bool) -> None:
        report = self.both("audit", repair=repair)
        assert report["findings"] == [], report

    # -- reads that settle, hence rules and no invariants ------------------------------------------------------------

    @rule(rollout_id=some_rollout, attempt_id=st.sampled_from([None, "latest"]))
    def look_at_one(self, rollout_id: str, attempt_id: str | None) -> None:
        self.both("get_rollout_by_id", rollout_id=rollout_id)
        self.both("query_spans", rollout_id=rollout_id, attempt_id=attempt_id)

    @rule(ids=st.lists(some_rollout, max_size=3))
    def poll(self, ids: list[str]) -> None:
        self.both("wait_for_rollouts", rollout_ids=ids, timeout=0)
        self.both("query_many_spans", rollout_ids=ids, attempt_id="latest")

    @rule(
        status_in=st.none() | st.lists(ROLLOUT_STATUS, max_size=3),
        group_id=GROUPS,
        filter_logic=st.sampled_from(["and", "or"]),
        sort_by=st.sampled_from([None, "start_time", "end_time", "status", "rollout_id", "mode"]),
        sort_order=st.sampled_from(["asc", "desc"]),
        limit=st.integers(-1, 3),
        offset=st.integers(0, 3),
    )
    def query_a_page(self, **query: Any) -> None:
        self.both("query_rollouts", **query)

    @rule()
    def look_at_everything(self) -> None:
        page = self.both("query_rollouts")
        self.both("query_workers")
        for rollout in page["items"]:
            self.both("query_attempts", rollout_id=rollout["rollout_id"])
            self.both("query_spans", rollout_id=rollout["rollout_id"])

    @rule(limit=st.integers(1, 4), group_id=GROUPS)
    def read_on_in_the_completions(self, limit: int, group_id: str | None) -> None:
        self.pair.completions_so_far(limit, group_id)

    # -- what can be seen without settling anything ------------------------------------------------------------------

    @invariant()
    def same_counts_queues_and_logs(self) -> None:
        self.both("statistics")
        self.both("query_queues")
        self.both("completions")
        self.both("query_consumers")
        self.both("query_events", limit=8)

    @invariant()
    def same_workers_resources_and_rewards(self) -> None:
        for worker_id in ("w1", "w2"):
            self.both("get_worker_by_id", worker_id=worker_id)
        self.both("get_latest_resources")
        self.both("query_resources")
        self.both("rewards", rollout_ids=["own1", "own2", f"ro-{1:024x}", f"ro-{2:024x}"])
