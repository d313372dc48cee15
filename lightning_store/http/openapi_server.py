"""What the description of the API says of the server itself: its probes, metrics, traces by OTLP, and calls to end."""

import json
from typing import Any, Final

from lightning_store.conversion import ATTEMPT_ID, ROLLOUT_ID
from lightning_store.errors import AccessDeniedError, InvalidRequestError, LightningStoreError, ServerBusyError
from lightning_store.http.examples import PATH_EXAMPLES
from lightning_store.http.protocol import (
    JSON_TYPE,
    KEY_HEADER,
    OTHER_OTLP_PATHS,
    PREFIX,
    TRACES_PATH,
    standard_json,
    write_json,
)
from lightning_store.operations import OPERATIONS

ERROR_SCHEMA: Final = "#/components/schemas/Error"
STATUS_SCHEMA: Final = "#/components/schemas/Status"

STATUS: Final = {
    "type": "object",
    "description": "google.rpc.Status, of which the message is set.",
    "properties": {"message": {"type": "string", "description": "What went wrong."}},
}
_STATE: Final = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}
_EXPORTED: Final = {
    "type": "object",
    "description": "ExportTraceServiceResponse: empty when all was taken.",
    "properties": {
        "partialSuccess": {
            "type": "object",
            "properties": {
                "rejectedSpans": {"type": "string", "description": "How many spans were not taken, and never will be."},
                "errorMessage": {"type": "string", "description": "Why."},
            },
        }
    },
}
_PROTOBUF_TYPE: Final = "application/x-protobuf"
_BINARY: Final = {"type": "string", "format": "binary"}
_OTHERS: Final = ", ".join(f"`{path}`" for path in OTHER_OTLP_PATHS)
_METRICS: Final = """# HELP lightning_store_queue_depth Rollouts that can be claimed now.
# TYPE lightning_store_queue_depth gauge
lightning_store_queue_depth{queue="default"} 12.0
"""
_TRACES: Final[dict[str, Any]] = {
    "resourceSpans": [
        {
            "resource": {
                "attributes": [
                    {"key": ROLLOUT_ID, "value": {"stringValue": PATH_EXAMPLES["rollout_id"]}},
                    {"key": ATTEMPT_ID, "value": {"stringValue": PATH_EXAMPLES["attempt_id"]}},
                ]
            },
            "scopeSpans": [
                {
                    "spans": [
                        {
                            "traceId": "0af7651916cd43dd8448eb211c80319c",
                            "spanId": "b7ad6b7169203331",
                            "name": "chat",
                            "kind": 3,
                            "startTimeUnixNano": "1700000003250000000",
                            "endTimeUnixNano": "1700000004250000000",
                            "attributes": [{"key": "gen_ai.usage.output_tokens", "value": {"intValue": "12"}}],
                        }
                    ]
                }
            ],
        }
    ]
}
_ABOUT_TRACES: Final = f"""An `ExportTraceServiceRequest` in protobuf or JSON, plain or packed (gzip, deflate); it is
answered in the same encoding. `{ROLLOUT_ID}` and `{ATTEMPT_ID}`, attributes of a span or of its resource, say whose
the span is. With tokens, one of the role `runner` or more is needed. Other signals ({_OTHERS}) are answered 501."""
_REFUSALS: Final = {
    400: "It cannot be read; nothing is stored.",
    401: "There is no token, or none that is known.",
    403: "The token may not send spans; the body is not read.",
    413: "It is too large, or has too many parts.",
    415: "It is packed in a way that is not read here.",
    503: "The store is out of reach or full, or the server busy: it should be sent again, as `Retry-After` says.",
}


def content(schema: Any, example: Any, description: str) -> dict[str, Any]:
    """A body of JSON, with what it says."""
    return {"description": description, "content": {JSON_TYPE: {"schema": schema, "example": plain(example)}}}


def plain(value: Any) -> Any:
    """A value with its records as they are sent to clients in general."""
    return json.loads(standard_json(write_json(value)))


