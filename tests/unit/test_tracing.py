"""Spans of agents reach the store whole, or are counted as lost; rewards are spans."""

import asyncio
import logging
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from lightning_store import tracing
from lightning_store.backends.memory import InMemoryLightningStore
from lightning_store.errors import InvalidRequestError, StoreUnavailableError
from lightning_store.exporter import LightningSpanExporter
from lightning_store.records import AttemptedRollout
from lightning_store.scope import SCOPES, AttemptScope, cancelled, current_scope, detached_context
from lightning_store.threaded import LightningStoreThreaded
from lightning_store.tracing import AttemptSpanProcessor, agent_tracer, emit_reward, start_root_span
from tests.support.faulty import FaultyStore
from tests.support.until import until


@pytest.fixture
async def store() -> AsyncIterator[FaultyStore]:
    inner = LightningStoreThreaded(InMemoryLightningStore())
    yield FaultyStore(inner)
    await inner.close()


@pytest.fixture
async def rollout(store: FaultyStore) -> AttemptedRollout:
    return await store.start_rollout("task")


@pytest.fixture
def exporter(store: FaultyStore) -> Iterator[LightningSpanExporter]:
    exporter = LightningSpanExporter(store, linger_seconds=0.01, retry_seconds=30)
    yield exporter
    exporter.shutdown(5000)


@pytest.fixture
def scope(rollout: AttemptedRollout, exporter: LightningSpanExporter) -> Iterator[AttemptScope]:
    """The attempt that this test's code works for."""
    scope = AttemptScope(rollout.rollout_id, rollout.attempt.attempt_id, exporter)
    SCOPES.add(scope)
    token = otel_context.attach(scope.context())
    yield scope
    otel_context.detach(token)
    SCOPES.end(scope, remember=False)


def finished_span(rollout: AttemptedRollout | None, name: str = "step", **attributes: str) -> ReadableSpan:
    """A span that names its attempt, made by an SDK set-up of its own."""
    ids = dict(attributes)
    if rollout is not None:
        ids["agentlightning.rollout_id"] = rollout.rollout_id
        ids["agentlightning.attempt_id"] = rollout.attempt.attempt_id
    span: Any = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span(name, attributes=ids)
    span.end()
    return span._readable_span()


def identity_of(rollout: AttemptedRollout) -> tuple[str, str]:
    return rollout.rollout_id, rollout.attempt.attempt_id


async def flushed(exporter: LightningSpanExporter, rollout: AttemptedRollout) -> None:
    assert await asyncio.to_thread(exporter.flush, *identity_of(rollout), 10)


async def names_of(store: FaultyStore, rollout: AttemptedRollout) -> list[str]:
    return [span.name for span in await store.query_spans(rollout.rollout_id)]


# -- the exporter ------------------------------------------------------------------------------------------------------


async def test_spans_are_numbered_in_the_order_in_which_they_ended(store, rollout, exporter):
    exporter.export([finished_span(rollout, f"s{number}") for number in range(600)])
    await flushed(exporter, rollout)
    spans = await store.query_spans(rollout.rollout_id)
    assert [span.name for span in spans] == [f"s{number}" for number in range(600)]
    assert [span.sequence_id for span in spans] == list(range(1, 601))


async def test_spans_travel_in_batches(store, rollout, exporter):
    store.gates["add_many_spans"] = asyncio.Event()
    exporter.export([finished_span(rollout) for _ in range(600)])
    store.gates["add_many_spans"].set()
    await flushed(exporter, rollout)
    assert store.calls["add_many_spans"] <= 4  # one that had begun, and three of at most 256 spans


async def test_batches_are_bounded_in_bytes(store, rollout):
    exporter = LightningSpanExporter(store, max_batch_bytes=3000, linger_seconds=0.01)
    span = finished_span(rollout)
    big = (
        TracerProvider(shutdown_on_exit=False)
        .get_tracer("test")
        .start_span("big", attributes={**(span.attributes or {}), "text": "x" * 10_000})
    )
    big.end()
    exporter.export([*(finished_span(rollout) for _ in range(6)), big])  # type: ignore[list-item]
    await flushed(exporter, rollout)
    assert len(await names_of(store, rollout)) == 7
    assert store.calls["add_many_spans"] >= 3
    exporter.shutdown()


