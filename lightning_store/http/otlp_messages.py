"""The two encodings of OTLP/HTTP, binary protobuf and JSON: requests read, answers and errors written."""

import json
from binascii import b2a_base64, unhexlify
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

# protobuf and the messages of Google's APIs come without types.
from google.protobuf import json_format  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from lightning_store.errors import InvalidRequestError, LightningStoreError
from lightning_store.http.otlp_wire import (
    RESOURCE_SPANS,
    SCOPE_SPANS,
    SPANS,
    TooMuchError,
    UnreadableError,
    check_parts,
    field,
    messages_of,
)

_IDS: Final = ("traceId", "trace_id", "spanId", "span_id", "parentSpanId", "parent_span_id")
_UNREADABLE: Final = "Unable to parse OTLP traces payload"


@dataclass(frozen=True)
class Encoding:
    """How messages are written into bodies.

    Attributes:
        media_type: Content type of the bodies.
        read: The request in a body, in protobuf, sound in all its parts; raises `InvalidRequestError` if there is none.
        write: A message as a body.
    """

    media_type: str
    read: Callable[[bytes], bytes]
    write: Callable[[Message], bytes]

    def success(self, rejected: int, reason: str) -> bytes:
        """Body of the answer to a request that was taken; `rejected` spans of it were not, for this reason."""
        if not rejected:
            return self.write(ExportTraceServiceResponse())
        partial = ExportTracePartialSuccess(rejected_spans=rejected, error_message=reason)
        return self.write(ExportTraceServiceResponse(partial_success=partial))

    def error(self, message: str) -> bytes:
        """Body of the answer to a request that was refused."""
        return self.write(Status(message=message))


def _read_protobuf(body: bytes) -> bytes:
    _check(body)
    return body


def _check(request: bytes) -> None:
    """Refuse what is no request, before anything of it is stored.

    Raises:
        InvalidRequestError: It is none, or has too many parts.
    """
    try:
        for _ in messages_of(request):
            pass
    except (UnreadableError, DecodeError) as error:
        raise InvalidRequestError(f"{_UNREADABLE}: {error}") from error


def _write_protobuf(message: Message) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def _read_json(body: bytes) -> bytes:
    """By the rules of protobuf's JSON, but ids are hex; names that are not known are ignored."""
    if not body:
        return body
    try:
        request = _as_protobuf(_object(json.loads(body), "request"))
    except TooMuchError:
        raise
    except RecursionError as error:
        raise InvalidRequestError(f"{_UNREADABLE}: nested too deep") from error
    except (ValueError, TypeError, json_format.ParseError) as error:
        raise InvalidRequestError(f"{_UNREADABLE}: {error!s:.500}") from error
    _check(request)
    return request


def _as_protobuf(tree: dict[str, Any]) -> bytes:
    """A request as it would be in protobuf; written span by span, because a message takes many times its bytes."""
    numbers = count(1)

    def taken(parent: dict[str, Any], *names: str) -> Iterator[dict[str, Any]]:
        """The objects in a list of `parent`, in which they are no more then."""
        for name in names:
            for each in _objects({name: parent.pop(name, None)}, name):
                check_parts(next(numbers))
                yield each

    request = bytearray()
    for of_resource in taken(tree, "resourceSpans", "resource_spans"):
        groups = bytearray()
        for of_scope in taken(of_resource, "scopeSpans", "scope_spans"):
            spans = bytearray()
            for span in taken(of_scope, "spans"):
                for node in (span, *_objects(span, "links")):
                    _encode_ids(node)
                spans += field(SPANS, _parsed(span, Span()))
            groups += field(SCOPE_SPANS, _parsed(of_scope, ScopeSpans()) + spans)
        request += field(RESOURCE_SPANS, _parsed(of_resource, ResourceSpans()) + groups)
    return bytes(request)


def _parsed(tree: dict[str, Any], message: Message) -> bytes:
    data: bytes = json_format.ParseDict(tree, message, ignore_unknown_fields=True).SerializeToString()
    return data


def _objects(parent: dict[str, Any], *names: str) -> Iterator[dict[str, Any]]:
    """The objects in a list of `parent`, which may be spelled as the wire or as the language spells it."""
    for name in names:
        items = parent.get(name)
        if items is not None and not isinstance(items, list):
            raise TypeError(f"{name}: expected a list, got {type(items).__name__}")
        for item in items or ():
            yield _object(item, f"{name}[]")


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{what}: expected an object, got {type(value).__name__}")
    return value


def _encode_ids(node: dict[str, Any]) -> None:
    """Write the ids as protobuf's JSON has them."""
    for name in _IDS:
        value = node.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise TypeError(f"{name}: expected hex digits as text, got {type(value).__name__}")
        try:
            node[name] = b2a_base64(unhexlify(value), newline=False).decode()
        except ValueError as error:
            raise ValueError(f"{name}: expected pairs of hex digits, got {value!r:.200}") from error


def _write_json(message: Message) -> bytes:
    return json.dumps(json_format.MessageToDict(message)).encode()


PROTOBUF: Final = Encoding("application/x-protobuf", _read_protobuf, _write_protobuf)
JSON: Final = Encoding("application/json", _read_json, _write_json)
ENCODINGS: Final = (PROTOBUF, JSON)


def encoding_of(content_type: str) -> Encoding | None:
    """The encoding that a content type names, whatever its parameters; None if it names neither."""
    media_type = content_type.partition(";")[0].strip().lower()
    return next((encoding for encoding in ENCODINGS if encoding.media_type == media_type), None)


def refusal(content_type: str, kind: type[LightningStoreError], detail: str) -> tuple[str, bytes]:
    """Media type and body of the answer to a request that is refused.

    Args:
        content_type: Of the request; the answer is written in the same way, or in protobuf if it is neither's.
        kind: The error that stands for the refusal.
        detail: What is wrong.
    """
    encoding = encoding_of(content_type) or PROTOBUF
    message = detail if issubclass(kind, InvalidRequestError) else f"{kind.code}: {detail}"
    return encoding.media_type, encoding.error(message)
