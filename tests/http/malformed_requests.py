"""Requests that no server may take: a catalogue made from the operations' table, with the statuses that each may get.

Each is a request that would be taken, with one thing wrong. What is wrong is definite: nothing is listed that the
contract or pydantic's conversions allow (a number as text in a query, unknown fields, a limit beyond what there is).
"""

import gzip
import inspect
import json
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from lightning_store.contract import Unset
from lightning_store.http.routes import ROUTES, Route
from lightning_store.http.wire import BareCodec
from lightning_store.operations import OPERATIONS
from tests.support.otlp import ids, otlp_request, otlp_span

API: Final = "/v1/agl"
MAX_BODY_BYTES: Final = 1 << 20
MAX_TASK_BYTES: Final = 64 << 10
MAX_SPAN_BYTES: Final = 64 << 10
MAX_METADATA_BYTES: Final = 16 << 10

UNPROCESSABLE: Final = frozenset({422})
BAD: Final = frozenset({400})
REFUSED: Final = frozenset({400, 422})
HUNG_UP: Final = 0
"""Stands for a connection that is closed without an answer."""

_JSON: Final = {"Content-Type": "application/json"}
_ATTEMPTS: Final = "/rollouts/{rollout_id}/attempts"
_UNIONS: Final = (Union, types.UnionType)


@dataclass(frozen=True)
class World:
    """Ids that are known where the requests are sent."""

    rollout_id: str
    attempt_id: str
    resources_id: str
    worker_id: str


@dataclass(frozen=True)
class Malformed:
    """One request.

    Attributes:
        category: What kind of thing is wrong with it.
        what: What it is, for a person.
        data: The request as bytes.
        expected: Statuses that are right.
    """

    category: str
    what: str
    data: bytes
    expected: frozenset[int]


def malformed_requests(world: World) -> list[Malformed]:
    """The catalogue."""
    sources = (
        _bad_json, _wrong_tops, _missing_fields, _wrong_types, _wrong_parts, _wrong_nulls, _wrong_values, _wrong_names,
        _too_large, _unknown_ids, _bad_queries, _wrong_methods, _wrong_paths, _bad_encodings, _bad_headers, _bad_keys,
        _bad_framing, _otlp_garbage, _otlp_rejects,
    )  # fmt: skip
    return [each for source in sources for each in source(world)]


# -- requests that would be taken --------------------------------------------------------------------------------------


def valid_bodies(world: World) -> dict[str, Any]:
    """A body for each operation that is read from one."""
    pair = {"rollout_id": world.rollout_id, "attempt_id": world.attempt_id}
    task = {"input": {"n": 1}, "mode": "train", "config": {"max_attempts": 2}, "metadata": {"a": 1}, "queue": "train"}
    prompt = {"main": {"resource_type": "prompt_template", "template": "x", "engine": "jinja"}}
    page = {"limit": 5, "offset": 0, "sort_order": "asc"}
    return {
        "start_rollout": {**task, "worker_id": "w", "lease_seconds": 5.0},
        "enqueue_many_rollouts": {"rollouts": [task]},
        "dequeue_many_rollouts": {"limit": 1, "worker_id": "w", "queues": ["train"], "lease_seconds": 5.0},
        "start_attempt": {"worker_id": "w"},
        "query_rollouts": {**page, "status_in": ["queuing"], "filter_logic": "and"},
        "update_rollout": {"status": "failed", "mode": "val", "metadata": {"a": 2}},
        "cancel_rollouts": {"rollout_ids": [world.rollout_id]},
        "delete_rollouts": {"rollout_ids": [world.rollout_id]},
        "prune": {"keep_latest": 0},
        "wait_for_rollouts": {"rollout_ids": [world.rollout_id], "timeout": 0},
        "completions": {"limit": 5},
        "acknowledge_completions": {"cursor": "latest"},
        "forget_consumer": {},
        "query_attempts": {**page, "sort_by": "sequence_id"},
        "update_attempt": {"status": "failed", "worker_id": "w2", "last_heartbeat_time": 1.0, "metadata": {}},
        "release_attempt": {},
        "renew": {"attempts": [[world.rollout_id, world.attempt_id]], "stats": {"cpu": 1}},
        "add_span": span_json(world),
        "add_many_spans": {"spans": [span_json(world)], "renumber": True},
        "get_next_span_sequence_id": pair,
        "get_many_span_sequence_ids": {"rollout_attempt_ids": [[world.rollout_id, world.attempt_id]]},
        "query_spans": {**page, "rollout_id": world.rollout_id, "name_contains": "s"},
        "query_many_spans": {"rollout_ids": [world.rollout_id]},
        "rewards": {"rollout_ids": [world.rollout_id]},
        "add_resources": prompt,
        "update_resources": prompt,
        "update_worker": {"heartbeat_stats": {"cpu": 2}},
        "query_workers": {**page, "status_in": ["busy"]},
        "expire_attempts": {"limit": 5},
        "expire_workers": {"silent_seconds": 1.0},
        "evict_spans": {},
        "audit": {"repair": True},
    }


