"""The runner: calls agents, keeps their leases, reports how they ended, and ends in good order."""

import asyncio
import functools
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from opentelemetry import trace

from lightning_store.backends.memory import InMemoryLightningStore
from lightning_store.errors import InvalidRequestError, SchemaMismatchError, StoreUnavailableError
from lightning_store.exporter import LightningSpanExporter
from lightning_store.records import Attempt, PromptTemplate, Rollout, RolloutConfig
from lightning_store.runner import Runner, cancelled, renewal, slot
from lightning_store.runner.held import Held
from lightning_store.runner.stats import RunnerStats
from lightning_store.scope import AttemptScope
from lightning_store.threaded import LightningStoreThreaded
from lightning_store.tracing import emit_reward
from tests.support.clock import SettableClock
from tests.support.faulty import FaultyStore

PROMPT = {"prompt": PromptTemplate(template="{x}", engine="f-string")}


@pytest.fixture
def clock() -> SettableClock:
    """The store's time. It stands still until it is moved, so no lease runs out because this machine is busy."""
    return SettableClock()


@pytest.fixture
async def store(clock: SettableClock) -> AsyncIterator[FaultyStore]:
    inner = LightningStoreThreaded(InMemoryLightningStore(clock=clock))
    yield FaultyStore(inner)
    await inner.close()


@asynccontextmanager
async def running(store: Any, agent: Any, **options: Any) -> AsyncIterator[Runner]:
    """A runner at work; it is stopped at the end, and what it raised is raised."""
    runner = Runner(store, agent, **{"grace_seconds": 5.0, **options})
    task = asyncio.ensure_future(runner.run())
    try:
        yield runner
    finally:
        runner.stop()
        await asyncio.wait_for(task, 30)


async def finish(store: FaultyStore, *rollouts: Rollout) -> list[Rollout]:
    """The rollouts once they have finished."""
    done = await store.wait_for_rollouts(rollout_ids=[rollout.rollout_id for rollout in rollouts], timeout=20)
    assert len(done) == len(rollouts)
    return done


async def latest(store: FaultyStore, rollout: Rollout) -> Attempt:
    attempt = await store.get_latest_attempt(rollout.rollout_id)
    assert attempt is not None
    return attempt


async def eventually(condition: Callable[[], Any]) -> Any:
    """What the condition answers once that is true."""
    deadline = time.monotonic() + 20
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


class Gate:
    """An agent that waits until it is let go, and tells what it saw."""

    def __init__(self, value: Any = None) -> None:
        self.value = value
        self.started = threading.Event()
        self.open = threading.Event()
        self.saw: list[str] = []

    async def coroutine(self, rollout: Any, resources: Any, tracer: Any) -> Any:
        self.started.set()
        try:
            while not self.open.is_set():  # noqa: ASYNC110 - opened from other threads too
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            self.saw.append("cancelled")
            raise
        return self.value

    def function(self, rollout: Any, resources: Any, tracer: Any) -> Any:
        self.started.set()
        while not self.open.is_set():
            if cancelled():
                self.saw.append("cancelled")
                break
            time.sleep(0.005)
        return self.value

    def deaf(self, rollout: Any, resources: Any, tracer: Any) -> Any:
        self.started.set()
        self.open.wait(30)
        return self.value


# -- calling the agent -------------------------------------------------------------------------------------------------


def plain(rollout: Any, resources: Any, tracer: Any) -> float:
    return float(rollout.input)


async def coroutine(rollout: Any, resources: Any, tracer: Any) -> float:
    await asyncio.sleep(0)
    return float(rollout.input)


class Instance:
    async def __call__(self, rollout: Any, resources: Any, tracer: Any) -> float:
        return float(rollout.input)


def with_bonus(rollout: Any, resources: Any, tracer: Any, *, bonus: float) -> float:
    return float(rollout.input) + bonus


def decorated(*arguments: Any) -> Any:
    return coroutine(*arguments)


AGENTS = [
    plain, coroutine, Instance(), functools.partial(with_bonus, bonus=0.0), functools.partial(coroutine), decorated,
]  # fmt: skip


