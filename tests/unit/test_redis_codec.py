"""Records to what Redis keeps and back: nothing is lost, whatever the values."""

import math
import pickle
import struct
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lightning_store.backends.redis import codec
from lightning_store.clock import RandomIds
from lightning_store.errors import InternalStoreError
from lightning_store.jsonvalue import dump_json
from lightning_store.records import Attempt, AttemptedRollout, EnqueueRolloutRequest, Rollout, RolloutConfig
from lightning_store.requests import new_rollout
from lightning_store.spans import Event, Link, OtelResource, Span, SpanContext, TraceStatus
from lightning_store.status import ATTEMPT_STATUSES, ROLLOUT_STATUSES
from tests.support.factories import rich_span
from tests.support.values import SURROGATES, TRICKY, same

ANY_TEXT = st.text(st.characters(codec=None, categories=None), max_size=12)
TEXT = st.text(max_size=12)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3), max_leaves=8
)
OBJECTS = st.dictionaries(ANY_TEXT, JSON, max_size=3)
SECONDS = st.floats(0, allow_nan=False, allow_infinity=False)
TIMES = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.text("abcXYZ019._-", min_size=1, max_size=20)
FREE_IDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)

CONFIGS = st.builds(
    RolloutConfig,
    timeout_seconds=st.none() | TIMES,
    unresponsive_seconds=st.none() | TIMES,
    max_attempts=st.integers(1, 10**12),
    retry_condition=st.lists(st.sampled_from(ATTEMPT_STATUSES), max_size=4),
    retry_delay_seconds=SECONDS,
    max_worker_losses=st.none() | st.integers(0, 10**12),
)
REQUESTS = st.builds(
    EnqueueRolloutRequest,
    input=JSON,
    mode=st.sampled_from([None, "train", "val", "test"]),
    resources_id=st.none() | FREE_IDS,
    config=st.none() | CONFIGS,
    metadata=st.none() | OBJECTS,
    rollout_id=st.none() | NAMES,
    group_id=st.none() | FREE_IDS,
    queue=NAMES | st.just("default"),
)


def flat(fields: dict[str, Any]) -> list[bytes]:
    """A hash as Redis answers it."""
    return [part if isinstance(part, bytes) else str(part).encode() for pair in fields.items() for part in pair]


def stored(arguments: list[Any], **more: Any) -> list[Any]:
    """The reply for a rollout that was created from these arguments, see lua/shared/{requests,creation,replies}.lua."""
    id, digest, task, metadata, group, count, *given_fields = arguments
    assert len(given_fields) == 2 * count
    fields = {"number": 1, "status": "queuing", "start": "17.250000"}
    fields |= dict(zip(given_fields[::2], given_fields[1::2], strict=True))
    fields |= {"digest": digest} if digest else {}
    assert fields.get("group", "") == group
    return [id.encode(), flat(fields | more), task, metadata, b""]


# -- rollouts --------------------------------------------------------------------------------------------------------


@given(REQUESTS)
@example(EnqueueRolloutRequest(input=TRICKY, metadata=TRICKY))
@example(EnqueueRolloutRequest(input=SURROGATES, metadata=SURROGATES))
@example(EnqueueRolloutRequest(input=None))
@example(EnqueueRolloutRequest(input="x" * 100_000))
@settings(max_examples=200)
def test_new_rollout_comes_back_as_requested(request):
    new = new_rollout(request, RandomIds())
    found = codec.rollout(stored(codec.new_rollout_arguments(new)))

    assert type(found) is Rollout
    expected = {
        "rollout_id": new.rollout_id, "input": request.input, "start_time": 17.25, "end_time": None,
        "mode": request.mode, "resources_id": request.resources_id, "status": "queuing",
        "config": (request.config or RolloutConfig()).model_dump(), "metadata": request.metadata or {},
        "queue": request.queue, "group_id": request.group_id,
    }  # fmt: skip
    assert same(found.model_dump(), expected)
    created = codec.created_rollout(new, b"17.250000", (request.resources_id or "").encode())
    assert same(created.model_dump(), expected)


