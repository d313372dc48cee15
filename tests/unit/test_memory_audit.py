"""The audit of the memory store finds what only a fault of the store itself could do."""

import pytest

from lightning_store.backends.memory import InMemoryLightningStore
from lightning_store.lifecycle import changed
from tests.support.clock import SettableClock
from tests.support.damages import DELAYED, FINISHED, QUEUED, RUNNING, RUNNING_ATTEMPT, set_sound_scene
from tests.support.ids import CountingIds


@pytest.fixture
async def store():
    store = InMemoryLightningStore(clock=SettableClock(), ids=CountingIds())
    await set_sound_scene(store)
    yield store
    await store.close()


def set_attempt(state, **updates):
    """Change the record of the running attempt."""
    stored = state.rollouts[RUNNING]
    attempt = stored.attempts[RUNNING_ATTEMPT]
    stored.attempts[RUNNING_ATTEMPT] = type(attempt)(changed(attempt.record, **updates))


def set_rollout(state, id, **updates):
    stored = state.rollouts[id]
    stored.state = type(stored.state)(changed(stored.record, **updates))


def set_worker(state, **updates):
    state.workers["w"] = changed(state.workers["w"], **updates)


DAMAGES = [
    ("status_index", lambda s: s.by_status["queuing"].remove(1)),
    ("status_index", lambda s: s.by_status["running"].add(1)),
    ("status_index", lambda s: s.created.remove(1)),
    ("status_index", lambda s: s.by_group["g"].remove(1)),
    ("status_index", lambda s: s.by_group["h"].add(1)),
    ("status_index", lambda s: s.by_status["failed"].add(77)),
    ("status_index", lambda s: set_rollout(s, RUNNING, group_id="g")),
    ("record", lambda s: s.by_number.pop(1)),
    ("record", lambda s: set_attempt(s, status="failed", cause="agent")),
    ("queue", lambda s: s.queues.forget("default", QUEUED)),
    ("queue", lambda s: s.queues.put_first("default", "ro-none")),
    ("queue", lambda s: s.queues._delayed.set(QUEUED, 7.0)),
    ("queue", lambda s: s.queues.enter("default", "ro-none", 7.0)),
    ("queue", lambda s: s.queues.leave("default", DELAYED)),
    ("counter", lambda s: s.queues.claimed("default")),
    ("counter", lambda s: setattr(s, "attempt_count", 7)),
    ("counter", lambda s: s.rollouts[RUNNING].shelf.spans.pop()),
    ("deadline", lambda s: s.deadlines.discard(RUNNING)),
    ("deadline", lambda s: s.deadlines.set(FINISHED, 1.0)),
    ("deadline", lambda s: s.deadlines.set("ro-none", 1.0)),
    ("completion", lambda s: s.log.remove([1], None)),
    ("completion", lambda s: s.rollouts[FINISHED].completions.clear()),
    ("completion", lambda s: s.finish_order.clear()),
    ("completion", lambda s: set_rollout(s, FINISHED, end_time=None)),
    ("attempts", lambda s: set_attempt(s, sequence_id=2)),
    ("attempts", lambda s: set_attempt(s, cause="agent")),
    ("attempts", lambda s: setattr(s.rollouts[RUNNING], "latest_id", None)),
    ("spans", lambda s: s.rollouts[RUNNING].shelf.known.clear()),
    ("spans", lambda s: s.rollouts[RUNNING].attempts.clear()),
    ("spans", lambda s: setattr(s.rollouts[RUNNING].shelf, "last_sequence_id", 1)),
    ("worker", lambda s: set_worker(s, current_rollout_id=None)),
    ("worker", lambda s: set_worker(s, status="idle")),
    ("resources", lambda s: setattr(s, "latest_resources_id", "rs-none")),
]


async def test_sound_store_has_no_findings(store):
    assert (await store.audit()).findings == []


@pytest.mark.parametrize(("rule", "plant"), DAMAGES)
async def test_damage_is_found_and_left(store, rule, plant):
    plant(store._state)

    report = await store.audit(repair=True)

    assert rule in {finding.rule for finding in report.findings}
    assert report.unrepaired > 0
    assert all(finding.repaired == 0 for finding in report.findings)
    assert (await store.audit()).findings == report.findings
