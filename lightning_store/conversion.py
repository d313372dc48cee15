"""Conversion of OpenTelemetry spans, and of objects that only look like one, to the span record, and whose they are.

OpenTelemetry itself is not imported: objects are read by the names of their attributes.
"""

import json
import math
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeGuard, TypeVar, cast

from lightning_store.records import constructed
from lightning_store.spans import Event, Link, OtelResource, Span, SpanContext, TraceStatus, checked_attribute

ROLLOUT_ID: Final = "agentlightning.rollout_id"
ATTEMPT_ID: Final = "agentlightning.attempt_id"
SEQUENCE_ID: Final = "agentlightning.span_sequence_id"

NANOSECONDS_ABOVE: Final = 1e12
"""Larger times are nanoseconds: as seconds they would lie 30,000 years ahead."""

MAX_DEPTH: Final = 100
"""Extra fields that are nested deeper are kept by their string form; the store refuses JSON below 200 levels."""

_MACHINERY: Final = frozenset({
    "lock", "limits", "sampler", "span_processor", "trace_config", "record_exception", "set_status_on_exception",
    "record_end_metrics",
})  # fmt: skip
"""What a live span of the SDK carries besides its data, as instance attributes without underscores."""

_PLAIN: Final[dict[type, Callable[[Any], Any]]] = {bool: bool, int: int, float: float, str: str.__str__}

Identity = tuple[str, str]
"""Rollout and attempt id."""

ModelT = TypeVar("ModelT", SpanContext, TraceStatus, Event, Link, OtelResource)


def identity_of(attributes: Mapping[str, Any] | None, resource: Mapping[str, Any] | None = None) -> Identity | None:
    """Rollout and attempt id that a span or its resource names, each by itself; None if one is missing."""
    found: list[str] = []
    for name in (ROLLOUT_ID, ATTEMPT_ID):
        value = (attributes or {}).get(name, (resource or {}).get(name))
        if not isinstance(value, str | int | float):
            return None
        found.append(str(value))
    return found[0], found[1]


def span_from_opentelemetry(src: Any, rollout_id: str, attempt_id: str, sequence_id: int) -> Span:
    """Convert an OpenTelemetry span; see `Span.from_opentelemetry`.

    What the record cannot hold as an attribute becomes text: bytes as hex, None as `""`, mappings and lists of several
    kinds as JSON, as OpenTelemetry's specification says for backends without such values (bytes as our OTLP door).

    Args:
        src: A readable span, a live span, or any object with some of their attributes.
        rollout_id: Rollout that the span belongs to.
        attempt_id: Attempt that the span belongs to.
        sequence_id: Its place among the spans of the rollout.
    """
    context = _context_of(src)
    parent = _context_of(_field(src, "parent"))
    fields: dict[str, Any] = {
        "rollout_id": rollout_id,
        "attempt_id": attempt_id,
        "sequence_id": sequence_id,
        "trace_id": _hex(_field(context, "trace_id"), 32),
        "span_id": _hex(_field(context, "span_id"), 16),
        "parent_id": None if parent is None else _hex(_field(parent, "span_id"), 16),
        "name": _text(_field(src, "name")),
        "status": _status(_field(src, "status")),
        "attributes": _attributes(_field(src, "attributes")),
        "events": [_event(event) for event in _items(_field(src, "events"))],
        "links": [_link(link) for link in _items(_field(src, "links"))],
        "start_time": _seconds(_field(src, "start_time")),
        "end_time": _seconds(_field(src, "end_time")),
        "context": None if context is None else _context(context),
        "parent": None if parent is None else _context(parent),
        "resource": _resource(_field(src, "resource")),
    }
    is_live = hasattr(cast("type[object]", type(src)), "_readable_span")
    taken = _MACHINERY | fields.keys() if is_live else fields
    return Span.model_validate({**_extras(src, taken), **fields})


def _part(model: type[ModelT], fields: dict[str, Any], src: Any) -> ModelT:
    """A part of a span with its own fields, which are right by now, and everything else found on `src` besides."""
    return constructed(model, fields, _extras(src, fields))


def _extras(src: Any, taken: Container[str]) -> dict[str, Any]:
    """Instance attributes of an object as JSON, leading underscores stripped; a public name wins over a private one."""
    own = _own_attributes(src)
    found = {name: _json(value, ()) for name, value in own.items() if name[:1] != "_" and name not in taken}
    for key, value in own.items():
        name = key.lstrip("_")
        if name not in taken and name not in found:
            found[name] = _json(value, ())
    return found


def _own_attributes(src: Any) -> dict[str, Any]:
    kind: Any = type(src)
    slots = {name: getattr(src, name) for name in _slots_of(kind) if hasattr(src, name)}
    return {**slots, **getattr(src, "__dict__", {})}


