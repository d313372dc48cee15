"""The creation of rollouts and of attempts by hand, inside of a transaction."""

from collections import Counter
from typing import NamedTuple

from lightning_store.admission import QueueLimits, check_room
from lightning_store.backends.sqlite.claims import fresh_attempt_id
from lightning_store.backends.sqlite.state import State
from lightning_store.backends.sqlite.stored import StoredRollout
from lightning_store.clock import IdSource
from lightning_store.errors import InvalidRequestError
from lightning_store.records import Rollout, RolloutStatus, changed, constructed
from lightning_store.requests import NewRollout


class Encoded(NamedTuple):
    """A rollout that is to be created, and its payloads as they are stored."""

    new: NewRollout
    input: bytes
    metadata: bytes


def enqueue(state: State, wanted: list[Encoded], limits: QueueLimits, ids: IdSource) -> list[Rollout]:
    """Create rollouts at the tail of their queues; all of them or none."""
    state.begin()
    wanted = [with_fresh_id(state, each, ids) for each in wanted]
    digests: dict[str, str | None] = {}
    for each in wanted:
        same_task(state, each.new)
        if digests.setdefault(each.new.rollout_id, each.new.digest) != each.new.digest:
            raise InvalidRequestError(f"rollout_id: {each.new.rollout_id} is given twice for different tasks")
    queues = {each.new.rollout_id: each.new.queue for each in wanted if state.find(each.new.rollout_id) is None}
    counts = Counter(queues.values())
    check_room(limits.among(counts), {name: state.queues.live(name) for name in counts}, counts)
    return [_enqueue_one(state, each) for each in wanted]


def _enqueue_one(state: State, given: Encoded) -> Rollout:
    stored = state.find(given.new.rollout_id)
    if stored is not None:
        return state.complete(stored)
    stored = create(state, given, "queuing")
    state.log_event(stored, None, "enqueued")
    return changed(stored.record, input=given.new.input, metadata=given.new.metadata)


def with_fresh_id(state: State, given: Encoded, ids: IdSource) -> Encoded:
    """The same with an id that is not taken, unless the caller gave one."""
    while given.new.digest is None and state.find(given.new.rollout_id) is not None:
        given = given._replace(new=given.new._replace(rollout_id=ids.rollout_id()))
    return given


def same_task(state: State, new: NewRollout) -> StoredRollout | None:
    """The rollout that has the id already; None if there is none.

    Raises:
        InvalidRequestError: It is another task.
    """
    stored = state.find(new.rollout_id)
    if stored is not None and stored.digest != new.digest:
        raise InvalidRequestError(
            f"rollout_id: {new.rollout_id} exists with another input or config; expected a new id or the same task"
        )
    return stored


def create(state: State, given: Encoded, status: RolloutStatus) -> StoredRollout:
    """Add the rollout, in its first status."""
    new = given.new
    record = constructed(
        Rollout,
        {
            "rollout_id": new.rollout_id,
            "input": None,
            "start_time": state.now,
            "end_time": None,
            "mode": new.mode,
            "resources_id": state.latest_resources_id if new.resources_id is None else new.resources_id,
            "status": status,
            "config": new.config,
            "metadata": None,
            "queue": new.queue,
            "group_id": new.group_id,
        },
    )
    return state.create(record, new.digest, given.input, given.metadata)


def begin_attempt(
    state: State, stored: StoredRollout, ids: IdSource, worker_id: str | None, lease_seconds: float | None
) -> None:
    """Start an attempt by hand."""
    attempt_id = fresh_attempt_id(state, stored, ids)
    attempt = state.begin_attempt(stored, attempt_id, worker_id, lease_seconds, is_claim=False)
    state.update_worker_of(attempt)
