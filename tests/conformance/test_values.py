"""Free-form values come back as they went in: section 1.4, and rules 7 and 25."""

import math
import random
import string

import pytest

from lightning_store.errors import InvalidRequestError
from lightning_store.records import LLM, RolloutConfig
from lightning_store.spans import Event, Link, OtelResource, SpanContext, TraceStatus
from tests.support.factories import claim, requests_for, span_of
from tests.support.values import SURROGATES, TRICKY, same

SCALARS = [value for value in TRICKY.values() if isinstance(value, str | bool | int | float)]
ATTRIBUTES = {f"{number}": value for number, value in enumerate(SCALARS)} | {
    "": "empty key",
    "nul\x00in key": 1,
    "empty list": [],
    "texts": ["", "\x00", "\U0001f600"],
    "flags": [True, False],
    "integers": [1, 2**53 + 1, -(2**70)],
    "floats": [1.0, math.inf, 0.1],
}
PAYLOADS = {
    "repetitive": "lorem ipsum " * 20_000,
    "random": "".join(random.Random(7).choices(string.ascii_letters + "äöü€😀", k=60_000)),  # noqa: S311 - no secret
    "at the threshold": "x" * 2_044,
    "list": list(range(5_000)),
    "text that looks compressed": "\x28\xb5\x2f\xfd" + "(" * 50,
}


# -- every place where values are free ---------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [TRICKY, SURROGATES], ids=["tricky", "surrogates"])
async def test_input(store, values):
    enqueued = await store.enqueue_rollout(values)
    started = await store.start_rollout(values)
    updated = await store.enqueue_rollout("replaced")
    await store.update_rollout(updated.rollout_id, input=values)

    for rollout in (enqueued, started, updated):
        assert same((await store.get_rollout_by_id(rollout.rollout_id)).input, values)
    assert same((await claim(store)).input, values)
    assert all(same(rollout.input, values) for rollout in await store.query_rollouts())
    await store.cancel_rollouts([enqueued.rollout_id])
    waited = await store.wait_for_rollouts(rollout_ids=[enqueued.rollout_id], timeout=0)
    assert same(waited[0].input, values)


@pytest.mark.parametrize("value", list(TRICKY.values()), ids=list(TRICKY))
async def test_input_that_is_no_object(store, value):
    rollout = await store.enqueue_rollout(value)
    assert same(rollout.input, value)
    assert same((await store.get_rollout_by_id(rollout.rollout_id)).input, value)


@pytest.mark.parametrize("values", [TRICKY, SURROGATES], ids=["tricky", "surrogates"])
async def test_metadata_of_rollouts(store, values):
    enqueued = (await store.enqueue_many_rollouts(requests_for([1], metadata=values)))[0]
    started = await store.start_rollout(1, metadata=values)
    updated = await store.enqueue_rollout("replaced", metadata={"a": 1})
    answer = await store.update_rollout(updated.rollout_id, metadata=values)

    assert same(answer.metadata, values)
    for rollout in (enqueued, started, updated):
        assert same((await store.get_rollout_by_id(rollout.rollout_id)).metadata, values)


@pytest.mark.parametrize("values", [TRICKY, SURROGATES, {}], ids=["tricky", "surrogates", "empty"])
async def test_metadata_of_attempts(store, values):
    started = await store.start_rollout("task")

    answer = await store.update_attempt(started.rollout_id, "latest", metadata=values)

    assert same(answer.metadata, values)
    assert same((await store.get_latest_attempt(started.rollout_id)).metadata, values)
    assert same((await store.query_attempts(started.rollout_id))[0].metadata, values)
    assert same((await store.get_rollout_by_id(started.rollout_id)).attempt.metadata, values)


@pytest.mark.parametrize("values", [TRICKY, SURROGATES, {}], ids=["tricky", "surrogates", "empty"])
@pytest.mark.parametrize("call", ["update_worker", "renew"])
async def test_heartbeat_stats(store, values, call):
    if call == "update_worker":
        assert same((await store.update_worker("w", values)).heartbeat_stats, values)
    else:
        await store.renew("w", [], values)

    assert same((await store.get_worker_by_id("w")).heartbeat_stats, values)
    assert same((await store.query_workers())[0].heartbeat_stats, values)