@pytest.mark.parametrize("agent", AGENTS)
async def test_agents_of_every_kind_are_called_and_rewarded(store, agent):
    rollout = await store.enqueue_rollout(3)
    async with running(store, agent):
        (done,) = await finish(store, rollout)
    assert done.status == "succeeded"
    assert await store.rewards([rollout.rollout_id]) == {rollout.rollout_id: 3.0}


async def test_functions_run_beside_each_other_and_beside_the_loop(store):
    barrier = threading.Barrier(3, timeout=10)
    rollouts = [await store.enqueue_rollout(number) for number in range(3)]
    async with running(store, lambda *_: barrier.wait() and None, concurrency=3):
        await finish(store, *rollouts)


async def test_agent_is_given_its_rollout_and_the_latest_resources(store):
    seen: list[Any] = []
    snapshot = await store.add_resources(PROMPT)
    snapshot = await store.update_resources(snapshot.resources_id, PROMPT)
    rollout = await store.enqueue_rollout({"question": 1}, metadata={"m": 1})
    async with running(store, lambda *arguments: seen.append(arguments)):
        await finish(store, rollout)
    (given, resources, tracer) = seen[0]
    assert (given.rollout_id, given.input, given.metadata) == (rollout.rollout_id, {"question": 1}, {"m": 1})
    assert (given.status, given.attempt.status) == ("running", "running")
    assert resources == PROMPT
    assert isinstance(tracer, trace.Tracer)
    attempt = await latest(store, rollout)
    assert (attempt.resources_id, attempt.resources_version) == (snapshot.resources_id, 2)


async def test_rollout_that_names_its_resources_gets_these(store):
    seen: list[Any] = []
    named = await store.add_resources({})
    rollout = await store.enqueue_rollout("task", resources_id=named.resources_id)
    await store.add_resources(PROMPT)
    async with running(store, lambda _rollout, resources, _tracer: seen.append(resources)):
        await finish(store, rollout)
    assert seen == [{}]


async def test_without_any_resources_there_are_none(store):
    seen: list[Any] = []
    rollout = await store.enqueue_rollout("task")
    async with running(store, lambda _rollout, resources, _tracer: seen.append(resources)):
        await finish(store, rollout)
    assert seen == [{}]
    assert (await latest(store, rollout)).resources_id is None


async def test_unknown_resources_fail_the_attempt(store):
    rollout = await store.enqueue_rollout("task", resources_id="rs-missing")
    async with running(store, plain):
        (done,) = await finish(store, rollout)
    assert done.status == "failed"
    exception = (await latest(store, rollout)).metadata["exception"]
    assert exception["message"] == "Resources rs-missing not found"


async def test_workers_have_ids_of_their_own(store):
    rollouts = [await store.enqueue_rollout(number) for number in range(4)]
    async with running(store, plain, concurrency=2, worker_id="w") as runner:
        await finish(store, *rollouts)
        assert runner.worker_ids == ("w-0", "w-1")
    assert {(await latest(store, rollout)).worker_id for rollout in rollouts} <= {"w-0", "w-1"}


async def test_queues_are_claimed_in_their_order(store):
    seen: list[Any] = []
    rollouts = [await store.enqueue_rollout(queue, queue=queue) for queue in ("train", "eval", "train", "eval")]
    async with running(store, lambda rollout, *_: seen.append(rollout.input), queues=("eval", "train")):
        await finish(store, *rollouts)
    assert seen == ["eval", "eval", "train", "train"]


@pytest.mark.parametrize(
    "options",
    [{"concurrency": 0}, {"lease_seconds": 0}, {"queues": ()}, {"poll_seconds": 0}, {"worker_id": "a\nb"}],
)
def test_options_out_of_bounds_are_refused(options):
    with pytest.raises(InvalidRequestError):
        Runner(InMemoryLightningStore(), plain, **options)


async def test_store_for_one_thread_only_is_wrapped():
    inner = InMemoryLightningStore()
    runner = Runner(inner, plain)
    assert runner.store is not inner
    rollout = await runner.store.enqueue_rollout(1)
    task = asyncio.ensure_future(runner.run())
    await runner.store.wait_for_rollouts(rollout_ids=[rollout.rollout_id], timeout=20)
    runner.stop()
    await task
    await runner.store.close()


# -- results, spans, failures ------------------------------------------------------------------------------------------


