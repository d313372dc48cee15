"""OTLP's spans become records: section 7 of the contract, word by word, and what we keep besides."""

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState

from lightning_store.http.otlp import incoming_spans
from lightning_store.spans import Span
from tests.support.otlp import TRACE_ID, ids, key_values, otlp_request, otlp_span

IDS = ids("ro-1", "at-1")


def converted(attributes=None, resource=None, **fields):
    """The record of one span, with the ids on its resource unless said otherwise."""
    request = otlp_request([otlp_span(1, attributes, **fields)], IDS if resource is None else resource)
    (incoming,) = incoming_spans(request.SerializeToString())
    return incoming.span


def numbering(value, **where):
    """Whether a number was taken, and which."""
    attributes = {"agentlightning.span_sequence_id": value}
    request = otlp_request([otlp_span(1, attributes if not where else {})], IDS | (where and attributes))
    (incoming,) = incoming_spans(request.SerializeToString())
    return incoming.span.sequence_id if incoming.is_numbered else None


def test_every_field_of_a_bare_span():
    span = converted()

    assert span.model_dump() == {
        "rollout_id": "ro-1",
        "attempt_id": "at-1",
        "sequence_id": 0,
        "trace_id": TRACE_ID.hex(),
        "span_id": "0000000000000001",
        "parent_id": None,
        "name": "step 1",
        "status": {"status_code": "UNSET", "description": None},
        "attributes": {},
        "events": [],
        "links": [],
        "start_time": None,
        "end_time": None,
        "context": {
            "trace_id": TRACE_ID.hex(), "span_id": "0000000000000001", "is_remote": False, "trace_state": {},
        },
        "parent": None,
        "resource": {"attributes": IDS, "schema_url": ""},
    }  # fmt: skip


def test_ids_are_padded_hex():
    span = converted(trace_id=b"\xab", span_id=b"", parent_span_id=b"\x00\x07")

    assert (span.trace_id, span.span_id, span.parent_id) == ("ab".zfill(32), "0" * 16, "7".zfill(16))
    assert (span.context.trace_id, span.context.span_id) == (span.trace_id, span.span_id)


@pytest.mark.parametrize(("code", "name"), [(0, "UNSET"), (1, "OK"), (2, "ERROR"), (9, "UNSET")])
def test_status(code, name):
    span = converted(status=Status(code=code, message="why"))

    assert (span.status.status_code, span.status.description) == (name, "why")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", "text"),
        ("", ""),
        (True, True),
        (2**62 + 1, 2**62 + 1),
        (-1, -1),
        (1.0, 1.0),
        (float("inf"), float("inf")),
        ([], []),
        (["a", "ü\x00"], ["a", "ü\x00"]),
        ([1, 2], [1, 2]),
        ([1, 2.5], [1.0, 2.5]),
        ([True, False], [True, False]),
        (b"\xff\x00", "ff00"),
        ([b"\x01", b"\x02"], ["01", "02"]),
        (None, ""),
        (["a", None], '["a", null]'),
        (["a", 1], '["a", 1]'),
        ([[1], [2]], "[[1], [2]]"),
        ({"k": [1, None], "b": b"\x01"}, '{"k": [1, null], "b": "01"}'),
        ({}, "{}"),
    ],
)
def test_attributes_are_kept_as_sent_and_become_text_where_the_record_cannot_hold_them(value, expected):
    attribute = converted({"key": value}).attributes["key"]

    assert attribute == expected
    assert type(attribute) is type(expected)


def test_attributes_of_resource_event_link_and_scope_follow_the_same_rule():
    request = otlp_request([otlp_span(events=[OtlpSpan.Event()], links=[OtlpSpan.Link()])], {**IDS, "map": {"k": None}})
    scope = request.resource_spans[0].scope_spans[0]
    for holder in (scope.scope, scope.spans[0].events[0], scope.spans[0].links[0]):
        holder.attributes.extend(key_values({"map": {"k": None}}))
    (incoming,) = incoming_spans(request.SerializeToString())
    span = incoming.span

    expected = {"map": '{"k": null}'}
    assert span.resource.attributes == {**IDS, **expected}
    assert span.events[0].attributes == span.links[0].attributes == span.model_extra["scope"]["attributes"] == expected


def test_times_are_seconds_and_zero_is_none():
    span = converted(
        start_time_unix_nano=1_700_000_000_500_000_000,
        end_time_unix_nano=5,
        events=[OtlpSpan.Event(name="a", time_unix_nano=1_700_000_000_750_000_000), OtlpSpan.Event(name="b")],
    )

    assert (span.start_time, span.end_time) == (1_700_000_000.5, 5e-9)
    assert [(event.name, event.timestamp) for event in span.events] == [("a", 1_700_000_000.75), ("b", None)]


def test_links():
    links = [
        OtlpSpan.Link(trace_id=b"\x01", span_id=b"\x02", attributes=key_values({"why": "x"})),
        OtlpSpan.Link(trace_id=TRACE_ID, flags=0x301, trace_state="a=1", dropped_attributes_count=2),
    ]
    first, second = converted(links=links).links

    assert first.model_dump() == {
        "context": {"trace_id": "1".zfill(32), "span_id": "2".zfill(16), "is_remote": False, "trace_state": {}},
        "attributes": {"why": "x"},
    }
    assert (second.attributes, second.context.is_remote) == (None, True)
    assert second.model_extra == {"trace_state": "a=1", "flags": 0x301, "dropped_attributes_count": 2}


