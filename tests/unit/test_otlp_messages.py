"""OTLP's two encodings: both give the same request, and what is none is refused whatever it is."""

import base64
import json

import pytest
from google.protobuf import json_format
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan

from lightning_store.errors import InvalidRequestError
from lightning_store.http.otlp import incoming_spans
from lightning_store.http.otlp_messages import JSON, PROTOBUF, encoding_of
from tests.support.otlp import ids, otlp_request, otlp_span

IDS = ids("ro-1", "at-1")


def full_request():
    span = otlp_span(
        0x0102030405060708,
        {"big": 2**60 + 1, "raw": b"\xff\x00", "list": [1, 2], "map": {"k": None}, "ratio": 0.1, "yes": True},
        kind=OtlpSpan.SPAN_KIND_CLIENT,
        parent_span_id=b"\xab" * 8,
        start_time_unix_nano=1_700_000_000_500_000_001,
        links=[OtlpSpan.Link(trace_id=b"\xcd" * 16, span_id=b"\xef" * 8)],
        flags=0x101,
    )
    return otlp_request([span], IDS)


def as_json(request):
    """OTLP/JSON as the specification has it: protobuf's JSON, but ids in hex and enums as numbers."""
    tree = json_format.MessageToDict(request, use_integers_for_enums=True)
    for of_resource in tree["resourceSpans"]:
        for of_scope in of_resource["scopeSpans"]:
            for span in of_scope["spans"]:
                for node in (span, *span.get("links", ())):
                    node.update(
                        {key: base64.b64decode(value).hex() for key, value in node.items() if key.endswith("Id")}
                    )
    return tree


def span_json(**fields):
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [fields]}]}]}).encode()


def read(encoding, body):
    """The request in a body, as protobuf itself reads it."""
    return ExportTraceServiceRequest.FromString(encoding.read(body))


def only_span(body):
    return read(JSON, body).resource_spans[0].scope_spans[0].spans[0]


def test_both_encodings_give_the_same_records():
    request = full_request()

    from_protobuf = list(incoming_spans(PROTOBUF.read(request.SerializeToString())))
    from_json = list(incoming_spans(JSON.read(json.dumps(as_json(request)).encode())))

    assert from_json == from_protobuf
    assert from_json[0].span.span_id == "0102030405060708"


def test_long_integers_come_as_numbers_or_text_and_ids_in_either_case():
    for number in (2**60 + 1, str(2**60 + 1)):
        span = only_span(
            span_json(traceId="AB" * 16, spanId="cd" * 8, startTimeUnixNano=number,
                      attributes=[{"key": "n", "value": {"intValue": number}}])
        )  # fmt: skip
        assert (span.trace_id, span.span_id, span.start_time_unix_nano) == (b"\xab" * 16, b"\xcd" * 8, 2**60 + 1)
        assert span.attributes[0].value.int_value == 2**60 + 1


def test_bytes_values_are_base64_and_names_unknown_are_ignored():
    span = only_span(
        span_json(attributes=[{"key": "b", "value": {"bytesValue": "/wA="}}], future={"x": 1}, spanId=None)
    )

    assert span.attributes[0].value.bytes_value == b"\xff\x00"
    assert span.span_id == b""


@pytest.mark.parametrize("kind", ["SPAN_KIND_CLIENT", 3])
def test_enums_come_as_numbers_and_by_name(kind):
    assert only_span(span_json(kind=kind)).kind == OtlpSpan.SPAN_KIND_CLIENT


@pytest.mark.parametrize("kind", ["no such kind", 99])
def test_enums_of_the_future_are_no_errors(kind):
    request = JSON.read(
        span_json(kind=kind, attributes=[{"key": k, "value": {"stringValue": v}} for k, v in IDS.items()])
    )

    assert "kind" not in next(incoming_spans(request)).span.model_extra


def test_empty_bodies_are_empty_requests():
    for encoding in (PROTOBUF, JSON):
        assert encoding.read(b"") == b""


