"""Malformed bodies: each would be taken, but for one thing."""

import gzip
import inspect
import json
import types
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from lightning_store.contract import Unset
from lightning_store.http.wire import BareCodec
from tests.http.malformed_base import (
    API,
    BAD,
    JSON_TYPE,
    MAX_BODY_BYTES,
    MAX_METADATA_BYTES,
    MAX_SPAN_BYTES,
    MAX_TASK_BYTES,
    REFUSED,
    UNPROCESSABLE,
    Malformed,
    World,
    body_routes,
    http,
    post,
    span_json,
    target_of,
    valid_bodies,
)

_UNIONS: Final = (Union, types.UnionType)


def _bad_json(world: World) -> Iterator[Malformed]:
    kinds = {
        "cut": b'{"input": ', "comma": b'{"a": 1,}', "word": b"nul", "quote": b'{"a', "two values": b"{} {}",
        "not UTF-8": b'{"input": "\xff\xfe"}', "NUL": b"\x00{}", "UTF-16": '{"input": 1}'.encode("utf-16"),
        "deep lists": b'{"input": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        "deep objects": b'{"a":' * 5000 + b"1" + b"}" * 5000, "open for ever": b"[" * 100_000,
    }  # fmt: skip
    for route in body_routes():
        for what, body in kinds.items():
            data = http("POST", target_of(route.path, world), body)
            yield Malformed("JSON that is none", f"{route.path}: {what}", data, REFUSED)


def _wrong_tops(world: World) -> Iterator[Malformed]:
    for route in body_routes():
        for value in ("text", 5, True, [1], [[]]):
            data = http("POST", target_of(route.path, world), json.dumps(value).encode())
            yield Malformed("body of another kind", f"{route.path}: {value!r}", data, UNPROCESSABLE)


def _missing_fields(world: World) -> Iterator[Malformed]:
    bodies = valid_bodies(world)
    for route in body_routes():
        name, parameters = route.codec.operation.name, route.codec.parameters
        if isinstance(route.codec, BareCodec):
            continue
        for field, parameter in parameters.items():
            if parameter.default is inspect.Parameter.empty:
                rest = {key: value for key, value in bodies[name].items() if key != field}
                yield Malformed("missing field", f"{name} without {field}", post(world, name, rest), UNPROCESSABLE)
    for field in span_json(world):
        rest = {key: value for key, value in span_json(world).items() if key != field}
        yield Malformed("missing field", f"span without {field}", post(world, "add_span", rest), UNPROCESSABLE)
        many = {"spans": [span_json(world, span_id="3" * 16), rest]}
        data = post(world, "add_many_spans", many)
        yield Malformed("missing field", f"second of two spans without {field}", data, UNPROCESSABLE)
    data = post(world, "enqueue_many_rollouts", {"rollouts": [{"input": 1}, {"mode": "train"}]})
    yield Malformed("missing field", "second of two rollouts without input", data, UNPROCESSABLE)


def _wrong_types(world: World) -> Iterator[Malformed]:
    bodies = valid_bodies(world)
    for route in body_routes():
        name = route.codec.operation.name
        fields = {} if isinstance(route.codec, BareCodec) else route.codec.parameters
        for field, parameter in fields.items():
            for value in wrong_values(parameter.annotation):
                data = post(world, name, {**bodies[name], field: value})
                yield Malformed("wrong type", f"{name}: {field} = {value!r:.40}", data, UNPROCESSABLE)


def _wrong_parts(world: World) -> Iterator[Malformed]:
    for field, value in _WRONG_IN_SPANS:
        data = post(world, "add_span", span_json(world, **{field: value}))
        yield Malformed("wrong part of a record", f"span: {field} = {value!r:.60}", data, UNPROCESSABLE)
    for field, value in _WRONG_IN_REQUESTS:
        data = post(world, "enqueue_many_rollouts", {"rollouts": [{"input": 1}, {"input": 2, field: value}]})
        yield Malformed("wrong part of a record", f"rollout: {field} = {value!r:.60}", data, UNPROCESSABLE)
    for value in _WRONG_RESOURCES:
        for name in ("add_resources", "update_resources"):
            data = post(world, name, {"main": value})
            yield Malformed("wrong part of a record", f"{name}: {value!r:.60}", data, UNPROCESSABLE)


def wrong_values(annotation: Any) -> list[Any]:
    """JSON values that nothing of this type can be read from; none if everything can."""
    parts = _parts(annotation)
    if Any in parts:
        return []
    candidates: list[Any] = ["\u2603", 1.5, -7.25, [], {}, ["\u2603"], [5], [[]], {"\u2603": 5}]
    return [value for value in candidates if not any(_may_read(part, value) for part in parts)]


def _parts(annotation: Any) -> list[Any]:
    if get_origin(annotation) in _UNIONS:
        return [each for part in get_args(annotation) for each in _parts(part) if part is not Unset]
    return [annotation]


def _may_read(kind: Any, value: Any) -> bool:
    origin = get_origin(kind)
    if origin is Literal:
        return value in get_args(kind)
    if origin in {list, Sequence}:
        parts = _parts(get_args(kind)[0])
        return isinstance(value, list) and all(any(_may_read(part, each) for part in parts) for each in value)
    if origin is tuple:
        return isinstance(value, list) and len(value) == len(get_args(kind))
    is_object = origin in {dict, Mapping} or (inspect.isclass(kind) and issubclass(kind, BaseModel))
    return isinstance(value, dict if is_object else int | float if kind is float else kind)


_WRONG_IN_SPANS: Final[list[tuple[str, Any]]] = [
    ("sequence_id", -1), ("sequence_id", "one"), ("sequence_id", 1.5), ("sequence_id", None), ("sequence_id", []),
    ("rollout_id", 5), ("rollout_id", None), ("attempt_id", []), ("trace_id", 7), ("span_id", None), ("parent_id", 3),
    ("name", None), ("name", {}), ("status", "OK"), ("status", {}), ("status", {"status_code": 1}), ("status", None),
    ("attributes", None), ("attributes", []), ("attributes", {"a": None}), ("attributes", {"a": {"b": 1}}),
    ("attributes", {"a": [1, "b"]}), ("attributes", {"a": [[1]]}), ("attributes", {"a": [None]}), ("events", None),
    ("events", [{}]), ("events", [{"name": 5}]), ("events", [{"name": "e", "timestamp": "soon"}]), ("events", {}),
    ("links", [{}]), ("links", [{"context": {}}]), ("links", "none"), ("start_time", "soon"), ("end_time", []),
    ("context", {}), ("context", "none"),
    ("context", {"trace_id": 1, "span_id": "", "is_remote": 1, "trace_state": {}}),
    ("parent", {"trace_id": ""}), ("resource", None), ("resource", {}),
    ("resource", {"attributes": 5, "schema_url": ""}),
]  # fmt: skip

_WRONG_IN_REQUESTS: Final[list[tuple[str, Any]]] = [
    ("mode", "practice"), ("mode", 5), ("resources_id", 5), ("config", "none"), ("config", {"max_attempts": 0}),
    ("config", {"max_attempts": -1}), ("config", {"max_attempts": "many"}), ("config", {"timeout_seconds": "long"}),
    ("config", {"retry_condition": ["bored"]}), ("config", {"retry_condition": "failed"}), ("metadata", "none"),
    ("metadata", [1]), ("rollout_id", 5), ("group_id", []), ("queue", 5), ("queue", None),
]  # fmt: skip

_WRONG_RESOURCES: Final[list[Any]] = [
    None, 5, "llm", [], {}, {"resource_type": "model"}, {"resource_type": 5}, {"resource_type": "llm"},
    {"resource_type": "llm", "endpoint": "x"}, {"resource_type": "llm", "endpoint": 5, "model": "m"},
    {"resource_type": "llm", "endpoint": "x", "model": "m", "sampling_parameters": 5},
    {"resource_type": "prompt_template", "template": "x"},
    {"resource_type": "prompt_template", "template": "x", "engine": "mako"},
]  # fmt: skip


def _wrong_nulls(world: World) -> Iterator[Malformed]:
    for name, fields in {
        "update_rollout": ("status", "config"),
        "update_attempt": ("status", "worker_id", "last_heartbeat_time", "metadata"),
        "update_worker": ("heartbeat_stats",),
    }.items():
        for field in fields:
            data = post(world, name, {**valid_bodies(world)[name], field: None})
            yield Malformed("null that says nothing", f"{name}: {field}", data, BAD)


def _wrong_values(world: World) -> Iterator[Malformed]:
    inf = float("inf")
    table: dict[str, list[dict[str, Any]]] = {
        "start_rollout": [{"lease_seconds": value} for value in (0, -1, inf, float("nan"))],
        "dequeue_many_rollouts": [
            {"lease_seconds": 0}, {"lease_seconds": -5}, {"queues": []}, {"timeout": float("nan")},
        ],
        "start_attempt": [{"lease_seconds": -1}],
        "update_attempt": [{"last_heartbeat_time": inf}, {"last_heartbeat_time": float("nan")}],
        "query_rollouts": _WRONG_PAGES, "query_workers": _WRONG_PAGES, "query_spans": _WRONG_PAGES,
        "query_attempts": _WRONG_PAGES,
        "completions": [{"limit": 0}, {"limit": -1}, {"after": "soon"}, {"after": "1-2-3"}, {"timeout": float("nan")}],
        "acknowledge_completions": [{"cursor": "x"}, {"cursor": ""}, {"cursor": "-1"}],
        "prune": [
            {"keep_latest": -1}, {"older_than_seconds": -1}, {"older_than_seconds": inf}, {"status_in": ["running"]},
            {"status_in": ["queuing", "failed"]}, {"consumed_cursor": "x"},
        ],
        "expire_attempts": [{"limit": 0}, {"limit": -3}],
        "expire_workers": [{"silent_seconds": -1}, {"silent_seconds": inf}],
    }  # fmt: skip
    bodies = valid_bodies(world)
    for name, changes in table.items():
        for change in changes:
            data = post(world, name, {**bodies[name], **change})
            yield Malformed("value out of bounds", f"{name}: {change!r}", data, REFUSED)
    for name in ("prune", "cancel_rollouts"):
        yield Malformed("value out of bounds", f"{name} without a condition", post(world, name, {}), BAD)
    for number in (1 << 63, 10**30):
        for name, body in (
            ("add_span", span_json(world, sequence_id=number)),
            ("add_many_spans", {"spans": [span_json(world), span_json(world, sequence_id=number, span_id="4")]}),
        ):
            yield Malformed("value out of bounds", f"{name}: number {number}", post(world, name, body), REFUSED)


_WRONG_PAGES: Final[list[dict[str, Any]]] = [
    {"limit": 0}, {"limit": -2}, {"limit": -(10**20)}, {"offset": -1}, {"offset": -(10**20)}, {"sort_by": "nothing"},
    {"sort_by": ""}, {"sort_by": "metadata; drop"}, {"sort_order": "sideways"}, {"sort_order": None},
]  # fmt: skip


def _wrong_names(world: World) -> Iterator[Malformed]:
    names = ["a b", "a/b", "\u2603", "a\nb", "\x00", "x" * 129, "", "{a}", "*"]
    for name in names:
        for field in ("rollout_id", "queue"):
            task = {"input": 1, field: name}
            what = f"{field} = {name!r:.30}"
            yield Malformed("id that cannot be one", what, post(world, "start_rollout", task), REFUSED)
            many = {"rollouts": [{"input": 1}, task]}
            yield Malformed(
                "id that cannot be one", f"enqueue: {what}", post(world, "enqueue_many_rollouts", many), REFUSED
            )
        data = post(world, "dequeue_many_rollouts", {"queues": ["train", name]})
        yield Malformed("id that cannot be one", f"queues = {name!r:.30}", data, REFUSED)
    free = ["a\nb", "\x00", "\x1b[31m", "\x7f", "x" * 513, "\ud800"]
    for id in free:
        for name, field in (
            ("start_rollout", "worker_id"), ("start_rollout", "group_id"), ("start_rollout", "resources_id"),
            ("dequeue_many_rollouts", "worker_id"), ("start_attempt", "worker_id"), ("update_attempt", "worker_id"),
            ("update_rollout", "resources_id"), ("update_attempt", "resources_id"),
        ):  # fmt: skip
            body = {**valid_bodies(world)[name], field: id}
            yield Malformed("id that cannot be one", f"{name}: {field} = {id!r:.30}", post(world, name, body), REFUSED)
    for id in ("a%0Ab", "%00", "%1b%5b31m", "x" * 513):
        for path, value in (
            ("/workers/{}", {}), ("/workers/{}/renew", {"attempts": []}),
            ("/resources/{}", valid_bodies(world)["add_resources"]),
        ):  # fmt: skip
            data = http("POST", API + path.format(id), json.dumps(value).encode())
            yield Malformed("id that cannot be one", f"{path} with {id:.30}", data, REFUSED | {404})
    for id in ("a%0Ab", "%00", "a%20b", "x" * 129):
        data = http("POST", f"{API}/consumers/{id}", b"{}")
        yield Malformed("id that cannot be one", f"consumer {id:.30}", data, REFUSED | {404})


@cache
def _bomb() -> bytes:
    """20 times as large as a body may be, once it is unpacked."""
    return gzip.compress(b'{"a": "' + b"x" * 20 * MAX_BODY_BYTES + b'"}')


def _too_large(world: World) -> Iterator[Malformed]:
    bodies = valid_bodies(world)
    task, span, metadata = ("x" * most for most in (MAX_TASK_BYTES, MAX_SPAN_BYTES, MAX_METADATA_BYTES))
    for name, body in (
        ("start_rollout", {"input": task}),
        ("enqueue_many_rollouts", {"rollouts": [{"input": 1}, {"input": task}]}),
        ("update_rollout", {"input": task}),
        ("start_rollout", {"input": 1, "metadata": {"a": metadata}}),
        ("update_rollout", {"metadata": {"a": metadata}}),
        ("update_attempt", {"metadata": {"a": metadata}, "status": "failed"}),
        ("update_worker", {"heartbeat_stats": {"a": metadata}}),
        ("renew", {**bodies["renew"], "stats": {"a": metadata}}),
        ("add_span", span_json(world, attributes={"a": span})),
        ("add_many_spans", {"spans": [span_json(world), span_json(world, span_id="5", attributes={"a": span})]}),
    ):
        yield Malformed("value too large", f"{name}: {list(body)}", post(world, name, body), BAD)
    for route in body_routes():
        data = http("POST", target_of(route.path, world), b'{"a": "' + b"x" * MAX_BODY_BYTES + b'"}')
        yield Malformed("body too large", route.path, data, frozenset({413}))
        data = http("POST", target_of(route.path, world), _bomb(), {**JSON_TYPE, "Content-Encoding": "gzip"})
        yield Malformed("body too large", f"{route.path}: when unpacked", data, frozenset({413}))


def _unknown_ids(world: World) -> Iterator[Malformed]:
    bodies, missing = valid_bodies(world), frozenset({404})
    for rollout_id in ("ro-unknown", "%E2%98%83", "a%2Fb", "x" * 200, "%00"):
        for name in ("update_rollout", "start_attempt", "update_attempt", "release_attempt"):
            data = post(world, name, bodies[name], rollout_id=rollout_id)
            yield Malformed("record that is not there", f"{name}: rollout {rollout_id:.20}", data, missing)
    for attempt_id in ("at-unknown", "%E2%98%83", "x" * 200):
        for name in ("update_attempt", "release_attempt"):
            data = post(world, name, bodies[name], attempt_id=attempt_id)
            yield Malformed("record that is not there", f"{name}: attempt {attempt_id:.20}", data, missing)
    for field in ("rollout_id", "attempt_id"):
        for id in ("unknown", "", "\u2603", "a\nb"):
            span = span_json(world, **{field: id})
            yield Malformed(
                "record that is not there", f"span: {field} = {id!r}", post(world, "add_span", span), missing
            )
            data = post(world, "add_many_spans", {"spans": [span]})
            yield Malformed("record that is not there", f"spans: {field} = {id!r}", data, missing)
    for id in ("ro-unknown", "", "\u2603"):
        pair = {"rollout_id": id, "attempt_id": "at-1"}
        data = post(world, "get_next_span_sequence_id", pair)
        yield Malformed("record that is not there", f"number for {id!r}", data, missing)
        pairs = [[world.rollout_id, world.attempt_id], [id, "at-1"]]
        data = post(world, "get_many_span_sequence_ids", {"rollout_attempt_ids": pairs})
        yield Malformed("record that is not there", f"second of two numbers for {id!r}", data, missing)


BODIES: Final = (
    _bad_json, _wrong_tops, _missing_fields, _wrong_types, _wrong_parts, _wrong_nulls, _wrong_values, _wrong_names,
    _too_large, _unknown_ids,
)  # fmt: skip
