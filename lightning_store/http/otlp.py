"""OTLP's spans as records of the store: whose they are, their numbers, and what becomes of each of their fields.

What the record cannot hold becomes text by the rule of `conversion.attribute_value`. What the reference drops (kind,
scope, trace state, flags, counts of what was dropped) is kept as extra fields, each only where the sender gave one.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2 as otlp

from lightning_store.conversion import SEQUENCE_ID, Identity, attribute_value, identity_of
from lightning_store.http.otlp_wire import messages_of
from lightning_store.requests import MAX_SEQUENCE_ID
from lightning_store.spans import Event, Link, OtelResource, Span, SpanContext, TraceStatus

_STATUSES: Final = {0: "UNSET", 1: "OK", 2: "ERROR"}

# The texts that `Span.from_opentelemetry` gives, so that spans have one form of it by whichever way they came.
_KINDS: Final = {
    1: "SpanKind.INTERNAL", 2: "SpanKind.SERVER", 3: "SpanKind.CLIENT", 4: "SpanKind.PRODUCER", 5: "SpanKind.CONSUMER",
}  # fmt: skip

_IS_REMOTE: Final = otlp.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
_TRACE_FLAGS: Final = otlp.SPAN_FLAGS_TRACE_FLAGS_MASK


@dataclass(frozen=True)
class IncomingSpan:
    """One span of a request.

    Attributes:
        span: The record; its number is 0 if it has to be given one.
        is_numbered: The sender gave a number that can be kept.
        size: Bytes that it took in the request, about what it takes in memory.
    """

    span: Span
    is_numbered: bool
    size: int


def incoming_spans(request: bytes) -> Iterator[IncomingSpan | None]:
    """The spans of a request in their order, each made when it is asked for.

    Args:
        request: In protobuf, found to be sound.

    Yields:
        A span; None for one that is left out because it names no rollout or no attempt.
    """
    resource, scope = _resource(otlp.ResourceSpans()), _scope(otlp.ScopeSpans())
    for message, size in messages_of(request):
        if isinstance(message, otlp.ResourceSpans):
            resource = _resource(message)
        elif isinstance(message, otlp.ScopeSpans):
            scope = _scope(message)
        else:
            yield _incoming(message, size, resource, scope)


def _incoming(span: otlp.Span, size: int, resource: OtelResource, scope: dict[str, Any]) -> IncomingSpan | None:
    attributes = _attributes(span.attributes)
    identity = identity_of(attributes, resource.attributes)
    if identity is None:
        return None
    number = _number(attributes.get(SEQUENCE_ID, resource.attributes.get(SEQUENCE_ID)))
    record = _record(span, identity, number or 0, attributes, resource, scope)
    return IncomingSpan(record, number is not None, size)


def _record(
    span: otlp.Span,
    identity: Identity,
    number: int,
    attributes: dict[str, Any],
    resource: OtelResource,
    scope: dict[str, Any],
) -> Span:
    trace_id, span_id = _hex(span.trace_id, 32), _hex(span.span_id, 16)
    return Span(
        rollout_id=identity[0],
        attempt_id=identity[1],
        sequence_id=number,
        trace_id=trace_id,
        span_id=span_id,
        parent_id=_hex(span.parent_span_id, 16) if span.parent_span_id else None,
        name=span.name,
        status=TraceStatus(
            status_code=_STATUSES.get(span.status.code, "UNSET"), description=span.status.message or None
        ),
        attributes=attributes,
        events=[_event(event) for event in span.events],
        links=[_link(link) for link in span.links],
        start_time=_seconds(span.start_time_unix_nano),
        end_time=_seconds(span.end_time_unix_nano),
        context=SpanContext(trace_id=trace_id, span_id=span_id, is_remote=False, trace_state={}),
        parent=None,
        resource=resource,
        **scope,
        **_given(
            kind=_KINDS.get(span.kind),
            trace_state=span.trace_state,
            flags=span.flags,
            dropped_attributes_count=span.dropped_attributes_count,
            dropped_events_count=span.dropped_events_count,
            dropped_links_count=span.dropped_links_count,
        ),
    )


def _event(event: otlp.Span.Event) -> Event:
    return Event(
        name=event.name,
        attributes=_attributes(event.attributes),
        timestamp=_seconds(event.time_unix_nano),
        **_given(dropped_attributes_count=event.dropped_attributes_count),
    )


def _link(link: otlp.Span.Link) -> Link:
    context = SpanContext(
        trace_id=_hex(link.trace_id, 32),
        span_id=_hex(link.span_id, 16),
        is_remote=bool(link.flags & _IS_REMOTE),
        trace_state={},
    )
    extras = _given(
        trace_state=link.trace_state,
        flags=link.flags,
        dropped_attributes_count=link.dropped_attributes_count,
    )
    return Link(context=context, attributes=_attributes(link.attributes) or None, **extras)


def _resource(block: otlp.ResourceSpans) -> OtelResource:
    return OtelResource(
        attributes=_attributes(block.resource.attributes),
        schema_url=block.schema_url,
        **_given(dropped_attributes_count=block.resource.dropped_attributes_count),
    )


def _scope(block: otlp.ScopeSpans) -> dict[str, Any]:
    """The extra field `scope`; none for the nameless scope."""
    scope = block.scope
    return _given(
        scope=_given(
            name=scope.name,
            version=scope.version,
            attributes=_attributes(scope.attributes),
            dropped_attributes_count=scope.dropped_attributes_count,
            schema_url=block.schema_url,
        )
    )


def _given(**fields: Any) -> dict[str, Any]:
    """The fields that have a value; OTLP does not tell an empty one from none."""
    return {name: value for name, value in fields.items() if value}


def _attributes(items: Iterable[KeyValue]) -> dict[str, Any]:
    return {item.key: attribute_value(_plain(item.value)) for item in items}


def _plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {item.key: _plain(item.value) for item in value.kvlist_value.values}
    return getattr(value, kind)


def _number(value: Any) -> int | None:
    """A number that the store takes, whether it came as one or as text; None for anything else."""
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        return None
    try:
        number = int(value)
    except (TypeError, ValueError):
        return None
    return number if 0 <= number < MAX_SEQUENCE_ID else None


def _hex(id: bytes, digits: int) -> str:
    return id.hex().zfill(digits)


def _seconds(nanoseconds: int) -> float | None:
    return nanoseconds / 1_000_000_000 if nanoseconds else None