async def test_spans_and_rewards_of_the_agent_are_stored_in_one_trace(store):
    def agent(rollout: Any, resources: Any, tracer: Any) -> None:
        with tracer.start_as_current_span("think"), trace.get_tracer("library").start_as_current_span("call"):
            emit_reward(0.5)

    rollout = await store.enqueue_rollout("task")
    async with running(store, agent):
        await finish(store, rollout)
    spans = await store.query_spans(rollout.rollout_id)
    assert [span.name for span in spans] == ["agentlightning.annotation", "call", "think", "agent"]
    assert [span.parent_id for span in spans] == [*(span.span_id for span in spans[1:]), None]
    assert {span.attempt_id for span in spans} == {(await latest(store, rollout)).attempt_id}
    assert spans[-1].status.status_code == "OK"
    assert await store.rewards([rollout.rollout_id]) == {rollout.rollout_id: 0.5}


async def test_numbers_by_name_are_one_reward(store):
    rollout = await store.enqueue_rollout("task")
    async with running(store, lambda *_: {"primary": 2.0, "style": 1.0}):
        await finish(store, rollout)
    assert await store.rewards([rollout.rollout_id]) == {rollout.rollout_id: 2.0}


async def test_result_that_is_no_reward_fails_the_attempt(store):
    rollout = await store.enqueue_rollout("task")
    async with running(store, lambda *_: "well done"):
        (done,) = await finish(store, rollout)
    assert done.status == "failed"
    assert "returned str" in (await latest(store, rollout)).metadata["exception"]["message"]


@pytest.mark.parametrize("error", [ValueError("wrong"), SystemExit("wrong"), KeyboardInterrupt("wrong")])
@pytest.mark.parametrize("kind", ["function", "coroutine"])
async def test_exception_is_recorded_on_the_span_and_the_attempt(store, error, kind):
    def raising(rollout: Any, resources: Any, tracer: Any) -> None:
        raise error

    async def raising_coroutine(rollout: Any, resources: Any, tracer: Any) -> None:
        raise error

    rollouts = [await store.enqueue_rollout("task") for _ in range(2)]
    async with running(store, raising if kind == "function" else raising_coroutine):
        done = await finish(store, *rollouts)
    assert [rollout.status for rollout in done] == ["failed", "failed"]
    exception = (await latest(store, rollouts[0])).metadata["exception"]
    assert (exception["type"], exception["message"]) == (type(error).__name__, "wrong")
    assert "in raising" in exception["traceback"]
    (root,) = await store.query_spans(rollouts[0].rollout_id)
    assert (root.status.status_code, root.status.description) == ("ERROR", f"{type(error).__name__}: wrong")
    (event,) = root.events
    assert event.attributes["exception.message"] == "wrong"
    assert event.attributes["exception.stacktrace"] == exception["traceback"]


async def test_agent_that_cancels_itself_has_failed(store):
    async def agent(rollout: Any, resources: Any, tracer: Any) -> None:
        raise asyncio.CancelledError

    rollout = await store.enqueue_rollout("task")
    async with running(store, agent):
        (done,) = await finish(store, rollout)
    assert done.status == "failed"
    assert (await latest(store, rollout)).metadata["exception"]["type"].endswith("CancelledError")


async def test_long_messages_and_tracebacks_are_cut(store):
    def agent(rollout: Any, resources: Any, tracer: Any) -> None:
        raise ValueError("x" * 1_000_000)

    rollout = await store.enqueue_rollout("task")
    async with running(store, agent):
        await finish(store, rollout)
    assert len(str((await latest(store, rollout)).metadata)) < 10_000


async def test_exception_that_cannot_tell_itself_is_recorded_by_its_type(store):
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    def agent(rollout: Any, resources: Any, tracer: Any) -> None:
        raise MuteError

    rollout = await store.enqueue_rollout("task")
    async with running(store, agent):
        (done,) = await finish(store, rollout)
    exception = (await latest(store, rollout)).metadata["exception"]
    assert done.status == "failed"
    assert exception["type"].endswith("MuteError")
    assert exception["message"] == ""
    assert "agent" in exception["traceback"]