@given(CONFIGS, CONFIGS)
def test_changed_config_replaces_the_old_one_as_a_whole(old, new):
    fields = {name: value for name, value in codec.config_fields(old).items() if value}
    for name, value in codec.config_fields(new).items():  # what lua/update_rollout.lua does
        fields.pop(name, None)
        if value:
            fields[name] = value
    request = new_rollout(EnqueueRolloutRequest(input=1), RandomIds())
    found = codec.rollout(stored(codec.new_rollout_arguments(request), **fields))

    assert same(found.config.model_dump(), new.model_dump())


def test_defaults_take_no_room():
    request = new_rollout(EnqueueRolloutRequest(input=1, config=RolloutConfig()), RandomIds())

    assert codec.new_rollout_arguments(request)[1:] == ["", b"1", b"", "", 0]


@pytest.mark.parametrize("status", ROLLOUT_STATUSES)
def test_rollout_comes_with_its_latest_attempt(status):
    request = new_rollout(EnqueueRolloutRequest(input=1), RandomIds())
    reply = stored(codec.new_rollout_arguments(request), status=status, end="18.500000")
    reply[-1] = [b"at-1", flat({"number": "2", "status": "failed", "start": "17.500000"}), b""]

    found = codec.rollout(reply)
    assert type(found) is AttemptedRollout
    assert (found.status, found.end_time, found.attempt.rollout_id) == (status, 18.5, found.rollout_id)
    assert type(codec.rollout(reply, with_attempt=False)) is Rollout


def test_rollout_without_its_task_is_a_fault_of_the_store():
    with pytest.raises(InternalStoreError, match="ro-1 has no task"):
        codec.rollout([b"ro-1", flat({"status": "queuing", "start": "1"}), b"", b"", b""])


STATUS = flat({"status": "running", "start": "1", "number": "1"})
CONSTRUCTED = [
    codec.rollout([b"ro-1", STATUS, b"1", b"", b""]),
    codec.rollout([b"ro-1", STATUS, b"1", b"", [b"at-1", STATUS, b""]]),
    codec.created_rollout(new_rollout(EnqueueRolloutRequest(input=1), RandomIds()), b"1", b""),
    codec.worker([b"w", flat({"status": "busy"}), b""]),
    codec.completion(
        [b"7-1", flat({"rollout": "ro", "status": "failed", "mode": "", "group": "", "start": "1", "end": "2"})]
    ),
    codec.event(flat({
        "time": "1.5", "rollout": "ro", "attempt": "", "status": "running", "attempt_status": "", "cause": "span",
    })),
    codec.transition([b"ro", b"at", b"w", b"timeout", b"failed", b"timeout", b"0.25"]),
]  # fmt: skip


@pytest.mark.parametrize("record", CONSTRUCTED, ids=lambda record: type(record).__name__)
def test_records_are_those_that_validation_would_make(record):
    validated = type(record).model_validate(record.model_dump())

    assert record == validated
    assert list(vars(record)) == list(vars(validated)) == list(type(record).model_fields)
    assert record.model_fields_set == validated.model_fields_set
    assert (record.model_extra, record.__pydantic_private__) == (validated.model_extra, validated.__pydantic_private__)
    assert record.model_dump_json() == validated.model_dump_json()
    assert record.model_copy(deep=True) == pickle.loads(pickle.dumps(record)) == validated  # noqa: S301 - our own bytes
    with pytest.raises(AttributeError):
        _ = record.unknown


# -- attempts and workers --------------------------------------------------------------------------------------------


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "worker_id": FREE_IDS | st.just(""),
            "last_heartbeat_time": TIMES,
            "resources_id": st.none() | FREE_IDS,
            "resources_version": st.none() | st.integers(1),
            "status": st.sampled_from(ATTEMPT_STATUSES),
        },
    )
)
@example({"worker_id": "="})
@example({"worker_id": "==x"})
def test_changes_of_an_attempt_arrive(changes):
    fields: dict[str, Any] = {"number": "3", "status": "running", "start": "1.500000", "worker": "w", "resources": "rs"}
    pairs = codec.attempt_change_arguments(changes)
    for field, value in zip(pairs[::2], pairs[1::2], strict=True):  # what lua/update_attempt.lua does
        fields.pop(field, None)
        if value != "":
            fields[field] = value[1:]
    found = codec.attempt("ro-1", [b"at-1", flat(fields), dump_json(TRICKY)])

    before = Attempt(
        rollout_id="ro-1", attempt_id="at-1", sequence_id=3, start_time=1.5, status="running", worker_id="w",
        metadata=TRICKY, resources_id="rs",
    )  # fmt: skip
    changes.pop("status", None)
    assert same(found.model_dump(), before.model_copy(update=changes).model_dump())


