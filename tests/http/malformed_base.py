"""What malformed requests are made of: requests that would be taken, and how they are written."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from lightning_store.http.routes import ROUTES, Route
from lightning_store.operations import OPERATIONS

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

JSON_TYPE: Final = {"Content-Type": "application/json"}


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


def http(method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] = JSON_TYPE) -> bytes:
    """A request that is closed after its answer."""
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
    if body is not None:
        lines += [*(f"{name}: {value}" for name, value in headers.items()), f"Content-Length: {len(body)}"]
    else:
        lines += [f"{name}: {value}" for name, value in headers.items() if name != "Content-Type"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def target_of(path: str, world: World) -> str:
    known = {**vars(world), "consumer": "reader"}
    for name, value in known.items():
        path = path.replace(f"{{{name}}}", value)
    return API + path


def body_routes() -> Iterator[Route]:
    return (route for route in ROUTES if not route.reads_query)


def post(world: World, operation: str, value: Any, **ids_: str) -> bytes:
    """A request for an operation whose body is a JSON value."""
    row = OPERATIONS[operation]
    path = str(row.path)
    for name, id in ids_.items():
        path = path.replace(f"{{{name}}}", id)
    return http("POST", target_of(path, world), json.dumps(value).encode())