@lru_cache(maxsize=100)
def _slots_of(kind: type) -> tuple[str, ...]:
    """Names that instances have room for, besides those of Python's own."""
    names = (name for each in kind.__mro__ for name in _items(vars(each).get("__slots__")))
    return tuple(name for name in names if not name.startswith("__"))


def _json(value: Any, above: tuple[int, ...]) -> Any:
    """A JSON value; `above` has the identities of what contains it, so that a cycle ends as text."""
    if value is None or isinstance(value, bool | int | float | str | bytes | bytearray):
        return _scalar(value)
    if id(value) in above or len(above) >= MAX_DEPTH:
        return _text(value)
    inside = (*above, id(value))
    if _is_mapping(value):
        return {_text(key): _json(item, inside) for key, item in _pairs(value)}
    if _is_sequence(value):
        return [_json(item, inside) for item in value]
    return _text(value)


def _scalar(value: Any) -> Any:
    """The plain value of a scalar, whatever its subclass; bytes as hex."""
    if isinstance(value, bytes | bytearray):
        return value.hex()
    return next((plain(value) for kind, plain in _PLAIN.items() if isinstance(value, kind)), None)


def _attributes(src: Any) -> dict[str, Any]:
    return {_text(key): attribute_value(value) for key, value in _pairs(src)}


def attribute_value(value: Any) -> Any:
    """An attribute's value as the record can hold it; see `span_from_opentelemetry` for what becomes text."""
    if type(value) in _PLAIN:
        return value
    plain = _json(value, ())
    if plain is None:
        return ""
    try:
        return checked_attribute(plain)
    except ValueError:  # a mapping, or a list of several kinds
        return json.dumps(plain, ensure_ascii=False)


def _context_of(src: Any) -> Any:
    """The span context of a span, in either of the ways in which spans tell it; a context is its own."""
    if isinstance(_field(src, "span_id"), int | str):
        return src
    ask = _field(src, "get_span_context")
    return ask() if callable(ask) else _field(src, "context")


def _context(src: Any) -> SpanContext:
    state = _field(src, "trace_state")
    fields: dict[str, Any] = {
        "trace_id": _hex(_field(src, "trace_id"), 32),
        "span_id": _hex(_field(src, "span_id"), 16),
        "is_remote": _field(src, "is_remote") is True,
        "trace_state": {_text(key): _text(value) for key, value in _pairs(state)},
    }
    return _part(SpanContext, fields, src)


def _status(src: Any) -> TraceStatus:
    code = _field(src, "status_code")
    name = _field(code, "name")
    description = _field(src, "description")
    fields = {
        "status_code": _text(name if isinstance(name, str) else code) or "UNSET",
        "description": None if description is None else _text(description),
    }
    return _part(TraceStatus, fields, src)


def _event(src: Any) -> Event:
    fields = {
        "name": _text(_field(src, "name")),
        "attributes": _attributes(_field(src, "attributes")),
        "timestamp": _seconds(_field(src, "timestamp")),
    }
    return _part(Event, fields, src)


def _link(src: Any) -> Link:
    fields = {
        "context": _context(_field(src, "context")),
        "attributes": _attributes(_field(src, "attributes")) or None,
    }
    return _part(Link, fields, src)


def _resource(src: Any) -> OtelResource:
    fields = {"attributes": _attributes(_field(src, "attributes")), "schema_url": _text(_field(src, "schema_url"))}
    return _part(OtelResource, fields, src)


def _field(src: Any, name: str) -> Any:
    """An attribute, or the item of a mapping; None when it is missing or cannot be read."""
    if _is_mapping(src):
        return src.get(name)
    try:
        return getattr(src, name, None)
    except Exception:  # noqa: BLE001 - a property of a foreign object may raise anything
        return None


def _items(value: object) -> list[Any]:
    if isinstance(value, str):
        return [value]
    return list(value) if _is_iterable(value) else []


def _pairs(value: object) -> list[tuple[Any, Any]]:
    return list(value.items()) if _is_mapping(value) else []


def _is_iterable(value: object) -> TypeGuard[Iterable[Any]]:
    return isinstance(value, Iterable)


def _is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _is_sequence(value: object) -> TypeGuard[Collection[Any]]:
    return isinstance(value, list | tuple | set | frozenset)


def _hex(value: Any, digits: int) -> str:
    """An id as hex, padded with zeros; text is taken as hex already."""
    if isinstance(value, int):
        return format(value, f"0{digits}x")
    return (value if isinstance(value, str) else "").zfill(digits)


def _seconds(value: Any) -> float | None:
    if not isinstance(value, int | float) or not value or not math.isfinite(value):
        return None
    return float(value / 1_000_000_000 if value > NANOSECONDS_ABOVE else value)


def _text(value: Any) -> str:
    """The string form of anything; None is empty."""
    if value is None:
        return ""
    try:
        return str.__str__(value) if isinstance(value, str) else str(value)
    except Exception:  # noqa: BLE001 - the string form of a foreign object may raise anything
        return f"<{type(value).__name__}>"