def test_attempt_with_everything():
    fields = {
        "number": "1", "status": "unresponsive", "start": "1.000001", "end": "2.5", "worker": "w", "beat": "1.75",
        "cause": "worker_lost", "lease": "60.0", "resources": "rs-1", "version": "7", "uncounted": "lost",
        "grace_end": "9", "reward": "1.0", "reward_number": "3",
    }  # fmt: skip
    found = codec.attempt("ro-1", [b"at-1", flat(fields), b"{}"])

    assert found.model_dump() == {
        "rollout_id": "ro-1", "attempt_id": "at-1", "sequence_id": 1, "start_time": 1.000001, "end_time": 2.5,
        "status": "unresponsive", "worker_id": "w", "last_heartbeat_time": 1.75, "metadata": {},
        "cause": "worker_lost", "lease_seconds": 60.0, "resources_id": "rs-1", "resources_version": 7,
    }  # fmt: skip


@given(OBJECTS | st.none())
def test_worker_comes_back(stats):
    fields = {"status": "busy", "beat": "1", "dequeue": "2", "busy": "3", "idle": "4", "rollout": "ro", "attempt": "at"}
    found = codec.worker(["grüß Gott: {1}".encode(), flat(fields), b"" if stats is None else dump_json(stats)])

    assert found.worker_id == "grüß Gott: {1}"
    assert same(found.heartbeat_stats, stats)
    assert (found.last_heartbeat_time, found.last_dequeue_time, found.last_busy_time, found.last_idle_time) == (
        1,
        2,
        3,
        4,
    )
    assert (found.current_rollout_id, found.current_attempt_id) == ("ro", "at")


def test_worker_with_nothing():
    found = codec.worker([b"w", flat({"status": "unknown"}), b""])

    assert found.model_dump(exclude_defaults=True) == {"worker_id": "w"}


# -- spans -----------------------------------------------------------------------------------------------------------


ATTRIBUTES = st.dictionaries(
    TEXT,
    TEXT | st.booleans() | st.integers() | st.floats()
    | st.lists(TEXT, max_size=3) | st.lists(st.booleans(), max_size=3)
    | st.lists(st.integers(), max_size=3) | st.lists(st.floats(), max_size=3),
    max_size=4,
)  # fmt: skip
EXTRA_NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).map(lambda name: "x" + name)
EXTRAS = st.dictionaries(EXTRA_NAMES, JSON, max_size=2)


def with_extras(build):
    """Records of a model, with fields that it does not know."""
    return st.tuples(build, EXTRAS).map(lambda both: type(both[0])(**{**dict(both[0]), **both[1]}))


CONTEXTS = with_extras(
    st.builds(
        SpanContext, trace_id=TEXT, span_id=TEXT, is_remote=st.booleans(), trace_state=st.dictionaries(TEXT, TEXT)
    )
)
SPANS = with_extras(
    st.builds(
        Span,
        rollout_id=NAMES,
        attempt_id=FREE_IDS,
        sequence_id=st.integers(0, 2**63 - 1),
        trace_id=TEXT,
        span_id=TEXT,
        parent_id=st.none() | TEXT,
        name=TEXT,
        status=with_extras(st.builds(TraceStatus, status_code=TEXT, description=st.none() | TEXT)),
        attributes=ATTRIBUTES,
        events=st.lists(
            with_extras(st.builds(Event, name=TEXT, attributes=ATTRIBUTES, timestamp=st.none() | st.floats())),
            max_size=2,
        ),
        links=st.lists(with_extras(st.builds(Link, context=CONTEXTS, attributes=st.none() | ATTRIBUTES)), max_size=2),
        start_time=st.none() | st.floats(),
        end_time=st.none() | st.floats(),
        context=st.none() | CONTEXTS,
        parent=st.none() | CONTEXTS,
        resource=with_extras(st.builds(OtelResource, attributes=ATTRIBUTES, schema_url=TEXT)),
    )
)