def test_answers():
    assert (PROTOBUF.success(0, ""), JSON.success(0, "")) == (b"", b"{}")
    assert json.loads(JSON.success(3, "why")) == {"partialSuccess": {"rejectedSpans": "3", "errorMessage": "why"}}
    assert json.loads(JSON.error("why")) == {"message": "why"}


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("application/x-protobuf", PROTOBUF),
        ("Application/X-Protobuf ; charset=utf-8", PROTOBUF),
        ("application/json; charset=utf-8", JSON),
        ("application/protobuf", None),
        ("text/plain", None),
        ("", None),
    ],
)
def test_content_types(content_type, encoding):
    assert encoding_of(content_type) is encoding


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"[]", b"1", b"null", b'"text"', b"\xff\xfe", b'{"resourceSpans": 1}', b'{"resourceSpans": {}}',
        b'{"resourceSpans": [1]}', b'{"resourceSpans": [null]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [[]]}]}]}',
        b'{"resourceSpans": [{"resource": 5}]}', b"[" * 100_000, b'{"resourceSpans": ' * 100_000,
        span_json(traceId="xyz"), span_json(traceId="abc"), span_json(spanId="ab cd"), span_json(spanId=12),
        span_json(links=[{"traceId": "q0"}]), span_json(links=5), span_json(name=5),
        span_json(startTimeUnixNano=-1), span_json(startTimeUnixNano=2**64),
        span_json(startTimeUnixNano=1.5), span_json(startTimeUnixNano="soon"), span_json(flags=2**32),
        span_json(name="\ud800"), span_json(attributes=[{"key": "a", "value": {"intValue": 2**63}}]),
        span_json(attributes=[{"key": "a", "value": {"doubleValue": float("nan")}}]),
        span_json(attributes=[{"key": "a", "value": {"boolValue": 1}}]),
        span_json(attributes=[{"key": "a", "value": {"intValue": 1, "stringValue": "b"}}]),
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": ' + b"9" * 10_000 + b"}]}]}]}",
    ],
)  # fmt: skip
def test_json_that_is_no_request_is_refused(body):
    with pytest.raises(InvalidRequestError, match=r"Unable to parse OTLP traces payload: ."):
        JSON.read(body)


def nested(depth):
    value = '{"arrayValue": {"values": [' * depth + '{"stringValue": "x"}' + "]}}" * depth
    return span_json(attributes=[{"key": "deep", "value": {}}]).replace(b"{}", value.encode())


def test_values_nested_too_deep_are_refused_and_others_become_text():
    request = read(JSON, nested(20))
    request.resource_spans[0].resource.CopyFrom(otlp_request([], IDS).resource_spans[0].resource)
    (incoming,) = incoming_spans(request.SerializeToString())
    assert incoming.span.attributes["deep"] == "[" * 20 + '"x"' + "]" * 20

    with pytest.raises(InvalidRequestError, match="Unable to parse"):
        JSON.read(nested(5000))


@pytest.mark.parametrize(
    "body", [b"\x0a", b"\x0a\xff", b"garbage", b"\x0a\x05ab", b"\xff" * 100, b'{"resourceSpans": []}']
)
def test_bytes_that_are_no_request_are_refused(body):
    with pytest.raises(InvalidRequestError, match=r"Unable to parse OTLP traces payload: ."):
        PROTOBUF.read(body)


@given(st.binary(max_size=200))
@example(b"\x0a\x02\x12\x00")
def test_any_bytes_are_a_request_or_refused(body):
    for encoding in (PROTOBUF, JSON):
        try:
            request = encoding.read(body)
        except InvalidRequestError:
            continue
        list(incoming_spans(request))


@given(st.data())
def test_protobuf_with_bytes_changed_is_a_request_or_refused(data):
    body = bytearray(full_request().SerializeToString())
    for _ in range(data.draw(st.integers(1, 5))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        request = PROTOBUF.read(bytes(body))
    except InvalidRequestError:
        return
    list(incoming_spans(request))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(tree, above=()):
    """The path of everything in a JSON value."""
    yield above
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from places(value, (*above, key))


def replaced(tree, path, value):
    if not path:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[path[0]] = replaced(copy[path[0]], path[1:], value)
    return copy


@given(st.data())
def test_json_with_anything_anywhere_is_a_request_or_refused(data):
    tree = as_json(full_request())
    path = data.draw(st.sampled_from(list(places(tree))))
    body = json.dumps(replaced(tree, path, data.draw(JUNK))).encode()
    try:
        request = JSON.read(body)
    except InvalidRequestError:
        return
    list(incoming_spans(request))