async def test_metadata_that_the_agent_wrote_stays(store):
    async def agent(rollout: Any, resources: Any, tracer: Any) -> None:
        await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, metadata={"own": 1})
        raise ValueError("wrong")

    rollout = await store.enqueue_rollout("task")
    async with running(store, agent):
        await finish(store, rollout)
    metadata = (await latest(store, rollout)).metadata
    assert metadata.keys() == {"own", "exception"}


async def test_end_is_reported_though_its_facts_find_no_room(store, caplog):
    """What the agent wrote fills the metadata, so that the exception does not fit beside it."""
    own = {"own": "x" * ((1 << 20) - 100)}

    async def agent(rollout: Any, resources: Any, tracer: Any) -> None:
        await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, metadata=own)
        raise ValueError("wrong")

    rollout = await store.enqueue_rollout("task")
    async with running(store, agent):
        (done,) = await finish(store, rollout)
    assert done.status == "failed"
    assert (await latest(store, rollout)).metadata == own
    assert "its end is reported without exception: metadata: " in caplog.text


async def test_failed_attempts_are_tried_again_as_configured(store):
    tries: list[str] = []

    def agent(rollout: Any, resources: Any, tracer: Any) -> float:
        tries.append(rollout.attempt.attempt_id)
        if len(tries) < 3:
            raise ValueError("not yet")
        return 1.0

    rollout = await store.enqueue_rollout("task", config=RolloutConfig(max_attempts=3, retry_condition=["failed"]))
    async with running(store, agent):
        (done,) = await finish(store, rollout)
    assert (done.status, len(set(tries))) == ("succeeded", 3)


async def test_success_is_reported_after_all_spans_are_stored(store):
    store.gates["add_many_spans"] = asyncio.Event()
    rollout = await store.enqueue_rollout(1)
    async with running(store, plain):
        await eventually(lambda: store.calls["add_many_spans"])
        assert await store.wait_for_rollouts(rollout_ids=[rollout.rollout_id], timeout=0.1) == []
        store.gates["add_many_spans"].set()
        await finish(store, rollout)
    assert len(await store.query_spans(rollout.rollout_id)) == 2


async def test_lost_spans_are_counted_in_the_attempt(store):
    store.errors["add_many_spans"] = InvalidRequestError("no")
    rollout = await store.enqueue_rollout(1)
    async with running(store, plain):
        (done,) = await finish(store, rollout)
    assert done.status == "succeeded"
    assert (await latest(store, rollout)).metadata == {"lost_spans": {"refused": 2}}


# -- leases and interruptions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["function", "coroutine"])
async def test_busy_agent_keeps_its_lease(store, clock, kind):
    def busy(rollout: Any, resources: Any, tracer: Any) -> float:
        """Many times as long as the lease by the store's clock, which waits for heartbeats instead of for the agent."""
        for _ in range(5):
            heard, deadline = store.calls["renew"], time.monotonic() + 20
            while store.calls["renew"] < heard + 2:  # so that one of them has begun and ended meanwhile
                sum(range(1000))
                assert time.monotonic() < deadline, "no heartbeat gets through"
            clock.advance(0.2)
        return 1.0

    async def busy_coroutine(rollout: Any, resources: Any, tracer: Any) -> float:
        return busy(rollout, resources, tracer)

    rollout = await store.enqueue_rollout("task")
    async with running(store, busy if kind == "function" else busy_coroutine, lease_seconds=0.3):
        (done,) = await finish(store, rollout)
    assert done.status == "succeeded"
    assert (await latest(store, rollout)).sequence_id == 1
    causes = [event.cause for event in await store.query_events(rollout_id=rollout.rollout_id)]
    assert "worker_lost" not in causes


async def test_heartbeats_tell_of_the_process(store):
    rollout = await store.enqueue_rollout(1)
    async with running(store, plain, lease_seconds=0.3, worker_id="w"):
        await finish(store, rollout)

        async def has_told() -> bool:
            worker = await store.get_worker_by_id("w")
            stats = (worker.heartbeat_stats if worker else None) or {}
            return bool(
                stats.get("last_successful_poll") and stats["attempts"]["succeeded"] == 1 and stats["rss_bytes"]
            )

        await eventually(has_told)


