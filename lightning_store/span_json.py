"""Spans as JSON and back, without validating again what was validated when it came in.

A span is stored as one JSON object without what finds it: the ids of its rollout and attempt, and its number. Pydantic
needs several times as long for either way, and there are more spans than anything else.
"""

from typing import Any, Final, TypeVar

from pydantic import BaseModel

from lightning_store.jsonvalue import are_json, encode_json, encode_json_strictly, load_json
from lightning_store.records import constructed
from lightning_store.spans import Event, Link, OtelResource, Span, SpanContext, TraceStatus

Record = TypeVar("Record", bound=BaseModel)

_NAMES: Final[dict[type[BaseModel], tuple[str, ...]]] = {
    model: tuple(model.model_fields) for model in (Span, TraceStatus, Event, Link, OtelResource, SpanContext)
}
_STORED_APART: Final = {"rollout_id", "attempt_id", "sequence_id"}


class _Irregular(Exception):  # noqa: N818 - no error: pydantic decides what becomes of the span
    """A part of a span is not what its model makes it, or holds what may be no JSON."""


def encode_span(span: Span) -> bytes:
    """The JSON of a span without what is stored apart."""
    try:
        return encode_json(_fields_of_span(span))
    except _Irregular:
        return encode_json_strictly(span.model_dump(exclude=_STORED_APART))


def _fields_of_span(span: Span) -> dict[str, Any]:
    fields = _fields(Span, span)
    for name in _STORED_APART:
        del fields[name]
    fields["status"] = _fields(TraceStatus, span.status)
    fields["attributes"] = _attributes(span.attributes)
    fields["resource"] = _with_attributes(OtelResource, span.resource)
    if span.events:
        fields["events"] = [_with_attributes(Event, event) for event in span.events]
    if span.links:
        fields["links"] = [_link(link) for link in span.links]
    if span.context is not None:
        fields["context"] = _fields(SpanContext, span.context)
    if span.parent is not None:
        fields["parent"] = _fields(SpanContext, span.parent)
    return fields


def _fields(model: type[BaseModel], record: BaseModel) -> dict[str, Any]:
    """All fields of a part of a span."""
    if type(record) is not model:
        raise _Irregular
    extra = record.__pydantic_extra__
    if not extra:
        return record.__dict__.copy()
    if not are_json(extra.values()):
        raise _Irregular
    return {**record.__dict__, **extra}


def _with_attributes(model: type[BaseModel], record: OtelResource | Event) -> dict[str, Any]:
    fields = _fields(model, record)
    _attributes(fields["attributes"])
    return fields


def _link(link: Link) -> dict[str, Any]:
    fields = _fields(Link, link)
    fields["context"] = _fields(SpanContext, link.context)
    if link.attributes is not None:
        _attributes(link.attributes)
    return fields


def _attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    if type(attributes) is not dict or not are_json(attributes.values()):
        raise _Irregular
    return attributes


def decode_span(rollout_id: str, attempt_id: str, sequence_id: int, data: bytes) -> Span:
    """The span of what `encode_span` has made."""
    fields: dict[str, Any] = {"rollout_id": rollout_id, "attempt_id": attempt_id, "sequence_id": sequence_id}
    fields.update(load_json(data))
    fields["status"] = _record(TraceStatus, fields["status"])
    fields["resource"] = _record(OtelResource, fields["resource"])
    if fields["events"]:
        fields["events"] = [_record(Event, event) for event in fields["events"]]
    if fields["links"]:
        fields["links"] = [_record(Link, _with_context(link, "context")) for link in fields["links"]]
    return _record(Span, _with_context(_with_context(fields, "context"), "parent"))


def _with_context(fields: dict[str, Any], name: str) -> dict[str, Any]:
    if fields[name] is not None:
        fields[name] = _record(SpanContext, fields[name])
    return fields


def _record(model: type[Record], fields: dict[str, Any]) -> Record:
    """A part of a span from all of its fields; those that its model does not know stand behind the others."""
    names = _NAMES[model]
    if (*fields,) == names:
        return constructed(model, fields, {})
    known = {name: fields.pop(name) for name in names}
    return constructed(model, known, fields)
