"""The description of the HTTP API in OpenAPI, made from the table of operations, its signatures and its docstrings."""

from functools import cache
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel, TypeAdapter
from typing_extensions import Required

from lightning_store import errors
from lightning_store.contract import LightningStore
from lightning_store.http.docstrings import Docstring, docstring_of
from lightning_store.http.examples import ANSWERS, ARGUMENTS, PATH_EXAMPLES
from lightning_store.http.openapi_server import STATUS, content, key_parameter, plain, server_paths
from lightning_store.http.protocol import API_HEADER, API_VERSION, JSON_TYPE, PREFIX
from lightning_store.http.routes import ROUTES, Route
from lightning_store.http.wire import CODECS, BareCodec, Codec, NumberCodec, SpansCodec

_TEMPLATE: Final = "#/components/schemas/{model}"
_ABOUT: Final = """Rollouts, their attempts and spans, resources and workers, as in Agent Lightning 0.3.

Times are seconds since the epoch. Calls marked as an extension are not in Agent Lightning. A call that changes
something may be sent again with the same `Idempotency-Key`: it takes effect once."""
_TAGS: Final = {
    "about": "The server",
    "statistics": "What is stored",
    "queues": "Enqueue and claim",
    "rollouts": "Rollouts and attempts",
    "waits": "Waiting",
    "completions": "Finished rollouts in order",
    "consumers": "Readers of these",
    "events": "Transitions",
    "spans": "Spans",
    "rewards": "Rewards",
    "resources": "Resources",
    "workers": "Workers",
    "upkeep": "Upkeep",
}
_NUMBER: Final = {
    "type": "object",
    "properties": {"sequence_id": {"type": "integer"}},
    "required": ["sequence_id"],
}
_STORED: Final = {
    "type": "object",
    "description": "Place in the request and number of each span that was stored.",
    "properties": {"stored": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}},
    "required": ["stored"],
}
_ERROR: Final = {
    "type": "object",
    "properties": {
        "detail": {"type": "string", "description": "What went wrong, with the name of the thing."},
        "error_type": {"type": "string", "enum": sorted(errors.ERRORS_BY_CODE), "description": "The kind of error."},
    },
    "required": ["detail"],
}
_INVALID: Final = {
    "type": "object",
    "properties": {
        "detail": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "type": {"type": "string"},
                    "loc": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
                    "msg": {"type": "string"},
                    "input": {},
                },
                "required": ["type", "loc", "msg"],
            },
        }
    },
    "required": ["detail"],
}


@cache
def describe() -> dict[str, Any]:
    """The document."""
    schemas, definitions = _schemas()
    paths = server_paths()
    for route in ROUTES:
        paths.setdefault(PREFIX + route.path, {})[route.method.lower()] = _operation(route, schemas, definitions)
    return {
        "openapi": "3.1.0",
        "info": {"title": "lightning_store", "version": API_VERSION, "description": _ABOUT},
        "paths": paths,
        "components": {"schemas": {**definitions, "Error": _ERROR, "Status": STATUS, "ValidationError": _INVALID}},
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
    }


Schemas = dict[tuple[str, str], Any]


def _schemas() -> tuple[Schemas, dict[str, Any]]:
    """Schemas of arguments and answers by operation, and of the records that they refer to."""
    wanted: list[tuple[Any, Any, TypeAdapter[Any]]] = []
    for name, codec in CODECS.items():
        if codec.parameters:
            wanted.append(((name, "arguments"), "validation", codec.arguments))
        wanted.append(((name, "answer"), "serialization", codec.answer))
    found, collected = TypeAdapter.json_schemas(wanted, ref_template=_TEMPLATE)
    definitions = collected.get("$defs", {})
    for name, kind in _records().items():
        for written in (name, f"{name}-Input", f"{name}-Output"):
            _describe_fields(definitions.get(written, {}), docstring_of(kind).arguments)
    for name, codec in CODECS.items():
        own = docstring_of(getattr(LightningStore, name)).arguments
        _describe_fields(definitions.get(codec.name, {}), {**_common(codec), **own})
    return {key: schema for (key, _), schema in found.items()}, definitions


