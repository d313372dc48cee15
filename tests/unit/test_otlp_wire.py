"""Requests that are taken apart without a parser are what protobuf itself reads in them, message by message."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from lightning_store.http import otlp_wire
from lightning_store.http.otlp_wire import TooMuchError, UnreadableError, field, messages_of
from tests.support.otlp import otlp_request, otlp_span

SPANS = st.builds(
    otlp_span,
    st.integers(0, 1000),
    st.dictionaries(
        st.text(max_size=5), st.text(max_size=300) | st.integers(-5, 5) | st.lists(st.floats()), max_size=4
    ),
    start_time_unix_nano=st.integers(0, 2**64 - 1),
    events=st.lists(st.builds(Span.Event, name=st.text(max_size=5)), max_size=2),
)
REQUESTS = st.builds(
    lambda blocks: ExportTraceServiceRequest(
        resource_spans=[block for spans, name in blocks for block in otlp_request(spans, {"n": name}).resource_spans]
    ),
    st.lists(st.tuples(st.lists(SPANS, max_size=4), st.text(max_size=200)), max_size=3),
)


def as_protobuf_reads(request):
    """The messages of a request, from the parser."""
    for of_resource in request.resource_spans:
        head = ResourceSpans.FromString(of_resource.SerializeToString())
        head.ClearField("scope_spans")
        yield head
        for of_scope in of_resource.scope_spans:
            head = ScopeSpans.FromString(of_scope.SerializeToString())
            head.ClearField("spans")
            yield head
            yield from of_scope.spans


@given(REQUESTS)
@example(otlp_request([otlp_span(1, {"text": "x" * 20_000, "list": [1, [2.0, {"a": b"b"}]]})]))
def test_messages_are_those_of_the_parser(request):
    body = request.SerializeToString()
    assert [message for message, _ in messages_of(body)] == list(as_protobuf_reads(request))


@given(REQUESTS, st.data())
def test_bytes_are_a_request_exactly_if_the_parser_takes_them_for_one(request, data):
    body = bytearray(request.SerializeToString())
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    try:
        read = list(as_protobuf_reads(ExportTraceServiceRequest.FromString(bytes(body))))
    except DecodeError:
        read = None
    try:
        found = [message for message, _ in messages_of(bytes(body))]
    except DecodeError:
        found = None
    except UnreadableError as error:
        if "type of a field" in str(error):
            return  # it may be a group, which protobuf has given up
        found = None
    assert found == read


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a", b"\x0a\x05ab", b"\x0a\xff", b"\x08", b"\x08\xff", b"\x09\x01", b"\x0d\x01", b"\x02\x00", b"\xff" * 11,
        b"\x0b\x0c", b"\x0f", b"\x0a\x02\x12\x05", b"\x0a\x04\x12\x02\x12\x09",
    ],
)  # fmt: skip
def test_what_is_none_is_refused(body):
    with pytest.raises(UnreadableError):
        list(messages_of(body))


def test_fields_of_the_future_are_no_errors_at_any_level():
    later = b"\xf8\x3f\x01" + b"\xf9\x3f" + bytes(8) + b"\xfd\x3f" + bytes(4) + b"\xfa\x3f\x01x"
    span = otlp_span(7).SerializeToString()
    scope = later + field(2, span + later) + later
    body = later + field(1, field(2, scope) + later) + later

    assert [type(message).__name__ for message, _ in messages_of(body)] == ["ResourceSpans", "ScopeSpans", "Span"]
    assert [size for _, size in messages_of(body)][-1] == len(span + later)


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16_383, 16_384, 3_000_000])
def test_field_is_written_as_protobuf_writes_it(length):
    block = ScopeSpans(schema_url="x" * length)
    written = ResourceSpans(scope_spans=[block]).SerializeToString()
    assert field(2, block.SerializeToString()) == written


# -- how many ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [1, 2, 3])
def test_groups_and_spans_are_counted(monkeypatch, level):
    monkeypatch.setattr(otlp_wire, "MOST_PARTS", 50)

    def body(count):
        inside = b"".join(field((1, 2, 2)[level - 1], b"") for _ in range(count))
        return inside if level == 1 else field(1, inside if level == 2 else field(2, inside))

    assert len(list(messages_of(body(51 - level)))) == 50
    with pytest.raises(TooMuchError, match="at most 50 resources, scopes and spans"):
        list(messages_of(body(52 - level)))


@pytest.mark.parametrize(
    ("wrap", "number"),
    [
        (lambda inside: field(1, field(2, field(2, inside))), 9),
        (lambda inside: field(1, field(2, field(2, field(11, inside)))), 3),
        (lambda inside: field(1, field(2, field(2, field(9, field(2, field(5, inside)))))), 1),
        (lambda inside: field(1, field(2, field(2, field(9, field(2, field(6, inside)))))), 1),
        (lambda inside: field(1, field(2, field(2, inside))), 13),
        (lambda inside: field(1, field(2, field(1, inside))), 3),
        (lambda inside: field(1, field(1, inside)), 1),
    ],
    ids=["attributes", "of events", "of lists", "of maps", "links", "of scopes", "of resources"],
)
def test_attributes_and_items_of_one_message_are_counted(monkeypatch, wrap, number):
    monkeypatch.setattr(otlp_wire, "MOST_VALUES", 10_000)
    monkeypatch.setattr(otlp_wire, "_UNCOUNTED_BYTES", 10_000)
    few, many = (wrap(field(number, b"") * count) for count in (9_990, 10_001))

    assert list(messages_of(few))
    with pytest.raises(TooMuchError, match="at most 10000 attributes and items of lists in one span"):
        list(messages_of(many))


@pytest.mark.parametrize(
    "body", [field(5, b"") * 101, field(1, field(2, b"") * 51), field(1, field(2, field(9, b"") * 51))]
)
def test_fields_that_are_looked_at_are_counted(monkeypatch, body):
    monkeypatch.setattr(otlp_wire, "MOST_FIELDS", 100)
    with pytest.raises(TooMuchError, match="at most 100 fields"):
        list(messages_of(body))


def test_values_that_nest_too_deep_are_refused():
    deep = b""
    for _ in range(5_000):
        deep = field(5, field(1, deep))
    with pytest.raises((UnreadableError, DecodeError)):
        list(messages_of(field(1, field(2, field(2, field(9, field(2, deep)))))))


def test_span_that_is_long_and_has_few_values_is_taken():
    span = otlp_span(1, {"text": "\x00" * 3_000_000, "list": list(range(5000))})
    request = otlp_request([span])
    assert [message for message, _ in messages_of(request.SerializeToString())][-1] == span