def test_what_the_reference_drops_is_kept_as_extra_fields():
    span = otlp_span(
        kind=OtlpSpan.SPAN_KIND_SERVER,
        trace_state="vendor=1,other=2",
        flags=0x101,
        dropped_attributes_count=1,
        dropped_events_count=2,
        dropped_links_count=3,
        events=[OtlpSpan.Event(name="e", dropped_attributes_count=4)],
    )
    request = otlp_request([span], IDS)
    request.resource_spans[0].schema_url = "https://resource"
    request.resource_spans[0].resource.dropped_attributes_count = 5
    scope = request.resource_spans[0].scope_spans[0]
    scope.schema_url = "https://scope"
    scope.scope.name, scope.scope.version = "lib", "1.2"
    scope.scope.attributes.extend(key_values({"a": [1, 2]}))
    record = next(incoming_spans(request.SerializeToString())).span

    assert record.model_extra == {
        "kind": "SpanKind.SERVER",
        "scope": {"name": "lib", "version": "1.2", "attributes": {"a": [1, 2]}, "schema_url": "https://scope"},
        "trace_state": "vendor=1,other=2",
        "flags": 0x101,
        "dropped_attributes_count": 1,
        "dropped_events_count": 2,
        "dropped_links_count": 3,
    }
    assert record.events[0].model_extra == {"dropped_attributes_count": 4}
    assert record.resource.schema_url == "https://resource"
    assert record.resource.model_extra == {"dropped_attributes_count": 5}


def test_ids_on_the_span_win_over_those_on_its_resource_each_by_itself():
    span = converted({"agentlightning.rollout_id": "ro-2"}, IDS)

    assert (span.rollout_id, span.attempt_id) == ("ro-2", "at-1")
    assert span.attributes == {"agentlightning.rollout_id": "ro-2"}


@pytest.mark.parametrize(("value", "text"), [(7, "7"), (True, "True"), (1.5, "1.5"), ("x", "x"), (b"\xab", "ab")])
def test_any_scalar_is_read_as_text(value, text):
    assert converted({"agentlightning.rollout_id": value}).rollout_id == text


@pytest.mark.parametrize(
    "attributes",
    [{}, {"agentlightning.rollout_id": "ro-1"}, {"agentlightning.attempt_id": "at-1"}, ids(["ro-1"], "at-1")],
)
def test_spans_without_an_id_are_left_out(attributes):
    request = otlp_request([otlp_span(1, attributes), otlp_span(2, IDS), otlp_span(3, attributes)])

    found = list(incoming_spans(request.SerializeToString()))

    assert [each and each.span.name for each in found] == [None, "step 2", None]


@pytest.mark.parametrize(
    ("value", "number"),
    [(0, 0), (7, 7), ("12", 12), (3.0, 3), (2**63 - 1, 2**63 - 1), ("9223372036854775807", 2**63 - 1)],
)
def test_number_of_zero_or_more_is_used_as_it_is(value, number):
    assert numbering(value) == number
    assert numbering(value, on="resource") == number


@pytest.mark.parametrize(
    "value", [-1, "-1", 1.5, "1.5", "", "soon", True, None, [1], {"n": 1}, float("nan"), float("inf"), str(2**63), 1e30]
)  # fmt: skip
def test_number_that_is_none_is_left_to_the_store(value):
    assert numbering(value) is None


def test_spans_keep_their_order_and_their_resources():
    request = otlp_request([otlp_span(1), otlp_span(2)], IDS)
    request.resource_spans.extend(otlp_request([otlp_span(3)], {**IDS, "service.name": "other"}).resource_spans)

    found = list(incoming_spans(request.SerializeToString()))

    assert [each.span.name for each in found] == ["step 1", "step 2", "step 3"]
    assert ["service.name" in each.span.resource.attributes for each in found] == [False, False, True]


def test_both_ways_into_the_store_give_the_same_record():
    """A span of the SDK, converted directly, and sent as OTLP."""
    resource = Resource({"service.name": "agent", **IDS}, "https://schema")
    tracer = TracerProvider(resource=resource, shutdown_on_exit=False).get_tracer("lib", "1.2")
    parent = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("k", "v")]))
    span = tracer.start_span("s", kind=SpanKind.CLIENT, links=[Link(parent, {"why": "x"})])
    span.set_attributes({"n": 1, "texts": ("a", "b"), "ratio": 0.1, "yes": True})
    span.add_event("tick", {"n": (1, 2)})
    span.set_status(StatusCode.ERROR, "broken")
    span.end()

    direct = Span.from_opentelemetry(span, "ro-1", "at-1", 0)
    (incoming,) = incoming_spans(encode_spans([span]).SerializeToString())
    sent = incoming.span

    fields = set(Span.model_fields) - {"links"}
    assert sent.model_dump(include=fields) == direct.model_dump(include=fields)
    assert sent.links[0].attributes == direct.links[0].attributes
    assert sent.links[0].context.is_remote == direct.links[0].context.is_remote
    assert sent.model_extra["kind"] == direct.model_extra["kind"] == "SpanKind.CLIENT"
    assert sent.model_extra["scope"]["name"] == "lib"