async def test_worker_that_cannot_claim_sends_no_heartbeat(store, monkeypatch):
    rounds: list[float] = []
    read = RunnerStats.read
    monkeypatch.setattr(RunnerStats, "read", lambda stats: rounds.append(time.monotonic()) or read(stats))
    store.gates["dequeue_rollout"] = asyncio.Event()
    async with running(store, plain, lease_seconds=0.3, poll_seconds=0.1):
        await eventually(lambda: store.calls["renew"])
        monkeypatch.setattr(slot, "STUCK_MARGIN_SECONDS", 0.0)

        async def is_silent() -> bool:
            """Whether no heartbeat was sent in rounds that would have brought several."""
            rounds_before, heartbeats_before = len(rounds), store.calls["renew"]
            await eventually(lambda: len(rounds) > rounds_before + 3)
            return store.calls["renew"] == heartbeats_before

        await eventually(is_silent)


async def test_heartbeats_that_fail_are_sent_again(store, caplog):
    faults = iter([StoreUnavailableError("gone"), RuntimeError("strange"), StoreUnavailableError("gone")])
    store.errors["renew"] = lambda _arguments: next(faults, None)
    gate = Gate(1.0)
    rollout = await store.enqueue_rollout("task")
    async with running(store, gate.coroutine, lease_seconds=0.6):
        await eventually(lambda: store.calls["renew"] >= 6)
        gate.open.set()
        (done,) = await finish(store, rollout)
    assert done.status == "succeeded"
    assert "heartbeats: the store is out of reach" in caplog.text
    assert "heartbeats: the store is back" in caplog.text
    assert "strange" in caplog.text


async def test_heartbeat_that_gets_no_answer_is_given_up(store, caplog, monkeypatch):
    monkeypatch.setattr(renewal, "SHORTEST_CALL_SECONDS", 0.05)
    gate = store.gates["renew"] = asyncio.Event()
    async with running(store, plain, lease_seconds=0.3):
        await eventually(lambda: store.calls["renew"] >= 2)
        gate.set()
    assert "no answer in time" in caplog.text


@pytest.mark.parametrize("kind", ["function", "coroutine"])
async def test_agent_of_a_cancelled_rollout_is_stopped(store, kind):
    gate = Gate(1.0)
    rollout = await store.enqueue_rollout("task")
    async with running(store, getattr(gate, kind), lease_seconds=0.3, worker_id="w"):
        await eventually(gate.started.is_set)
        await store.cancel_rollouts([rollout.rollout_id])
        await eventually(lambda: gate.saw == ["cancelled"])
        attempt = await eventually_ended(store, rollout)
    assert (attempt.status, attempt.cause, attempt.metadata) == ("failed", "cancelled", {"interrupted": "cancelled"})
    stored = await store.get_rollout_by_id(rollout.rollout_id)
    assert stored is not None
    assert stored.status == "cancelled"
    assert await store.rewards([rollout.rollout_id]) == {rollout.rollout_id: None}
    worker = await store.get_worker_by_id("w")
    assert worker is not None
    assert worker.current_attempt_id is None


async def eventually_ended(store: FaultyStore, rollout: Rollout) -> Attempt:
    async def ended() -> Attempt | None:
        attempt = await latest(store, rollout)
        return attempt if attempt.end_time is not None else None

    attempt: Attempt = await eventually(ended)
    return attempt


async def test_agent_of_a_replaced_attempt_is_stopped_and_the_new_one_left_alone(store):
    gate = Gate()
    rollout = await store.enqueue_rollout("task")
    async with running(store, gate.coroutine, lease_seconds=0.3):
        await eventually(gate.started.is_set)
        new = await store.start_attempt(rollout.rollout_id, worker_id="by hand")
        await eventually(lambda: gate.saw == ["cancelled"])

        async def first_has_ended() -> bool:
            return (await store.query_attempts(rollout.rollout_id))[0].status == "failed"

        await eventually(first_has_ended)
    first, second = await store.query_attempts(rollout.rollout_id)
    assert first.metadata == {"interrupted": "replaced"}
    assert (second.attempt_id, second.status) == (new.attempt.attempt_id, "preparing")