def _common(codec: Codec) -> dict[str, str]:
    """What is said of arguments where they stand first, for those that say no more of theirs."""
    told = docstring_of(LightningStore.query_rollouts).arguments
    exact = docstring_of(LightningStore.query_spans).arguments["trace_id"]
    of_kind = {name: told["rollout_id_contains"] if name.endswith("_contains") else exact for name in codec.parameters}
    return {**of_kind, **told}


def _records() -> dict[str, type[BaseModel]]:
    from lightning_store import records, spans  # noqa: PLC0415 - names of this module would hide them

    return {
        name: kind
        for module in (records, spans)
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, BaseModel)
    }


def _describe_fields(schema: dict[str, Any], texts: dict[str, str]) -> None:
    for name, each in schema.get("properties", {}).items():
        if name in texts:
            each.setdefault("description", texts[name])


def _operation(route: Route, schemas: Schemas, definitions: dict[str, Any]) -> dict[str, Any]:
    codec, name = route.codec, route.codec.operation.name
    said = docstring_of(getattr(LightningStore, name))
    described: dict[str, Any] = {
        "tags": [route.path.split("/")[1]],
        "operationId": name if route.method == codec.operation.method else f"{name}_by_query",
        "summary": said.summary,
        "description": said.text,
        "parameters": [_path_parameter(each, said) for each in codec.path_names],
        "responses": _responses(codec, said, schemas[name, "answer"]),
    }
    if route.reads_query:
        described["parameters"] += _query_parameters(definitions.get(codec.name, {}))
        return described
    if codec.operation.mutates:
        described["parameters"].append(key_parameter())
    if codec.parameters:
        described["requestBody"] = _body(codec, schemas[name, "arguments"])
    return described


def _path_parameter(name: str, said: Docstring) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": said.arguments.get(name, f"{name.removesuffix('_id').capitalize()} id."),
        "schema": {"type": "string"},
        "example": PATH_EXAMPLES[name],
    }


def _query_parameters(arguments: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "query",
            "required": name in arguments.get("required", ()),
            "description": schema.get("description", ""),
            "schema": {key: value for key, value in schema.items() if key != "description"},
        }
        for name, schema in arguments.get("properties", {}).items()
    ]


def _body(codec: Codec, schema: dict[str, Any]) -> dict[str, Any]:
    example: Any = ARGUMENTS[codec.operation.name]
    if isinstance(codec, BareCodec):
        example = example[codec.argument]
    required = any(get_origin(each) is Required or Required in get_args(each) for each in codec.fields.values())
    return {"required": required, "content": {JSON_TYPE: {"schema": schema, "example": plain(example)}}}


def _responses(codec: Codec, said: Docstring, schema: dict[str, Any]) -> dict[str, Any]:
    if isinstance(codec, NumberCodec):
        schema = _NUMBER
    elif isinstance(codec, SpansCodec):
        schema = _STORED
    answer = content(schema, ANSWERS[codec.operation.name], said.returns or said.summary)
    answer["headers"] = {API_HEADER: {"description": "Version of this API.", "schema": {"type": "string"}}}
    responses = {str(codec.success): answer}
    for name, text in said.raises.items():
        kind = getattr(errors, name, None)
        if kind is not None:
            _add_error(responses, kind, text)
    responses["422"] = {
        "description": "An argument is missing or ill-typed, or the body is no JSON.",
        "content": {JSON_TYPE: {"schema": {"$ref": _TEMPLATE.format(model="ValidationError")}}},
    }
    return responses


def _add_error(responses: dict[str, Any], kind: type[errors.LightningStoreError], text: str) -> None:
    told = f"{kind.code}: {text}"
    known = responses.get(str(kind.http_status))
    if known is not None:
        known["description"] += "\n\n" + told
        return
    example = {"detail": text, "error_type": kind.code}
    responses[str(kind.http_status)] = content({"$ref": _TEMPLATE.format(model="Error")}, example, told)
