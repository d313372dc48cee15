"""Contract, section 2.4: late attempts, and how often calls look for them."""

import asyncio
import os
import pickle

import agentlightning as al
import pytest

from lightning_store import ForwardingStore, InMemoryLightningStore
from lightning_store.integrations.agentlightning import AgentLightningStore
from lightning_store.integrations.agentlightning.scans import Debounce
from tests.agentlightning.support.making import only, ours_only, span_of

SHORT = 0.05

SCANNING = {
    "start_rollout": (1,), "enqueue_rollout": (1,), "enqueue_many_rollouts": ([],), "dequeue_rollout": (),
    "dequeue_many_rollouts": (), "start_attempt": ("{id}",), "query_rollouts": (), "get_rollout_by_id": ("{id}",),
    "query_attempts": ("{id}",), "get_latest_attempt": ("{id}",), "update_resources": ("rs", {}),
    "query_spans": ("{id}",), "update_rollout": ("{id}",), "query_workers": (),
}  # fmt: skip
OTHERS = {
    "statistics": (), "get_worker_by_id": ("worker",), "update_worker": ("worker",), "add_resources": ({},),
    "get_resources_by_id": ("rs",), "get_latest_resources": (), "query_resources": (),
    "get_next_span_sequence_id": ("{id}", "at"), "get_many_span_sequence_ids": ([],), "add_many_spans": ([],),
    "update_attempt": ("{id}", "latest"),
}  # fmt: skip


class Counting(ForwardingStore):
    """A store in memory that counts how often it was told to settle."""

    def __init__(self):
        self.behind = InMemoryLightningStore()
        self.scans = 0

    @property
    def capabilities(self):
        return {"thread_safe": True, "async_safe": True}

    async def invoke(self, operation, arguments):
        self.scans += operation.name == "expire_attempts"
        return await getattr(self.behind, operation.name)(**arguments)


async def call(store, method, arguments, rollout_id):
    filled = [rollout_id if argument == "{id}" else argument for argument in arguments]
    keywords = {"rollout_ids": [], "timeout": 0} if method == "wait_for_rollouts" else {}
    await getattr(store, method)(*filled, **keywords)


@pytest.mark.parametrize("method", [*SCANNING, "wait_for_rollouts"])
async def test_these_calls_look_first(method):
    behind = Counting()
    rollout = await behind.behind.start_rollout(1)
    await call(
        AgentLightningStore(behind, scan_debounce_seconds=0), method, SCANNING.get(method, ()), rollout.rollout_id
    )
    assert behind.scans == 1


@pytest.mark.parametrize("method", OTHERS)
async def test_the_others_do_not(method):
    behind = Counting()
    rollout = await behind.behind.start_rollout(1)
    await call(AgentLightningStore(behind, scan_debounce_seconds=0), method, OTHERS[method], rollout.rollout_id)
    assert behind.scans == 0


async def test_spans_do_not_either():
    behind = Counting()
    started = await behind.behind.start_rollout(1)
    store = AgentLightningStore(behind, scan_debounce_seconds=0)
    await store.add_span(span_of(started))
    assert behind.scans == 0


async def test_once_per_so_many_seconds():
    behind = Counting()
    store = AgentLightningStore(behind, scan_debounce_seconds=3600)
    for _ in range(5):
        await store.query_rollouts()
    assert behind.scans == 1
    assert AgentLightningStore(behind)._scans.seconds == 10


def test_copies_start_anew():
    debounce = Debounce(3600)
    assert [debounce.passes(), debounce.passes()] == [True, False]
    copy = pickle.loads(pickle.dumps(debounce))  # noqa: S301
    assert [copy.passes(), copy.passes()] == [True, False]


def test_lock_of_another_thread_does_not_outlive_a_fork():
    debounce = Debounce(3600)
    with debounce._lock:
        pid = os.fork()
        if not pid:
            os._exit(0 if debounce.passes() else 1)
    assert os.waitpid(pid, 0)[1] == 0


# -- what it is for --------------------------------------------------------------------------------------------------


def late(kind):
    return al.RolloutConfig(**{kind: SHORT}, max_attempts=2, retry_condition=["timeout", "unresponsive"])


@pytest.mark.parametrize(
    ("field", "status"), [("timeout_seconds", "timeout"), ("unresponsive_seconds", "unresponsive")]
)
async def test_next_read_shows_a_late_attempt(store, field, status):
    await store.enqueue_rollout(1, config=late(field))
    claimed = await store.dequeue_rollout("worker")
    await asyncio.sleep(SHORT * 2)  # the time itself is what is tested
    assert (await store.get_latest_attempt(claimed.rollout_id)).status == status
    assert (await store.get_rollout_by_id(claimed.rollout_id)).status == "requeuing"
    assert (await store.get_worker_by_id("worker")).status == "unknown"
    assert (await store.dequeue_rollout()).attempt.sequence_id == 2


async def test_workers_of_late_attempts(store):
    await store.start_rollout(1, config=late("timeout_seconds"), worker_id="worker")
    await asyncio.sleep(SHORT * 2)
    (worker,) = await store.query_workers()
    assert (worker.status, worker.current_rollout_id) == ("unknown", None)


@ours_only
async def test_late_attempts_show_whatever_the_interval(make_store):
    """Our stores settle by themselves what a call is about."""
    store = make_store(scan_debounce_seconds=3600)
    await store.enqueue_rollout(1, config=late("timeout_seconds"))
    claimed = await store.dequeue_rollout()
    await asyncio.sleep(SHORT * 2)
    assert (await store.get_latest_attempt(claimed.rollout_id)).status == "timeout"
    assert (await store.dequeue_rollout()).attempt.sequence_id == 2


@ours_only
async def test_late_success_counts_unless_someone_settled_it(store):
    """Upstream settles it in the very call that reports the success."""
    started = await store.start_rollout(1, config=al.RolloutConfig(timeout_seconds=SHORT))
    await asyncio.sleep(SHORT * 2)
    await store.update_attempt(started.rollout_id, "latest", status="succeeded")
    assert (await store.get_rollout_by_id(started.rollout_id)).status == "succeeded"


@only("upstream", "memory", "sqlite")
async def test_clock_is_the_one_of_the_process(store, monkeypatch):
    """A store with a server tells the server's time, the same for all hosts."""
    started = await store.start_rollout(1)
    monkeypatch.setattr("time.time", lambda: started.start_time + 1000)
    await store.add_span(span_of(started))
    assert (await store.get_latest_attempt(started.rollout_id)).last_heartbeat_time == started.start_time + 1000