@pytest.mark.parametrize("values", [TRICKY, SURROGATES, {}], ids=["tricky", "surrogates", "empty"])
async def test_sampling_parameters(store, values):
    resources = {"": LLM(endpoint="http://ä", model="\U0001f600", sampling_parameters=values)}

    added = await store.add_resources(resources)
    updated = await store.update_resources("own", resources)

    for snapshot in (
        added,
        updated,
        await store.get_resources_by_id(added.resources_id),
        await store.get_latest_resources(),
        *await store.query_resources(),
    ):
        assert same(snapshot.resources[""].sampling_parameters, values)
        assert snapshot.resources[""].model == "\U0001f600"


async def test_attributes_everywhere_in_a_span(store):
    started = await store.start_rollout("task")
    context = SpanContext(trace_id="t", span_id="s", is_remote=True, trace_state={"": "\x00"})
    span = span_of(
        started,
        name="\x00 \U0001f600",
        attributes=ATTRIBUTES,
        events=[Event(name="", attributes=ATTRIBUTES)],
        links=[Link(context=context, attributes=ATTRIBUTES)],
        resource=OtelResource(attributes=ATTRIBUTES, schema_url=""),
        status=TraceStatus(status_code="ERROR", description="\x00"),
    )

    await store.add_span(span)

    stored = (await store.query_spans(started.rollout_id))[0]
    for place in (
        stored.attributes,
        stored.events[0].attributes,
        stored.links[0].attributes,
        stored.resource.attributes,
    ):
        assert same(place, ATTRIBUTES)
    assert (stored.name, stored.status.description, stored.links[0].context) == (span.name, "\x00", context)


@pytest.mark.parametrize("values", [TRICKY, SURROGATES], ids=["tricky", "surrogates"])
async def test_extra_fields_of_spans(store, values):
    started = await store.start_rollout("task")
    await store.add_span(span_of(started, status=TraceStatus(status_code="OK", more=values), extra=values))

    stored = (await store.query_many_spans([started.rollout_id]))[started.rollout_id][0]

    assert same(stored.model_extra["extra"], values)
    assert same(stored.status.model_extra["more"], values)


async def test_attribute_with_lone_surrogates(store):
    started = await store.start_rollout("task")
    await store.add_span(span_of(started, attributes=SURROGATES))

    assert same((await store.query_spans(started.rollout_id))[0].attributes, SURROGATES)


# -- size --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", list(PAYLOADS.values()), ids=list(PAYLOADS))
async def test_long_payloads_come_back_whole(store, payload):
    started = await store.start_rollout(payload, metadata={"p": payload})
    await store.update_attempt(started.rollout_id, "latest", metadata={"p": payload})
    await store.add_span(span_of(started, extra=payload))
    await store.update_worker("w", {"p": payload})
    await store.update_resources("r", {"m": LLM(endpoint="", model="", sampling_parameters={"p": payload})})

    rollout = await store.get_rollout_by_id(started.rollout_id)
    assert (rollout.input, rollout.metadata, rollout.attempt.metadata) == (payload, {"p": payload}, {"p": payload})
    assert (await store.query_spans(started.rollout_id))[0].model_extra["extra"] == payload
    assert (await store.get_worker_by_id("w")).heartbeat_stats == {"p": payload}
    assert (await store.get_latest_resources()).resources["m"].sampling_parameters == {"p": payload}


