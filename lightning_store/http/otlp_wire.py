"""OTLP's requests in protobuf, taken apart without a parser: one span is a message at a time, whatever else there is.

A message takes many times the bytes of one that says little: of two bytes a span becomes 150, and its record some
thousand. So a request is read group by group, of which none is a message as a whole; the bytes stay what they are.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, TypeAlias, TypeVar

from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from lightning_store.errors import InvalidRequestError

OneMessage: TypeAlias = ResourceSpans | ScopeSpans | Span
M = TypeVar("M", ResourceSpans, ScopeSpans, Span)

RESOURCE_SPANS: Final = 1
SCOPE_SPANS: Final = 2
SPANS: Final = 2
"""Numbers of the fields that hold the groups of a request, of one of these, and the spans of one of those."""

MOST_PARTS: Final = 1 << 18
"""Most resources, scopes and spans of a request: 64 MiB have room for so many of 256 bytes."""

MOST_VALUES: Final = 1 << 20
"""Most attributes and items of lists in one of them; so many take some 50 MiB while they are a message."""

MOST_FIELDS: Final = 1 << 20
"""Most fields of resources and scopes that are looked at for all these."""

_UNCOUNTED_BYTES: Final = 256 << 10
"""In less than that there are not too many values, whatever it holds."""

_DEEPEST: Final = 100
"""Protobuf's own limit."""

_VARINT: Final = 0
_BYTES: Final = 2
_FIXED: Final = {1: 8, 5: 4}
"""Types of fields; of those of a fixed size, their bytes."""

_MORE: Final = 0x80
_LONGEST_VARINT: Final = 10

_Kind = Mapping[int, "_Kind"]  # which of a message's fields are messages, and their kinds
_VALUE: Final[dict[int, _Kind]] = {}
_ATTRIBUTE: Final[_Kind] = {2: _VALUE}
_VALUE.update({5: {1: _VALUE}, 6: {1: _ATTRIBUTE}})
_SPAN: Final[_Kind] = {9: _ATTRIBUTE, 11: {3: _ATTRIBUTE}, 13: {4: _ATTRIBUTE}}
_SCOPE_HEAD: Final[_Kind] = {1: {3: _ATTRIBUTE}}
_RESOURCE_HEAD: Final[_Kind] = {1: {1: _ATTRIBUTE}}


class UnreadableError(Exception):
    """The bytes are no message."""


class TooMuchError(InvalidRequestError):
    """The request has more parts than can be taken at once; divided, it would be taken."""

    http_status = 413


class Part(NamedTuple):
    """Where a message lies within the bytes."""

    begin: int
    end: int


def messages_of(request: bytes) -> Iterator[tuple[OneMessage, int]]:
    """The messages of a request, one at a time, with their bytes: each resource, its scopes, and behind each its spans.

    A `ResourceSpans` comes without its scopes, a `ScopeSpans` without its spans.

    Raises:
        TooMuchError: There are more of them than may be.
        UnreadableError: It is no request; so the parser's DecodeError.
    """
    for count, message in enumerate(_all_messages(request, _Walk()), 1):
        check_parts(count)
        yield message


def _all_messages(request: bytes, walk: "_Walk") -> Iterator[tuple[OneMessage, int]]:
    for of_resource in walk.parts(request, RESOURCE_SPANS, Part(0, len(request))):
        yield _parsed(ResourceSpans, _RESOURCE_HEAD, walk.without(request, SCOPE_SPANS, of_resource))
        for of_scope in walk.parts(request, SCOPE_SPANS, of_resource):
            yield _parsed(ScopeSpans, _SCOPE_HEAD, walk.without(request, SPANS, of_scope))
            for begin, end in walk.parts(request, SPANS, of_scope):
                yield _parsed(Span, _SPAN, request[begin:end])


def _parsed(message: type[M], kind: _Kind, data: bytes) -> tuple[M, int]:
    _check_values(data, kind)
    return message.FromString(data), len(data)


def check_parts(count: int) -> None:
    """Refuse a request of so many resources, scopes and spans.

    Raises:
        TooMuchError: There are too many.
    """
    if count > MOST_PARTS:
        raise TooMuchError(f"expected at most {MOST_PARTS} resources, scopes and spans in one request")


def field(number: int, message: bytes) -> bytes:
    """A message as the value of a field, of which there may be several."""
    size = len(message)
    written = bytearray([number << 3 | _BYTES])
    while size >= _MORE:
        written.append(size & 0x7F | _MORE)
        size >>= 7
    written.append(size)
    return bytes(written) + message


class _Walk:
    """One way through the groups of a request."""

    def __init__(self) -> None:
        self._left = MOST_FIELDS

    def parts(self, data: bytes, number: int, within: Part) -> Iterator[Part]:
        """Where the messages in one field of a message are, in their order."""
        for found, _, begin, end in self._fields(data, within):
            if found == number:
                yield Part(begin, end)

    def without(self, data: bytes, number: int, within: Part) -> bytes:
        """A message without one of its fields."""
        kept = bytearray()
        for found, start, _, end in self._fields(data, within):
            if found != number:
                kept += data[start:end]
        return bytes(kept)

    def _fields(self, data: bytes, within: Part) -> Iterator[tuple[int, int, int, int]]:
        for each in _fields(data, within):
            self._left -= 1
            if self._left < 0:
                raise TooMuchError(f"expected at most {MOST_FIELDS} fields of resources and scopes in one request")
            yield each


def _check_values(data: bytes, kind: _Kind) -> None:
    """Refuse a message that has too many attributes and items of lists to become one."""
    if len(data) < _UNCOUNTED_BYTES:
        return
    count, above = 0, [_messages(data, Part(0, len(data)), kind)]
    while above:
        below = next(above[-1], None)
        if below is None:
            above.pop()
            continue
        count += 1
        if count > MOST_VALUES:
            raise TooMuchError(f"expected at most {MOST_VALUES} attributes and items of lists in one span")
        if len(above) > _DEEPEST:
            raise UnreadableError("nested too deep")
        above.append(_messages(data, *below))


def _messages(data: bytes, within: Part, kind: _Kind) -> Iterator[tuple[Part, _Kind]]:
    """The messages right within one of a kind, with theirs."""
    for number, _, begin, end in _fields(data, within):
        if number in kind:
            yield Part(begin, end), kind[number]


def _fields(data: bytes, within: Part) -> Iterator[tuple[int, int, int, int]]:
    """Of each field of a message its number, where it starts, and where its value begins and ends.

    Only those whose values have a length are told by their number; others have 0. Groups, which protobuf has given up,
    are in no message of OTLP.
    """
    at, stop = within
    while at < stop:
        start = at
        tag, at = _varint(data, at, stop)
        number, kind = tag >> 3, tag & 7
        if kind == _BYTES:
            size, at = _varint(data, at, stop)
        elif kind == _VARINT:
            (_, at), size = _varint(data, at, stop), 0
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise UnreadableError("there is no such type of a field")
        if at + size > stop or not number:
            raise UnreadableError("it ends within a field")
        yield (number if kind == _BYTES else 0), start, at, at + size
        at += size


def _varint(data: bytes, at: int, stop: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = shift = 0
    for place in range(at, min(stop, at + _LONGEST_VARINT)):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < _MORE:
            return value, place + 1
        shift += 7
    raise UnreadableError("it ends within a number")