async def test_ids_on_the_resource_are_read_too(store, rollout, exporter):
    resource = Resource(dict(finished_span(rollout).attributes or {}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.get_tracer("test").start_span("by resource").end()
    await flushed(exporter, rollout)
    assert await names_of(store, rollout) == ["by resource"]


async def test_exporter_works_behind_the_sdks_batching_processor(store, rollout, exporter):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    attributes = dict(finished_span(rollout).attributes or {})
    for _ in range(10):
        provider.get_tracer("test").start_span("batched", attributes=attributes).end()
    await asyncio.to_thread(provider.shutdown)
    assert await names_of(store, rollout) == ["batched"] * 10


async def test_export_does_not_wait_for_the_store(store, rollout, exporter):
    store.gates["add_many_spans"] = asyncio.Event()
    assert exporter.export([finished_span(rollout)]) is SpanExportResult.SUCCESS
    assert not exporter.flush(*identity_of(rollout), timeout=0.05)
    assert not exporter.force_flush(50)
    store.gates["add_many_spans"].set()
    await flushed(exporter, rollout)


async def test_flush_after_the_last_span_was_stored_does_not_wait(rollout, exporter, monkeypatch):
    """Also just then, when the exporter has not yet noticed that there is nothing more to send."""
    flushes = []
    take = exporter._take

    def flush_and_take(channel):
        if not channel.unsettled:
            flushes.append(exporter.flushed(channel.identity))
        return take(channel)

    monkeypatch.setattr(exporter, "_take", flush_and_take)
    exporter.export([finished_span(rollout)])
    await flushed(exporter, rollout)
    await until(lambda: bool(flushes))
    assert flushes[0].done()


async def test_who_waits_for_spans_sends_what_nobody_is_sending(store, rollout):
    exporter = LightningSpanExporter(store, linger_seconds=60)
    exporter.export([finished_span(rollout, "waits for company")])
    await asyncio.wait_for(exporter.settled(identity_of(rollout)), 10)
    assert await names_of(store, rollout) == ["waits for company"]
    exporter.shutdown()


async def test_who_waits_for_spans_waits_for_those_on_their_way(store, rollout, exporter):
    store.gates["add_many_spans"] = asyncio.Event()
    exporter.export([finished_span(rollout, "on its way")])
    await until(lambda: store.calls["add_many_spans"] > 0)
    exporter.export([finished_span(rollout, "behind it")])
    waiting = asyncio.ensure_future(exporter.settled(identity_of(rollout)))
    await asyncio.wait({waiting}, timeout=0.05)
    assert not waiting.done()
    store.gates["add_many_spans"].set()
    await asyncio.wait_for(waiting, 10)
    assert await names_of(store, rollout) == ["on its way", "behind it"]


async def test_who_waits_late_does_not_lose_what_came_since(store, rollout):
    """A flush may come to a channel that was forgotten meanwhile and has a successor."""
    exporter = LightningSpanExporter(store, linger_seconds=0.05)
    identity = identity_of(rollout)
    exporter.export([finished_span(rollout, "before")])
    forgotten = exporter._channels[identity]
    await exporter.settled(identity)
    exporter.export([finished_span(rollout, "after")])
    await exporter._drain(forgotten)
    await flushed(exporter, rollout)
    assert await names_of(store, rollout) == ["before", "after"]
    exporter.shutdown()


async def test_a_store_out_of_reach_is_tried_again(store, rollout, exporter):
    outages = iter([StoreUnavailableError("gone"), StoreUnavailableError("gone")])
    store.errors["add_many_spans"] = lambda _arguments: next(outages, None)
    exporter.export([finished_span(rollout)])
    await flushed(exporter, rollout)
    assert await names_of(store, rollout) == ["step"]
    assert exporter.lost_in_all == {}


async def test_spans_are_lost_and_counted_when_the_store_stays_away(store, rollout, caplog):
    exporter = LightningSpanExporter(store, retry_seconds=0.2)
    store.errors["add_many_spans"] = StoreUnavailableError("gone")
    exporter.export([finished_span(rollout), finished_span(rollout)])
    await flushed(exporter, rollout)
    assert exporter.lost_spans(*identity_of(rollout)) == {"unavailable": 2}
    assert rollout.rollout_id in caplog.text
    assert "reason=unavailable" in caplog.text
    exporter.shutdown()


async def test_one_refused_span_does_not_cost_its_neighbours(store, rollout, exporter):
    def refuse_bad(arguments: dict[str, Any]) -> Exception | None:
        is_bad = any(span.name == "bad" for span in arguments["spans"])
        return InvalidRequestError("too bad") if is_bad else None

    store.errors["add_many_spans"] = refuse_bad
    names = [f"s{number}" for number in range(20)]
    names[7] = "bad"
    exporter.export([finished_span(rollout, name) for name in names])
    await flushed(exporter, rollout)
    assert await names_of(store, rollout) == [name for name in names if name != "bad"]
    assert exporter.lost_spans(*identity_of(rollout)) == {"refused": 1}


async def test_span_that_is_too_large_is_lost_by_name_and_size_and_costs_no_other(caplog):
    store = LightningStoreThreaded(InMemoryLightningStore(max_span_bytes=4000))
    rollout = await store.start_rollout("task")
    exporter = LightningSpanExporter(store, retry_seconds=60)
    spans = [finished_span(rollout, f"s{number}") for number in range(9)]
    spans[4] = finished_span(rollout, "huge", text="x" * 5000)
    began = time.monotonic()

    exporter.export(spans)
    await flushed(exporter, rollout)

    assert time.monotonic() - began < 30, "it was tried again and again"
    assert await names_of(store, rollout) == [f"s{number}" for number in range(9) if number != 4]
    assert exporter.lost_spans(*identity_of(rollout)) == {"refused": 1}
    [told] = [line for line in caplog.records if "span lost" in line.message]
    assert told.levelname == "ERROR"
    assert re.search(r"count=1 reason=refused detail=.*'huge', span_id \w{16}\): 5\d\d\d bytes of JSON", told.message)
    exporter.shutdown()
    await store.close()


async def test_spans_of_an_unknown_rollout_are_refused(store, rollout, exporter):
    unknown = rollout.model_copy(update={"rollout_id": "ro-unknown"})
    exporter.export([finished_span(unknown), finished_span(rollout), finished_span(unknown)])
    await flushed(exporter, rollout)
    await flushed(exporter, unknown)
    assert await names_of(store, rollout) == ["step"]
    assert exporter.lost_spans("ro-unknown", rollout.attempt.attempt_id) == {"refused": 2}
    assert exporter.lost_in_all == {"refused": 2}


async def test_a_full_buffer_loses_the_newest_spans(store, rollout):
    store.gates["add_many_spans"] = asyncio.Event()
    exporter = LightningSpanExporter(store, max_buffered=10)
    result = exporter.export([finished_span(rollout, f"s{number}") for number in range(15)])
    assert result is SpanExportResult.FAILURE
    assert exporter.lost_spans(*identity_of(rollout)) == {"buffer_full": 5}
    store.gates["add_many_spans"].set()
    await flushed(exporter, rollout)
    assert await names_of(store, rollout) == [f"s{number}" for number in range(10)]
    exporter.shutdown()


async def test_the_buffer_is_bounded_in_bytes(store, rollout):
    store.gates["add_many_spans"] = asyncio.Event()
    exporter = LightningSpanExporter(store, max_buffered_bytes=2000)
    exporter.export([finished_span(rollout) for _ in range(10)])
    assert exporter.lost_in_all["buffer_full"] >= 5
    store.gates["add_many_spans"].set()
    exporter.shutdown()


async def test_spans_of_no_attempt_are_counted(exporter):
    assert exporter.export([finished_span(None)]) is SpanExportResult.FAILURE
    assert exporter.lost_in_all == {"unattributed": 1}


async def test_the_log_tells_the_first_loss_of_a_kind_only(exporter, caplog):
    exporter.export([finished_span(None) for _ in range(5)])
    assert caplog.text.count("span lost") == 1
    assert exporter.lost_in_all == {"unattributed": 5}


async def test_shutdown_sends_what_waits_and_refuses_the_rest(store, rollout, caplog):
    exporter = LightningSpanExporter(store, linger_seconds=60)
    exporter.export([finished_span(rollout)])
    await asyncio.to_thread(exporter.shutdown)
    assert await names_of(store, rollout) == ["step"]
    exporter.export([finished_span(rollout)])
    assert exporter.lost_in_all == {"unavailable": 1}


async def test_shutdown_counts_what_it_leaves_behind(store, rollout, caplog):
    store.gates["add_many_spans"] = asyncio.Event()
    exporter = LightningSpanExporter(store, max_batch=2)
    exporter.export([finished_span(rollout) for _ in range(5)])
    await asyncio.to_thread(exporter.shutdown, 50)
    assert exporter.lost_spans(*identity_of(rollout)) == {"unavailable": 5}
    assert "spans lost in all" in caplog.text


# -- spans made in an attempt ------------------------------------------------------------------------------------------


async def test_spans_of_the_global_tracer_belong_to_the_attempt(store, rollout, exporter, scope):
    agent_tracer()
    with trace.get_tracer("some library").start_as_current_span("library"):
        pass
    await flushed(exporter, rollout)
    assert await names_of(store, rollout) == ["library"]


async def test_spans_of_threads_without_context_belong_to_the_only_attempt(store, rollout, exporter, scope):
    thread = threading.Thread(target=lambda: agent_tracer().start_span("on a thread").end())
    thread.start()
    thread.join()
    await flushed(exporter, rollout)
    assert await names_of(store, rollout) == ["on a thread"]


async def test_spans_of_a_known_trace_belong_to_its_attempt(store, rollout, exporter, scope):
    root = start_root_span("agent", scope)
    other = AttemptScope("ro-other", "at-other", exporter)
    SCOPES.add(other)
    parent = trace.set_span_in_context(trace.NonRecordingSpan(root.get_span_context()), otel_context.Context())

    def work() -> None:
        assert current_scope() is None  # two attempts run, and this thread has no context
        agent_tracer().start_span("called from elsewhere", parent).end()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    root.end()
    SCOPES.end(other, remember=False)
    await flushed(exporter, rollout)
    assert await names_of(store, rollout) == ["called from elsewhere", "agent"]


async def test_spans_of_our_own_threads_belong_to_nobody(store, rollout, exporter, scope):
    detached_context().run(lambda: agent_tracer().start_span("heartbeat").end())
    await flushed(exporter, rollout)
    assert await names_of(store, rollout) == []
    assert exporter.lost_in_all == {}


async def test_spans_that_end_after_their_attempt_are_kept(store, rollout, exporter, scope):
    span = agent_tracer().start_span("late")
    SCOPES.end(scope, remember=True)
    span.end()
    await flushed(exporter, rollout)
    assert await names_of(store, rollout) == ["late"]


async def test_ids_that_an_attribute_limit_pushed_out_are_known_all_the_same(store, rollout, exporter, scope):
    provider = TracerProvider(span_limits=SpanLimits(max_span_attributes=3), shutdown_on_exit=False)
    provider.add_span_processor(AttemptSpanProcessor())
    with provider.get_tracer("test").start_as_current_span("many") as span:
        span.set_attributes({f"a{number}": number for number in range(10)})
    await flushed(exporter, rollout)
    assert await names_of(store, rollout) == ["many"]


async def test_unsampled_spans_stay_away(store, rollout, exporter, scope):
    provider = TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)
    provider.add_span_processor(AttemptSpanProcessor())
    provider.get_tracer("test").start_span("unsampled").end()
    await flushed(exporter, rollout)
    assert await names_of(store, rollout) == []


async def test_force_flush_of_the_provider_reaches_the_store(store, rollout, exporter, scope):
    agent_tracer().start_span("step").end()
    provider: Any = trace.get_tracer_provider()
    assert await asyncio.to_thread(provider.force_flush, 5000)
    assert await names_of(store, rollout) == ["step"]


# -- providers that somebody else set up ------------------------------------------------------------------------------


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a provider the global one, and tells what it exported."""

    def install(**options: Any) -> InMemorySpanExporter:
        exported = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False, **options)
        provider.add_span_processor(SimpleSpanProcessor(exported))
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
        return exported

    return install


async def test_spans_go_through_the_programs_own_provider_too(store, rollout, exporter, scope, foreign):
    exported = foreign()
    for name in ("first", "second"):
        agent_tracer().start_span(name).end()
    await flushed(exporter, rollout)
    assert await names_of(store, rollout) == ["first", "second"]
    assert [span.name for span in exported.get_finished_spans()] == ["first", "second"]


async def test_root_and_reward_are_recorded_whatever_the_programs_sampler_does(
    store, rollout, exporter, scope, foreign
):
    exported = foreign(sampler=ALWAYS_OFF)
    root = start_root_span("agent", scope)
    agent_tracer().start_span("unsampled").end()
    emit_reward(1.0)
    root.end()
    await flushed(exporter, rollout)
    assert await names_of(store, rollout) == ["agentlightning.annotation", "agent"]
    assert exported.get_finished_spans() == ()


async def test_reward_outside_of_an_attempt_goes_to_the_programs_own_provider(foreign, caplog):
    exported = foreign()
    emit_reward(1.0)
    assert [span.name for span in exported.get_finished_spans()] == ["agentlightning.annotation"]
    assert caplog.text == ""


async def test_provider_that_is_not_the_sdks_is_left_alone(store, rollout, exporter, scope, monkeypatch):
    provider = trace.NoOpTracerProvider()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    agent_tracer().start_span("step").end()
    await flushed(exporter, rollout)
    assert await names_of(store, rollout) == ["step"]


async def test_reward_is_not_dropped_silently_when_opentelemetry_is_off(scope, monkeypatch):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setattr(tracing, "_PROVIDERS", tracing._Providers())
    monkeypatch.setattr(trace, "get_tracer_provider", trace.NoOpTracerProvider)
    with pytest.raises(RuntimeError, match="OTEL_SDK_DISABLED"):
        emit_reward(1.0)


# -- rewards -----------------------------------------------------------------------------------------------------------


async def test_emitted_reward_is_the_rollouts_reward(store, rollout, exporter, scope):
    emit_reward(0.25)
    emit_reward(0.75)
    await flushed(exporter, rollout)
    assert await store.rewards([rollout.rollout_id]) == {rollout.rollout_id: 0.75}
    assert await names_of(store, rollout) == ["agentlightning.annotation"] * 2


async def test_reward_of_several_numbers_has_the_primary_one_first(store, rollout, exporter, scope):
    emit_reward({"style": 1, "correct": 0.5}, primary_key="correct", attributes={"judge": "tests"})
    await flushed(exporter, rollout)
    span = (await store.query_spans(rollout.rollout_id))[0]
    own = {name: value for name, value in span.attributes.items() if not name.endswith("_id")}
    assert own == {
        "agentlightning.reward.0.name": "correct",
        "agentlightning.reward.0.value": 0.5,
        "agentlightning.reward.1.name": "style",
        "agentlightning.reward.1.value": 1.0,
        "judge": "tests",
    }


@pytest.mark.parametrize(
    ("reward", "primary", "expected"),
    [(True, None, 1.0), (2, None, 2.0), ({"a": 1, "primary": 2}, None, 2.0), ({"a": 1, "b": 2}, None, 1.0)],
)
async def test_primary_reward(store, rollout, exporter, scope, reward, primary, expected):
    emit_reward(reward, primary_key=primary)
    await flushed(exporter, rollout)
    assert await store.rewards([rollout.rollout_id]) == {rollout.rollout_id: expected}


@pytest.mark.parametrize("reward", ["much", None, {}, {"a": "much"}, 10**400])
async def test_reward_that_is_no_number_is_refused(scope, reward):
    with pytest.raises(InvalidRequestError, match="reward"):
        emit_reward(reward)


async def test_unknown_primary_key_is_refused(scope):
    with pytest.raises(InvalidRequestError, match="primary_key"):
        emit_reward({"a": 1.0}, primary_key="b")


async def test_reward_of_a_thread_without_context_hangs_below_the_root(store, rollout, exporter, scope):
    root = start_root_span("agent", scope)
    thread = threading.Thread(target=emit_reward, args=(1.0,))
    thread.start()
    thread.join()
    root.end()
    await flushed(exporter, rollout)
    reward, agent = await store.query_spans(rollout.rollout_id)
    assert (reward.trace_id, reward.parent_id) == (agent.trace_id, agent.span_id)


async def test_reward_outside_of_an_attempt_is_dropped_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        emit_reward(1.0)
    assert "outside of an attempt" in caplog.text


def test_cancelled_is_false_outside_of_an_attempt():
    assert not cancelled()


async def test_cancelled_tells_what_happened_to_the_attempt(scope):
    assert not cancelled()
    scope.cancelled.set()
    assert cancelled()