def stored_span(span: Span) -> list[bytes]:
    """The stream entry that lua/add_many_spans.lua writes."""
    return [b"a", span.attempt_id.encode(), b"s", str(span.sequence_id).encode(), b"d", codec.span_payload(span)]


@given(SPANS)
@example(rich_span("ro-1", "at-1"))
@example(rich_span("ro-1", "at-1", extra=TRICKY, more=SURROGATES, sequence_id=2**63 - 1))
@example(rich_span("ro-1", "at-1", attributes={"": "", "nul\x00": "\x00", "n": math.nan, "i": -math.inf, "empty": []}))
@example(rich_span("ro-1", "at-1", attributes={"text": "long " * 10_000}))
@settings(max_examples=150)
def test_span_comes_back_to_the_byte(span):
    found = codec.span(span.rollout_id, stored_span(span))

    assert same(found.model_dump(), span.model_dump())
    assert codec.span_payload(found) == codec.span_payload(span)


@pytest.mark.parametrize(("span_id", "argument"), [
    ("0" * 16, "0"), ("0" * 15 + "1", "1"), ("7" + "f" * 15, str(2**63 - 1)), ("8" + "0" * 15, str(-(2**63))),
    ("f" * 16, "-1"), ("F" * 16, ":" + "F" * 16), ("1" * 15, ":" + "1" * 15), ("1" * 17, ":" + "1" * 17),
    ("", ":"), (":1", "::1"), ("0x" + "1" * 14, ":0x" + "1" * 14), ("1_" + "1" * 14, ":1_" + "1" * 14),
    ("٣" * 16, ":" + "٣" * 16), (" " + "1" * 15, ": " + "1" * 15), ("-" + "1" * 15, ":-" + "1" * 15),
])  # fmt: skip
def test_span_id_is_an_integer_exactly_when_it_is_16_lower_case_hex_digits(span_id, argument):
    assert codec.span_id_argument(span_id) == argument


@given(st.integers(0, 2**64 - 1))
def test_span_ids_of_hex_digits_are_told_apart(number):
    argument = codec.span_id_argument(f"{number:016x}")

    assert struct.unpack(">Q", struct.pack(">q", int(argument)))[0] == number


# -- logs ------------------------------------------------------------------------------------------------------------


def test_completion_with_and_without_its_options():
    fields = {"rollout": "ro-1", "status": "failed", "mode": "val", "group": "g", "start": "1.5", "end": "2.5"}
    found = codec.completion([b"7-1", flat(fields)])
    assert found.model_dump() == {
        "cursor": "7-1", "rollout_id": "ro-1", "status": "failed", "mode": "val", "group_id": "g", "start_time": 1.5,
        "end_time": 2.5,
    }  # fmt: skip
    found = codec.completion([b"7-1", flat(fields | {"mode": "", "group": ""})])
    assert (found.mode, found.group_id) == (None, None)


def test_event_with_and_without_attempt():
    fields = {"time": "1.5", "rollout": "ro", "attempt": "at", "status": "running", "attempt_status": "running",
              "cause": "span"}  # fmt: skip
    found = codec.event(flat(fields))
    assert (found.time, found.attempt_id, found.attempt_status, found.cause) == (1.5, "at", "running", "span")
    found = codec.event(flat(fields | {"attempt": "", "attempt_status": ""}))
    assert (found.attempt_id, found.attempt_status) == (None, None)


def test_transition_with_and_without_worker():
    reply = [b"ro", b"at", b"w", b"timeout", b"failed", b"timeout", b"0.250000"]
    assert codec.transition(reply).model_dump() == {
        "rollout_id": "ro", "attempt_id": "at", "worker_id": "w", "attempt_status": "timeout",
        "rollout_status": "failed", "cause": "timeout", "late_seconds": 0.25,
    }  # fmt: skip
    reply[2] = b""
    assert codec.transition(reply).worker_id is None


def test_resources_come_back():
    body = dump_json({"main": {"resource_type": "llm", "endpoint": "e", "model": "m", "sampling_parameters": TRICKY}})
    found = codec.resources("rs-1", [b"1.5", b"2.5", b"3", body])

    assert (found.create_time, found.update_time, found.version) == (1.5, 2.5, 3)
    assert same(found.resources["main"].model_dump()["sampling_parameters"], TRICKY)