async def test_agent_that_is_overdue_is_stopped_and_its_attempt_stays_timed_out(store, clock):
    gate = Gate()
    rollout = await store.enqueue_rollout("task", config=RolloutConfig(timeout_seconds=5))
    async with running(store, gate.coroutine, lease_seconds=0.6):
        await eventually(gate.started.is_set)
        clock.advance(6)
        await finish(store, rollout)
        await eventually(lambda: gate.saw == ["cancelled"])
    attempt = await latest(store, rollout)
    assert (attempt.status, attempt.metadata) == ("timeout", None)


async def test_late_failure_does_not_undo_a_retry_after_a_timeout(store, clock):
    async def agent(rollout: Any, resources: Any, tracer: Any) -> float:
        if rollout.attempt.sequence_id == 1:
            clock.advance(6)
            await store.expire_attempts()
            raise ValueError("too late")
        return 1.0

    config = RolloutConfig(timeout_seconds=5, max_attempts=2, retry_condition=["timeout"])
    rollout = await store.enqueue_rollout("task", config=config)
    async with running(store, agent, lease_seconds=30):
        (done,) = await finish(store, rollout)
    assert done.status == "succeeded"
    assert [a.status for a in await store.query_attempts(rollout.rollout_id)] == ["timeout", "succeeded"]


async def test_deaf_agent_is_left_behind_and_its_worker_goes_on(store, caplog):
    gate = Gate(1.0)
    agent = lambda rollout, *rest: gate.deaf(rollout, *rest) if rollout.input == "deaf" else 1.0  # noqa: E731
    rollout = await store.enqueue_rollout("deaf")
    async with running(store, agent, lease_seconds=0.3, cancel_seconds=0.05):
        await eventually(gate.started.is_set)
        await store.cancel_rollouts([rollout.rollout_id])
        await finish(store, await store.enqueue_rollout("next"))
    gate.open.set()
    assert "does not stop" in caplog.text
    assert await store.rewards([rollout.rollout_id]) == {rollout.rollout_id: None}


async def test_agent_is_not_told_that_it_is_unwanted_before_the_runner_is(store):
    """Else one that returns early because of that could be taken for one that has succeeded."""
    seen: list[bool] = []

    class Flag(threading.Event):
        def set(self) -> None:
            """The agent asks at once and returns: its result reaches the loop before anything that follows."""
            loop.call_soon_threadsafe(lambda: seen.append(held.interrupted.done()))
            super().set()

    loop = asyncio.get_running_loop()
    rollout = await store.start_rollout("task")
    scope = AttemptScope(rollout.rollout_id, rollout.attempt.attempt_id, LightningSpanExporter(store), cancelled=Flag())
    held = Held(rollout, scope)
    await asyncio.to_thread(held.interrupt, "cancelled")
    await eventually(lambda: seen)
    assert seen == [True]


# -- the end -----------------------------------------------------------------------------------------------------------


async def test_idle_runner_stops_at_once(store):
    """Not only when its claim has waited for 60 s, or its agents had 60 s to finish: `running` waits for less."""
    async with running(store, plain, poll_seconds=60, grace_seconds=60):
        await eventually(lambda: store.calls["dequeue_rollout"])


async def test_runner_that_was_stopped_before_claims_nothing(store):
    rollout = await store.enqueue_rollout(1)
    runner = Runner(store, plain)
    runner.stop()
    await asyncio.wait_for(runner.run(), 10)
    assert await store.wait_for_rollouts(rollout_ids=[rollout.rollout_id], timeout=0) == []
    assert store.calls["dequeue_rollout"] == 0


@pytest.mark.parametrize("kind", ["function", "coroutine"])
async def test_running_agents_finish_within_the_grace_time(store, kind):
    gate = Gate(1.0)
    rollouts = [await store.enqueue_rollout(number) for number in range(2)]
    async with running(store, getattr(gate, kind), grace_seconds=25) as runner:
        await eventually(gate.started.is_set)
        runner.stop()
        await asyncio.sleep(0.05)
        gate.open.set()
    first, second = [await store.get_rollout_by_id(rollout.rollout_id) for rollout in rollouts]
    assert first is not None
    assert second is not None
    assert (first.status, second.status) == ("succeeded", "queuing")