def key_parameter(*, required: bool = False) -> dict[str, Any]:
    """The header with the key of a call."""
    return {
        "name": KEY_HEADER,
        "in": "header",
        "required": required,
        "description": "The same for each try of a call, so that it takes effect once.",
        "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    }


def server_paths() -> dict[str, Any]:
    """Paths and methods that are no operations of the store."""
    lives = _probe("Whether the server lives.", {"200": content(_STATE, {"status": "ok"}, "It does.")})
    ready = _probe(
        "Whether the server can do its work.",
        {
            "200": content(_STATE, {"status": "ready"}, "The store answers, and the server is not stopping."),
            "503": content(_STATE, {"status": "not ready"}, "It does not, or it is; the reason is in the log."),
        },
    )
    return {
        "/health": {"get": {"operationId": "server_health", **lives}},
        "/ready": {"get": {"operationId": "ready", **ready}},
        PREFIX + "/health": {"get": {"operationId": "health", **lives}},
        "/metrics": {"get": _metrics()},
        TRACES_PATH: {"post": _traces()},
        **{
            PREFIX + row.path: {"delete": _end(row.name)}
            for row in OPERATIONS.values()
            if row.path and row.mutates and row.waits
        },
    }


def _probe(summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {
        "tags": ["about"],
        "summary": summary,
        "description": f"{summary} Needs no token, and counts among no limits.",
        "responses": responses,
    }


def _metrics() -> dict[str, Any]:
    page = {"text/plain": {"schema": {"type": "string"}, "example": _METRICS}}
    return {
        "tags": ["about"],
        "operationId": "metrics",
        "summary": "Metrics for Prometheus.",
        "description": "In its text format, or OpenMetrics if `Accept` asks for it. Also at `/v1/prometheus/`, where "
        "Agent Lightning has them. With tokens, one of the role `read` or more is needed.",
        "responses": {
            "200": {"description": "All metrics of the server.", "content": page},
            "401": _failed(AccessDeniedError, "There is no token, or none that is known."),
        },
    }


def _traces() -> dict[str, Any]:
    answers = {JSON_TYPE: {"schema": _EXPORTED, "examples": _answers()}, _PROTOBUF_TYPE: {"schema": _BINARY}}
    return {
        "tags": ["spans"],
        "operationId": "otlp_traces",
        "summary": "Take spans by OTLP/HTTP.",
        "description": _ABOUT_TRACES,
        "requestBody": {
            "required": False,
            "content": {
                JSON_TYPE: {"schema": {"type": "object"}, "example": _TRACES},
                _PROTOBUF_TYPE: {"schema": _BINARY},
            },
        },
        "responses": {
            "200": {"description": "Taken; what of it cannot be stored is told.", "content": answers},
            **{str(status): _status(text) for status, text in _REFUSALS.items()},
        },
    }


def _answers() -> dict[str, Any]:
    told = "1 rejected: Rollout ro-1 not found"
    return {
        "all": {"summary": "All spans are stored.", "value": {}},
        "some": {
            "summary": "One span belongs to nobody.",
            "value": {"partialSuccess": {"rejectedSpans": "1", "errorMessage": told}},
        },
    }


def _status(text: str) -> dict[str, Any]:
    body = content({"$ref": STATUS_SCHEMA}, {"message": text}, text)
    body["content"][_PROTOBUF_TYPE] = {"schema": _BINARY}
    return body


def _end(operation: str) -> dict[str, Any]:
    return {
        "tags": ["queues"],
        "operationId": f"end_{operation}",
        "summary": f"End a call of `{operation}` by its key.",
        "description": "For callers who want no more of it: what it has claimed is handed back, and it has no effect "
        "later. Needs the role of the call.",
        "parameters": [key_parameter(required=True)],
        "responses": {
            "200": content({"type": "null"}, None, "It has ended, or never was."),
            "400": _failed(InvalidRequestError, "There is no key, or what is none."),
            "403": _failed(AccessDeniedError, "The token may not make such calls."),
            "503": _failed(ServerBusyError, "The server has no room for the request now."),
        },
    }


def _failed(kind: type[LightningStoreError], text: str) -> dict[str, Any]:
    return content({"$ref": ERROR_SCHEMA}, {"detail": text, "error_type": kind.code}, text)