def span_json(world: World, **fields: Any) -> dict[str, Any]:
    """A span that would be stored."""
    return {
        "rollout_id": world.rollout_id, "attempt_id": world.attempt_id, "sequence_id": 1, "trace_id": "1" * 32,
        "span_id": "2" * 16, "parent_id": None, "name": "step", "status": {"status_code": "OK"}, "attributes": {},
        "events": [], "links": [], "start_time": 1.0, "end_time": 2.0, "context": None, "parent": None,
        "resource": {"attributes": {}, "schema_url": ""}, **fields,
    }  # fmt: skip


def http(method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] = _JSON) -> bytes:
    """A request that is closed after its answer."""
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
    if body is not None:
        lines += [*(f"{name}: {value}" for name, value in headers.items()), f"Content-Length: {len(body)}"]
    else:
        lines += [f"{name}: {value}" for name, value in headers.items() if name != "Content-Type"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def _target(path: str, world: World) -> str:
    known = {**vars(world), "consumer": "reader"}
    for name, value in known.items():
        path = path.replace(f"{{{name}}}", value)
    return API + path


def _body_routes() -> Iterator[Route]:
    return (route for route in ROUTES if not route.reads_query)


def _post(world: World, operation: str, value: Any, **ids_: str) -> bytes:
    """A request for an operation whose body is a JSON value."""
    row = OPERATIONS[operation]
    path = str(row.path)
    for name, id in ids_.items():
        path = path.replace(f"{{{name}}}", id)
    return http("POST", _target(path, world), json.dumps(value).encode())


# -- bodies ------------------------------------------------------------------------------------------------------------


def _bad_json(world: World) -> Iterator[Malformed]:
    kinds = {
        "cut": b'{"input": ', "comma": b'{"a": 1,}', "word": b"nul", "quote": b'{"a', "two values": b"{} {}",
        "not UTF-8": b'{"input": "\xff\xfe"}', "NUL": b"\x00{}", "UTF-16": '{"input": 1}'.encode("utf-16"),
        "deep lists": b'{"input": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        "deep objects": b'{"a":' * 5000 + b"1" + b"}" * 5000, "open for ever": b"[" * 100_000,
    }  # fmt: skip
    for route in _body_routes():
        for what, body in kinds.items():
            data = http("POST", _target(route.path, world), body)
            yield Malformed("JSON that is none", f"{route.path}: {what}", data, REFUSED)


def _wrong_tops(world: World) -> Iterator[Malformed]:
    for route in _body_routes():
        for value in ("text", 5, True, [1], [[]]):
            data = http("POST", _target(route.path, world), json.dumps(value).encode())
            yield Malformed("body of another kind", f"{route.path}: {value!r}", data, UNPROCESSABLE)


def _missing_fields(world: World) -> Iterator[Malformed]:
    bodies = valid_bodies(world)
    for route in _body_routes():
        name, parameters = route.codec.operation.name, route.codec.parameters
        if isinstance(route.codec, BareCodec):
            continue
        for field, parameter in parameters.items():
            if parameter.default is inspect.Parameter.empty:
                rest = {key: value for key, value in bodies[name].items() if key != field}
                yield Malformed("missing field", f"{name} without {field}", _post(world, name, rest), UNPROCESSABLE)
    for field in span_json(world):
        rest = {key: value for key, value in span_json(world).items() if key != field}
        yield Malformed("missing field", f"span without {field}", _post(world, "add_span", rest), UNPROCESSABLE)
        many = {"spans": [span_json(world, span_id="3" * 16), rest]}
        data = _post(world, "add_many_spans", many)
        yield Malformed("missing field", f"second of two spans without {field}", data, UNPROCESSABLE)
    data = _post(world, "enqueue_many_rollouts", {"rollouts": [{"input": 1}, {"mode": "train"}]})
    yield Malformed("missing field", "second of two rollouts without input", data, UNPROCESSABLE)


def _wrong_types(world: World) -> Iterator[Malformed]:
    bodies = valid_bodies(world)
    for route in _body_routes():
        name = route.codec.operation.name
        fields = {} if isinstance(route.codec, BareCodec) else route.codec.parameters
        for field, parameter in fields.items():
            for value in wrong_values(parameter.annotation):
                data = _post(world, name, {**bodies[name], field: value})
                yield Malformed("wrong type", f"{name}: {field} = {value!r:.40}", data, UNPROCESSABLE)


def _wrong_parts(world: World) -> Iterator[Malformed]:
    for field, value in _WRONG_IN_SPANS:
        data = _post(world, "add_span", span_json(world, **{field: value}))
        yield Malformed("wrong part of a record", f"span: {field} = {value!r:.60}", data, UNPROCESSABLE)
    for field, value in _WRONG_IN_REQUESTS:
        data = _post(world, "enqueue_many_rollouts", {"rollouts": [{"input": 1}, {"input": 2, field: value}]})
        yield Malformed("wrong part of a record", f"rollout: {field} = {value!r:.60}", data, UNPROCESSABLE)
    for value in _WRONG_RESOURCES:
        for name in ("add_resources", "update_resources"):
            data = _post(world, name, {"main": value})
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
            data = _post(world, name, {**valid_bodies(world)[name], field: None})
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
            data = _post(world, name, {**bodies[name], **change})
            yield Malformed("value out of bounds", f"{name}: {change!r}", data, REFUSED)
    for name in ("prune", "cancel_rollouts"):
        yield Malformed("value out of bounds", f"{name} without a condition", _post(world, name, {}), BAD)
    for number in (1 << 63, 10**30):
        for name, body in (
            ("add_span", span_json(world, sequence_id=number)),
            ("add_many_spans", {"spans": [span_json(world), span_json(world, sequence_id=number, span_id="4")]}),
        ):
            yield Malformed("value out of bounds", f"{name}: number {number}", _post(world, name, body), REFUSED)


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
            yield Malformed("id that cannot be one", what, _post(world, "start_rollout", task), REFUSED)
            many = {"rollouts": [{"input": 1}, task]}
            yield Malformed(
                "id that cannot be one", f"enqueue: {what}", _post(world, "enqueue_many_rollouts", many), REFUSED
            )
        data = _post(world, "dequeue_many_rollouts", {"queues": ["train", name]})
        yield Malformed("id that cannot be one", f"queues = {name!r:.30}", data, REFUSED)
    free = ["a\nb", "\x00", "\x1b[31m", "\x7f", "x" * 513, "\ud800"]
    for id in free:
        for name, field in (
            ("start_rollout", "worker_id"), ("start_rollout", "group_id"), ("start_rollout", "resources_id"),
            ("dequeue_many_rollouts", "worker_id"), ("start_attempt", "worker_id"), ("update_attempt", "worker_id"),
            ("update_rollout", "resources_id"), ("update_attempt", "resources_id"),
        ):  # fmt: skip
            body = {**valid_bodies(world)[name], field: id}
            yield Malformed("id that cannot be one", f"{name}: {field} = {id!r:.30}", _post(world, name, body), REFUSED)
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
        yield Malformed("value too large", f"{name}: {list(body)}", _post(world, name, body), BAD)
    for route in _body_routes():
        data = http("POST", _target(route.path, world), b'{"a": "' + b"x" * MAX_BODY_BYTES + b'"}')
        yield Malformed("body too large", route.path, data, frozenset({413}))
        packed = gzip.compress(b'{"a": "' + b"x" * 20 * MAX_BODY_BYTES + b'"}')
        data = http("POST", _target(route.path, world), packed, {**_JSON, "Content-Encoding": "gzip"})
        yield Malformed("body too large", f"{route.path}: when unpacked", data, frozenset({413}))


def _unknown_ids(world: World) -> Iterator[Malformed]:
    bodies, missing = valid_bodies(world), frozenset({404})
    for rollout_id in ("ro-unknown", "%E2%98%83", "a%2Fb", "x" * 200, "%00"):
        for name in ("update_rollout", "start_attempt", "update_attempt", "release_attempt"):
            data = _post(world, name, bodies[name], rollout_id=rollout_id)
            yield Malformed("record that is not there", f"{name}: rollout {rollout_id:.20}", data, missing)
    for attempt_id in ("at-unknown", "%E2%98%83", "x" * 200):
        for name in ("update_attempt", "release_attempt"):
            data = _post(world, name, bodies[name], attempt_id=attempt_id)
            yield Malformed("record that is not there", f"{name}: attempt {attempt_id:.20}", data, missing)
    for field in ("rollout_id", "attempt_id"):
        for id in ("unknown", "", "\u2603", "a\nb"):
            span = span_json(world, **{field: id})
            yield Malformed(
                "record that is not there", f"span: {field} = {id!r}", _post(world, "add_span", span), missing
            )
            data = _post(world, "add_many_spans", {"spans": [span]})
            yield Malformed("record that is not there", f"spans: {field} = {id!r}", data, missing)
    for id in ("ro-unknown", "", "\u2603"):
        pair = {"rollout_id": id, "attempt_id": "at-1"}
        data = _post(world, "get_next_span_sequence_id", pair)
        yield Malformed("record that is not there", f"number for {id!r}", data, missing)
        pairs = [[world.rollout_id, world.attempt_id], [id, "at-1"]]
        data = _post(world, "get_many_span_sequence_ids", {"rollout_attempt_ids": pairs})
        yield Malformed("record that is not there", f"second of two numbers for {id!r}", data, missing)


# -- queries, methods, paths, headers ----------------------------------------------------------------------------------


def _bad_queries(world: World) -> Iterator[Malformed]:
    page = ["limit=0", "limit=-2", "limit=x", "limit=1.5", "limit=", "offset=-1", "offset=x", "limit=%ff", "offset=1e3",
            "sort_by=nothing", "sort_by=%00"]  # fmt: skip
    ordered = ["sort_order=sideways", "sort_order="]
    logic = ["filter_logic=xor", "filter_logic=AND"]
    rollout = f"rollout_id={world.rollout_id}"
    table = {
        "/rollouts": [*page, *ordered, *logic, "status_in=done", "status_in=queuing&status_in=", "status_in=%F0"],
        "/workers": [*page, *ordered, *logic, "status_in=asleep"],
        "/resources": [*page, *ordered],
        f"/rollouts/{world.rollout_id}/attempts": [*page, *ordered],
        "/spans": ["", "attempt_id=at-1", *(f"{rollout}&{each}" for each in (*page, *ordered, *logic))],
        "/events": ["limit=x", "limit=1.5"],
    }
    for path, queries in table.items():
        for query in queries:
            data = http("GET", f"{API}{path}?{query}")
            yield Malformed(
                "bad query",
                f"{path.partition(world.rollout_id)[0]}?{query.replace(rollout, 'rollout_id=…')}",
                data,
                REFUSED,
            )


def _wrong_methods(world: World) -> Iterator[Malformed]:
    allowed: dict[str, set[str]] = {}
    for route in ROUTES:
        allowed.setdefault(route.path, set()).add(route.method)
    # What looks like an id to another route has that route's methods too.
    others = {"/rollouts/search": "/rollouts/{rollout_id}", "/workers/search": "/workers/{worker_id}",
              "/rollouts/cancel": "/rollouts/{rollout_id}", "/rollouts/delete": "/rollouts/{rollout_id}",
              "/rollouts/prune": "/rollouts/{rollout_id}", "/resources/latest": "/resources/{resources_id}",
              f"{_ATTEMPTS}/latest": f"{_ATTEMPTS}/{{attempt_id}}"}  # fmt: skip
    for path, methods in allowed.items():
        known = methods | allowed.get(others.get(path, ""), set())
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"} - known:
            yield Malformed("wrong method", f"{method} {path}", http(method, _target(path, world)), frozenset({405}))


def _wrong_paths(world: World) -> Iterator[Malformed]:
    missing = frozenset({404})
    for path in ("/", "/rollout", "/rollouts/", "/rollouts/x/y", "/spans/", "/spans/x", "/queues/rollouts", "/v1",
                 "/../agl/rollouts", "/%2e%2e/rollouts", "//rollouts", "/waits", "/upkeep", "/statistics/", "/%00",
                 f"/rollouts/{world.rollout_id}/attempts/{world.attempt_id}/more", "/workers/a/b/c"):  # fmt: skip
        for method in ("GET", "POST"):
            data = http(method, API + path, b"{}" if method == "POST" else None)
            yield Malformed("wrong path", f"{method} {path.replace(world.rollout_id, '…')[:40]}", data, missing | {405})
    yield Malformed(
        "wrong path", "over-long", http("GET", f"{API}/rollouts/{'x' * 60_000}"), frozenset({400, 414, 431})
    )
    yield Malformed(
        "wrong path", "over-long query", http("GET", f"{API}/rollouts?a={'x' * 60_000}"), frozenset({400, 414, 431})
    )


def _bad_encodings(world: World) -> Iterator[Malformed]:
    whole = gzip.compress(b'{"input": 1}')
    kinds: list[tuple[str, str, bytes, int]] = [
        ("no gzip", "gzip", b'{"input": 1}', 400), ("cut gzip", "gzip", whole[:-6], 400),
        ("wrong checksum", "gzip", whole[:-8] + b"\0\0\0\0" + whole[-4:], 400), ("unknown", "br", b"{}", 415),
        ("twice", "gzip, gzip", gzip.compress(whole), 415), ("more behind it", "gzip", whole + b"more", 400),
    ]  # fmt: skip
    for route in _body_routes():
        for what, encoding, body, status in kinds:
            data = http("POST", _target(route.path, world), body, {**_JSON, "Content-Encoding": encoding})
            yield Malformed("bad encoding", f"{route.path}: {what}", data, frozenset({status}))


def _bad_headers(world: World) -> Iterator[Malformed]:
    body = json.dumps({"input": 1}).encode()
    strange = {
        "another machine's Host": (b"Host: evil.example\r\n", {400, 403}),
        "a page of another machine": (b"Host: 127.0.0.1\r\nOrigin: https://evil.example\r\n", {403}),
        "no Host": (b"", {400, 403}),
        "headers without end": (b"Host: 127.0.0.1\r\nX-Long: " + b"x" * 60_000 + b"\r\n", {400, 431}),
        "many headers": (b"Host: 127.0.0.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(6000)), {400, 431}),
        "a header that is none": (b"Host: 127.0.0.1\r\nno colon here\r\n", {400}),
        "NUL in a header": (b"Host: 127.0.0.1\r\nX-A: a\0b\r\n", {400}),
        "a name with a blank": (b"Host: 127.0.0.1\r\nX A: b\r\n", {400}),
    }
    for what, (headers, statuses) in strange.items():
        start = f"POST {API}/rollouts HTTP/1.1\r\nContent-Type: application/json\r\nConnection: close\r\n".encode()
        data = start + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body
        yield Malformed("bad header", what, data, frozenset(statuses))


def _bad_keys(world: World) -> Iterator[Malformed]:
    """Calls that name themselves, for repeats, in a way that no client of ours does."""
    for route in _body_routes():
        if not route.codec.operation.mutates:
            continue
        body = json.dumps(valid_bodies(world)[route.codec.operation.name]).encode()
        for key in ("x", "0" * 31, "0" * 33, "G" * 32, "0" * 31 + "\xff", ""):
            data = http("POST", _target(route.path, world), body, {**_JSON, "Idempotency-Key": key})
            yield Malformed("bad key of a repeat", f"{route.path}: {key!r:.40}", data, BAD)


def _bad_framing(world: World) -> Iterator[Malformed]:
    start = f"POST {API}/rollouts HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n".encode()
    body = json.dumps({"input": 1}).encode()
    closed = frozenset({400, HUNG_UP})
    pieces = {
        "no HTTP": b"hello\r\n\r\n",
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 64 + b"\r\n\r\n",
        "another version": b"GET / HTTP/9.9\r\n\r\n", "a method that is none": b"G@T / HTTP/1.1\r\nHost: x\r\n\r\n",
        "negative length": start + b"Content-Length: -5\r\n\r\n" + body,
        "length in words": start + b"Content-Length: many\r\n\r\n" + body,
        "two lengths": start + b"Content-Length: 5\r\nContent-Length: 12\r\n\r\n" + body,
        "enormous length": start + b"Content-Length: 99999999999999999999999\r\n\r\n" + body,
        "length and chunks": start + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "chunk that is none": start + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + body + b"\r\n0\r\n\r\n",
        "negative chunk": start + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        "blank in the target": b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
        "control character in the target": b"GET /a\x01b HTTP/1.1\r\nHost: x\r\n\r\n",
    }  # fmt: skip
    for what, data in pieces.items():
        yield Malformed("not HTTP", what, data, closed | {413} if what == "enormous length" else closed)


# -- OTLP --------------------------------------------------------------------------------------------------------------


def _otlp(body: bytes, kind: str = "application/x-protobuf", path: str = "/v1/traces", **headers: str) -> bytes:
    return http("POST", path, body, {"Content-Type": kind, **{k.replace("_", "-"): v for k, v in headers.items()}})


def _otlp_garbage(world: World) -> Iterator[Malformed]:
    good = otlp_request([otlp_span(1)], ids(world.rollout_id, world.attempt_id)).SerializeToString()
    as_json = "application/json"
    kinds: list[tuple[str, bytes, int]] = [
        ("text/plain", _otlp(good, "text/plain"), 400), ("octets", _otlp(good, "application/octet-stream"), 400),
        ("no content type", _otlp(good, ""), 400), ("garbage", _otlp(b"\xff" * 40), 400),
        ("cut", _otlp(good[:-3]), 400), ("JSON as protobuf", _otlp(b'{"resourceSpans": []}'), 400),
        ("protobuf as JSON", _otlp(good, as_json), 400), ("bad JSON", _otlp(b"{", as_json), 400),
        ("list", _otlp(b"[]", as_json), 400), ("deep", _otlp(b'{"a":' * 50_000, as_json), 400),
        ("wrong id", _otlp(b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"zz"}]}]}]}', as_json), 400),
        ("no list", _otlp(b'{"resourceSpans": 5}', as_json), 400), ("not UTF-8", _otlp(b'{"\xff": 1}', as_json), 400),
        ("no gzip", _otlp(good, Content_Encoding="gzip"), 400), ("brotli", _otlp(good, Content_Encoding="br"), 415),
        ("cut gzip", _otlp(gzip.compress(good)[:-5], Content_Encoding="gzip"), 400),
        ("large", _otlp(b"x" * (MAX_BODY_BYTES + 1)), 413),
        ("bomb", _otlp(gzip.compress(bytes(64 * MAX_BODY_BYTES)), Content_Encoding="gzip"), 413),
        *((path, _otlp(good, path=path), 501) for path in ("/v1/metrics", "/v1/logs", "/v1/development/profiles")),
        *((f"{method} /v1/traces", http(method, "/v1/traces"), 405) for method in ("GET", "PUT", "DELETE", "PATCH")),
    ]  # fmt: skip
    kinds += [(f"cut at {place}", _otlp(good[:place] + b"\x0b"), 400) for place in range(0, len(good) - 4, 4)]
    for what, data, status in kinds:
        yield Malformed("OTLP garbage", what, data, frozenset({status}))


def _otlp_rejects(world: World) -> Iterator[Malformed]:
    """These are requests, but have no span that can be stored; the answer says so."""
    mine = ids(world.rollout_id, world.attempt_id)
    spans: dict[str, dict[str, Any]] = {
        "no ids": {}, "no attempt": {"agentlightning.rollout_id": world.rollout_id},
        "list as id": {**mine, "agentlightning.rollout_id": ["a"]},
        "unknown rollout": ids("ro-unknown", "at-1"), "unknown attempt": ids(world.rollout_id, "at-unknown"),
        "control characters": ids("a\nb\0", "\x1b"), "empty ids": ids("", ""),
        "null ids": {**mine, "agentlightning.attempt_id": None},
        "too large": {**mine, "text": "x" * MAX_SPAN_BYTES},
    }  # fmt: skip
    for what, attributes in spans.items():
        data = _otlp(otlp_request([otlp_span(1, attributes)]).SerializeToString())
        yield Malformed("OTLP, all spans rejected", what, data, frozenset({200}))