@pytest.mark.parametrize("kind", ["function", "coroutine", "deaf"])
async def test_what_does_not_finish_in_time_is_given_back(store, kind):
    gate = Gate(1.0)
    rollout = await store.enqueue_rollout("task")
    await store.enqueue_rollout("behind it")
    async with running(store, getattr(gate, kind), grace_seconds=0.1):
        await eventually(gate.started.is_set)
    gate.open.set()
    attempt = await latest(store, rollout)
    assert (attempt.status, attempt.cause) == ("failed", "released")
    again = await store.dequeue_rollout()
    assert again is not None
    assert again.rollout_id == rollout.rollout_id


async def test_cancelling_the_runner_gives_everything_back(store):
    gate = Gate()
    rollout = await store.enqueue_rollout("task")
    task = asyncio.ensure_future(Runner(store, gate.coroutine).run())
    await eventually(gate.started.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await latest(store, rollout)).cause == "released"


async def test_nothing_is_claimed_after_the_end(store):
    async with running(store, plain):
        await eventually(lambda: store.calls["dequeue_rollout"])
    rollout = await store.enqueue_rollout(1)
    assert await store.wait_for_rollouts(rollout_ids=[rollout.rollout_id], timeout=0.2) == []


# -- a store out of reach ----------------------------------------------------------------------------------------------


async def test_runner_waits_for_the_store_and_goes_on(store, caplog):
    store.errors["dequeue_rollout"] = StoreUnavailableError("gone")
    rollout = await store.enqueue_rollout(1)
    with caplog.at_level(logging.WARNING):
        async with running(store, plain):
            await eventually(lambda: store.calls["dequeue_rollout"] >= 3)
            del store.errors["dequeue_rollout"]
            await finish(store, rollout)
    assert caplog.text.count("out of reach") == 1
    assert caplog.text.count("the store is back") == 1


@pytest.mark.parametrize("operation", ["get_latest_resources", "update_attempt", "add_many_spans"])
async def test_every_step_of_an_attempt_waits_for_the_store(store, operation):
    outages = iter([StoreUnavailableError("gone"), StoreUnavailableError("gone")])
    store.errors[operation] = lambda _arguments: next(outages, None)
    rollout = await store.enqueue_rollout(1)
    async with running(store, plain):
        (done,) = await finish(store, rollout)
    assert done.status == "succeeded"
    assert await store.rewards([rollout.rollout_id]) == {rollout.rollout_id: 1.0}


async def test_claim_that_fails_for_an_unknown_reason_is_tried_again(store, caplog):
    faults = iter([RuntimeError("strange")])
    store.errors["dequeue_rollout"] = lambda _arguments: next(faults, None)
    rollout = await store.enqueue_rollout(1)
    async with running(store, plain):
        await finish(store, rollout)
    assert "strange" in caplog.text


async def test_runner_ends_when_the_store_refuses_for_good(store):
    store.errors["dequeue_rollout"] = SchemaMismatchError("another version")
    with pytest.raises(SchemaMismatchError):
        await asyncio.wait_for(Runner(store, plain, concurrency=2).run(), 10)


async def test_report_that_the_store_refuses_does_not_end_the_runner(store, caplog):
    """No heartbeat is answered here: one that told of the cancellation would leave the runner nothing to report."""

    async def agent(rollout: Any, resources: Any, tracer: Any) -> None:
        if rollout.input == "deleted":
            await store.update_rollout(rollout.rollout_id, status="cancelled")
            await store.delete_rollouts([rollout.rollout_id])

    store.gates["renew"] = asyncio.Event()
    await store.enqueue_rollout("deleted")
    rollout = await store.enqueue_rollout("next")
    async with running(store, agent):
        await finish(store, rollout)
    assert "cannot be reported" in caplog.text


async def test_agent_whose_rollout_is_gone_is_stopped_and_nothing_is_reported(store, caplog):
    gate = Gate(1.0)
    agent = lambda rollout, *rest: gate.function(rollout, *rest) if rollout.input == "deleted" else 1.0  # noqa: E731
    deleted = await store.enqueue_rollout("deleted")
    async with running(store, agent, lease_seconds=0.3):
        await eventually(gate.started.is_set)
        await store.update_rollout(deleted.rollout_id, status="cancelled")
        await store.delete_rollouts([deleted.rollout_id])
        await finish(store, await store.enqueue_rollout("next"))
    assert gate.saw == ["cancelled"]
    assert "cannot be reported" not in caplog.text