async def test_payloads_of_every_length_around_the_threshold(store):
    lengths = range(2_030, 2_060, 3)
    created = await store.enqueue_many_rollouts(requests_for(["é" * (length // 2) for length in lengths]))

    page = await store.query_rollouts()

    assert [rollout.input for rollout in page] == [rollout.input for rollout in created]
    assert [len(rollout.input) for rollout in page] == [length // 2 for length in lengths]


async def test_values_nested_a_hundred_levels_deep(store):
    value: object = "bottom"
    for _ in range(50):
        value = [{"in": value}]

    rollout = await store.enqueue_rollout(value, metadata={"v": value})

    stored = await store.get_rollout_by_id(rollout.rollout_id)
    assert (stored.input, stored.metadata) == (value, {"v": value})


# -- what is no JSON ---------------------------------------------------------------------------------------------------


async def test_tuples_become_lists(store):
    rollout = await store.enqueue_rollout((1, ("a",)), metadata={"t": (2,)})
    assert same(rollout.input, [1, ["a"]])
    assert same((await store.get_rollout_by_id(rollout.rollout_id)).metadata, {"t": [2]})


def _too_deep():
    value: object = 0
    for _ in range(300):
        value = [value]
    return value


@pytest.mark.parametrize(
    "bad", [b"bytes", {1, 2}, object(), {1: "key"}, {"deep": {None: 1}}, [1, {"x": 1j}], _too_deep()],
    ids=["bytes", "set", "object", "number as key", "none as key", "complex", "too deep"],
)  # fmt: skip
async def test_what_has_no_json_form_is_refused_everywhere(store, bad):
    started = await store.start_rollout("task", worker_id="w")
    before = (await store.query_rollouts()).items
    calls = [
        ("input", store.enqueue_rollout(bad)),
        ("input", store.start_rollout(bad)),
        ("input", store.update_rollout(started.rollout_id, input=bad)),
        ("metadata", store.enqueue_rollout(1, metadata={"x": bad})),
        ("metadata", store.update_rollout(started.rollout_id, metadata={"x": bad})),
        ("metadata", store.update_attempt(started.rollout_id, "latest", metadata={"x": bad})),
        ("heartbeat_stats", store.update_worker("w", {"x": bad})),
        ("stats", store.renew("w", [], {"x": bad})),
        ("resources", store.add_resources({"m": LLM(endpoint="", model="", sampling_parameters={"x": bad})})),
    ]
    for field, call in calls:
        with pytest.raises(InvalidRequestError, match=field):
            await call

    assert (await store.query_rollouts()).items == before
    assert (await store.get_worker_by_id("w")).heartbeat_stats is None
    assert (await store.get_latest_resources()) is None


# -- times and limits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("now", [1_700_000_000.123457, 1_699_999_999.999999, 4_102_444_800.000001, 1.5])
async def test_times_are_kept_to_the_microsecond(make_store, clock, now):
    clock.advance(now - clock.now())
    store = make_store()
    started = await store.start_rollout("task", worker_id="w")
    await store.add_span(span_of(started))
    await store.update_worker("w")
    finished = await store.update_rollout(started.rollout_id, status="succeeded")

    stored = await store.get_rollout_by_id(started.rollout_id)
    worker = await store.get_worker_by_id("w")
    completion = (await store.completions()).items[0]
    times = [
        stored.start_time,
        stored.end_time,
        finished.end_time,
        stored.attempt.start_time,
        stored.attempt.last_heartbeat_time,
        worker.last_heartbeat_time,
        worker.last_busy_time,
        completion.start_time,
        completion.end_time,
    ]
    assert times == [clock.now()] * len(times)


@pytest.mark.parametrize("time", [0.0, -1.5, 1_700_000_000.1234567, 1e-7, 5e-324, 1e300, 3])
async def test_written_heartbeat_time_is_kept_to_the_last_bit(store, time):
    started = await store.start_rollout("task")

    answer = await store.update_attempt(started.rollout_id, "latest", last_heartbeat_time=time)

    assert answer.last_heartbeat_time == time
    assert (await store.get_latest_attempt(started.rollout_id)).last_heartbeat_time == time


@pytest.mark.parametrize(
    "config",
    [
        RolloutConfig(timeout_seconds=0.1 + 0.2, unresponsive_seconds=1e-9, retry_delay_seconds=1e-300),
        RolloutConfig(timeout_seconds=1e300, unresponsive_seconds=0, max_attempts=2**53 + 1, max_worker_losses=0),
        RolloutConfig(
            max_attempts=10**6, retry_condition=["unresponsive", "failed", "failed"], max_worker_losses=10**9
        ),
        RolloutConfig(timeout_seconds=-1, unresponsive_seconds=-0.5, retry_condition=["preparing", "succeeded"]),
    ],
)
async def test_config_is_kept_as_it_is(store, config):
    rollout = await store.enqueue_rollout("task", config=config)
    assert rollout.config == config
    assert (await store.get_rollout_by_id(rollout.rollout_id)).config == config

    updated = await store.update_rollout(rollout.rollout_id, config=RolloutConfig())
    assert updated.config == RolloutConfig()


async def test_span_times_are_kept_to_the_last_bit(store):
    started = await store.start_rollout("task")
    events = [Event(name="e", timestamp=1_700_000_000.1234567), Event(name="f", timestamp=0.0)]
    await store.add_span(span_of(started, start_time=1_699_999_999.9999998, end_time=math.inf, events=events))

    stored = (await store.query_spans(started.rollout_id))[0]

    assert (stored.start_time, stored.end_time) == (1_699_999_999.9999998, math.inf)
    assert [event.timestamp for event in stored.events] == [1_700_000_000.1234567, 0.0]
