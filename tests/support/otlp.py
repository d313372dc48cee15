"""OTLP for tests: requests with as little said as possible, and a real server for the routes under test."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span
from starlette.types import ASGIApp

from tests.support.until import until

TRACE_ID = bytes.fromhex("0af7651916cd43dd8448eb211c80319c")


def any_value(value: Any) -> AnyValue:
    """A value as OTLP writes it."""
    if value is None:
        return AnyValue()
    if isinstance(value, dict):
        return AnyValue(kvlist_value=KeyValueList(values=key_values(value)))
    if isinstance(value, list | tuple):
        return AnyValue(array_value=ArrayValue(values=[any_value(item) for item in value]))
    kinds = {bool: "bool_value", int: "int_value", float: "double_value", str: "string_value", bytes: "bytes_value"}
    return AnyValue(**{kinds[type(value)]: value})


def key_values(values: Mapping[str, Any]) -> list[KeyValue]:
    """Attributes as OTLP writes them."""
    return [KeyValue(key=key, value=any_value(value)) for key, value in values.items()]


def ids(rollout_id: str, attempt_id: str, number: Any = None) -> dict[str, Any]:
    """The attributes that say whose a span is, and its number if there is one."""
    given = {"agentlightning.rollout_id": rollout_id, "agentlightning.attempt_id": attempt_id}
    return given if number is None else {**given, "agentlightning.span_sequence_id": number}


def ids_of(rollout: Any, number: Any = None) -> dict[str, Any]:
    """The same for a rollout with its attempt."""
    return ids(rollout.rollout_id, rollout.attempt.attempt_id, number)


def otlp_span(number: int = 1, attributes: Mapping[str, Any] | None = None, **fields: Any) -> Span:
    """A span; `number` makes its id."""
    values = {"trace_id": TRACE_ID, "span_id": number.to_bytes(8, "big"), "name": f"step {number}"} | fields
    return Span(attributes=key_values(attributes or {}), **values)


def otlp_request(spans: Sequence[Span], resource: Mapping[str, Any] | None = None) -> ExportTraceServiceRequest:
    """A request with one resource and one scope."""
    block = ResourceSpans()
    block.resource.attributes.extend(key_values(resource or {}))
    block.scope_spans.add().spans.extend(spans)
    return ExportTraceServiceRequest(resource_spans=[block])


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """A real server on the running loop; gives its address, without a slash at the end."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    try:
        await until(lambda: server.started or task.done())
        host, port = server.servers[0].sockets[0].getsockname()
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        await task
