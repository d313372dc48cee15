"""The story that both servers are told: every route of the contract's section 6.1, right and wrong."""

from typing import Any, Final

from tests.agentlightning.support.telling import PREFIX, Step

PROMPT: Final = {"resource_type": "prompt_template", "template": "{x}", "engine": "f-string"}
LLM: Final = {"resource_type": "llm", "endpoint": "http://localhost:1", "model": "m"}
PROXY: Final = {"resource_type": "proxy_llm", "endpoint": "http://localhost:1", "model": "m", "api_key": "k"}


def _span(span_id: str, **fields: Any) -> dict[str, Any]:
    context = {"trace_id": "b" * 32, "span_id": span_id, "is_remote": False, "trace_state": {"k": "v"}}
    span = {
        "rollout_id": "<ro1>", "attempt_id": "<at5>", "sequence_id": 1, "trace_id": "b" * 32, "span_id": span_id,
        "parent_id": None, "name": "call", "status": {"status_code": "OK", "description": None, "extra": 1},
        "attributes": {"text": "é", "n": 1, "f": 1.5, "yes": True, "list": [1, 2], "none": []},
        "events": [{"name": "e", "attributes": {}, "timestamp": 1.5, "extra": [1]}],
        "links": [{"context": context, "attributes": None}], "start_time": 1.0, "end_time": 2.0, "context": context,
        "parent": None, "resource": {"attributes": {"a": "b"}, "schema_url": ""}, "kind": "CLIENT",
    }  # fmt: skip
    return {**span, **fields}


def _get(name: str, path: str, /, **query: Any) -> Step:
    return Step(name, "GET", PREFIX + path, query=query)


def _post(name: str, path: str, /, *body: Any) -> Step:
    return Step(name, "POST", PREFIX + path, *body)


_CREATION: Final = (
    _get("health", "/health"),
    _get("latest resources of an empty store", "/resources/latest"),
    _post("enqueue nothing", "/queues/rollouts/enqueue", {"rollouts": []}),
    _post("dequeue from an empty queue, no body", "/queues/rollouts/dequeue"),
    _post("dequeue from an empty queue, named worker", "/queues/rollouts/dequeue", {"worker_id": "idler"}),
    _post("enqueue two", "/queues/rollouts/enqueue", {"rollouts": [
        {"input": {"a": [1, 1.5, None, "é"]}, "mode": "train", "metadata": {"m": 1},
         "config": {"max_attempts": 2, "retry_condition": ["failed"], "timeout_seconds": 600}},
        {"input": None, "mode": None, "resources_id": None, "config": None, "metadata": None},
    ]}),
    _post("start", "/rollouts", {"input": 1, "worker_id": "starter", "mode": "val"}),
    _post("start with nothing but an input", "/rollouts", {"input": "x"}),
    _post("start for an unknown resources id", "/rollouts", {"input": 1, "resources_id": "rs-none", "unknown": 1}),
)  # fmt: skip

_REFUSED_CREATION: Final = (
    _post("enqueue without a body", "/queues/rollouts/enqueue"),
    _post("enqueue without an input", "/queues/rollouts/enqueue", {"rollouts": [{"mode": "train"}]}),
    _post("enqueue of an unknown mode", "/queues/rollouts/enqueue", {"rollouts": [{"input": 1, "mode": "dev"}]}),
    _post("enqueue without attempts", "/queues/rollouts/enqueue", {"rollouts": [
        {"input": 1, "config": {"max_attempts": 0}}
    ]}),
    _post("start without an input", "/rollouts", {"mode": "train"}),
    _post("start with a list as metadata", "/rollouts", {"input": 1, "metadata": [1]}),
    Step("malformed JSON", "POST", PREFIX + "/rollouts", raw=b'{"input": '),
    _post("dequeue none", "/queues/rollouts/dequeue", {"limit": 0, "worker_id": "never-seen"}),
    _post("dequeue less than none", "/queues/rollouts/dequeue", {"limit": -3}),
    _post("dequeue of text", "/queues/rollouts/dequeue", {"limit": "many"}),
)  # fmt: skip

_RESOURCES: Final = (
    _post("add resources", "/resources", {"prompt": PROMPT, "llm": LLM, "proxy": PROXY}),
    _post("add empty resources", "/resources", {}),
    _post("update resources", "/resources/<rs0>", {"prompt": PROMPT}),
    _post("create resources by update", "/resources/own", {"llm": {**LLM, "sampling_parameters": {"t": 0.5}}}),
    _post("create resources called search", "/resources/search", {"llm": LLM}),
    _post("create resources called latest", "/resources/latest", {"llm": LLM}),
    _get("latest resources", "/resources/latest"),
    _get("one snapshot", "/resources/own"),
    _get("unknown snapshot", "/resources/rs-unknown"),
    _get("all snapshots", "/resources"),
    _get(
        "snapshots, filtered and sorted",
        "/resources",
        resources_id_contains="s",
        sort_by="version",
        sort_order="desc",
        limit=3,
    ),
    _get("snapshots by id", "/resources", resources_id="own"),
    _get("snapshots sorted by nothing known", "/resources", sort_by="nonsense"),
    _post("resources of an unknown type", "/resources", {"x": {"resource_type": "database"}}),
    _post("resources without a field", "/resources", {"x": {"resource_type": "llm", "model": "m"}}),
    _post("resources without a body", "/resources"),
)

_ATTEMPTS: Final = (
    _post("claim one", "/queues/rollouts/dequeue", {"limit": 1, "worker_id": "worker"}),
    _get("one rollout with its attempt", "/rollouts/<ro0>"),
    _get("one rollout without attempts", "/rollouts/<ro1>"),
    _post("attempt by hand", "/rollouts/<ro0>/attempts", {"worker_id": "second"}),
    _post("attempt by hand, no body", "/rollouts/<ro1>/attempts"),
    _get("attempts", "/rollouts/<ro0>/attempts"),
    _get("attempts, sorted and paged", "/rollouts/<ro0>/attempts", sort_by="sequence_id", sort_order="desc", limit=1),
    _post("attempts by search", "/rollouts/<ro0>/attempts/search", {"sort_by": None, "limit": 1, "offset": 1}),
    _get("attempts of an unknown rollout", "/rollouts/ro-unknown/attempts"),
    _get("attempts sorted by nothing known", "/rollouts/<ro0>/attempts", sort_by="nonsense"),
    _get("attempts in no order", "/rollouts/<ro0>/attempts", sort_order="sideways"),
    _get("latest attempt", "/rollouts/<ro0>/attempts/latest"),
    _get("latest attempt of an unknown rollout", "/rollouts/ro-unknown/attempts/latest"),
    _get("one attempt by its id", "/rollouts/<ro0>/attempts/<at3>"),
    _post("report a failure", "/rollouts/<ro0>/attempts/latest", {"status": "failed", "metadata": {"why": None}}),
    _post("report a heartbeat", "/rollouts/<ro1>/attempts/latest", {"last_heartbeat_time": 5.5}),
    _post("report nothing", "/rollouts/<ro1>/attempts/latest", {}),
    _post("report without a body", "/rollouts/<ro1>/attempts/latest"),
    _post("attempts by search without a body", "/rollouts/<ro1>/attempts/search"),
    _post("report an unknown status", "/rollouts/<ro1>/attempts/latest", {"status": "done"}),
    _post("report null as status", "/rollouts/<ro1>/attempts/latest", {"status": None}),
    _post("report null as worker", "/rollouts/<ro1>/attempts/latest", {"worker_id": None}),
    _post("report null as metadata", "/rollouts/<ro1>/attempts/latest", {"metadata": None}),
    _post("report on an unknown attempt", "/rollouts/<ro1>/attempts/at-unknown", {"status": "running"}),
    _post("report on an unknown rollout", "/rollouts/ro-unknown/attempts/latest", {"status": "running"}),
    _post("attempt of an unknown rollout", "/rollouts/ro-unknown/attempts"),
)

_SPANS: Final = (
    _post("number of a span", "/spans/next", {"rollout_id": "<ro1>", "attempt_id": "<at5>"}),
    _post("span", "/spans", _span("1" * 16, attempt_id="<at5>")),
    _post("the same span again", "/spans", _span("1" * 16, attempt_id="<at5>")),
    _post("second span", "/spans", _span("2" * 16, attempt_id="<at5>", sequence_id=7, name="plan", parent_id="p")),
    _post("number after a higher one", "/spans/next", {"rollout_id": "<ro1>", "attempt_id": "<at5>"}),
    _get("spans", "/spans", rollout_id="<ro1>"),
    _get("spans of the latest attempt", "/spans", rollout_id="<ro1>", attempt_id="latest", name="plan"),
    _post("spans by search", "/spans/search", {"rollout_id": "<ro1>", "sort_by": "sequence_id", "sort_order": "desc"}),
    _post("spans that meet one condition", "/spans/search", {
        "rollout_id": "<ro1>", "name_contains": "la", "parent_id": "q", "filter_logic": "or", "limit": 5
    }),
    _get("spans of an unknown rollout", "/spans", rollout_id="ro-unknown"),
    _get("spans of no rollout", "/spans"),
    _get("spans sorted by nothing known", "/spans", rollout_id="<ro1>", sort_by="nonsense"),
    _get("spans, none of them", "/spans", rollout_id="<ro1>", limit=0),
    _post("span of an unknown rollout", "/spans", _span("3" * 16, rollout_id="ro-unknown")),
    _post("span of an unknown attempt", "/spans", _span("3" * 16, attempt_id="at-unknown")),
    _post("span without a name", "/spans", {name: value for name, value in _span("3" * 16).items() if name != "name"}),
    _post("span with null as attribute", "/spans", _span("3" * 16, attempt_id="<at5>", attributes={"a": None})),
    _post("number for an unknown rollout", "/spans/next", {"rollout_id": "ro-unknown", "attempt_id": "at-unknown"}),
    _post("number without an attempt", "/spans/next", {"rollout_id": "<ro1>"}),
)  # fmt: skip

_UPDATES: Final = (
    _post("update a rollout", "/rollouts/<ro1>", {"input": {"b": 1}, "mode": "test", "metadata": None}),
    _post("update nothing of a rollout", "/rollouts/<ro1>", {}),
    _post("finish a rollout", "/rollouts/<ro2>", {"status": "cancelled"}),
    _post("null as status", "/rollouts/<ro1>", {"status": None}),
    _post("null as config", "/rollouts/<ro1>", {"config": None}),
    _post("an unknown status", "/rollouts/<ro1>", {"status": "done"}),
    _post("update an unknown rollout", "/rollouts/ro-unknown", {"status": "cancelled"}),
    _post("update without a body", "/rollouts/<ro1>"),
    _post("wait for finished ones", "/waits/rollouts", {"rollout_ids": ["<ro2>", "<ro1>", "ro-unknown"], "timeout": 0}),
    _post("wait for nothing", "/waits/rollouts", {"rollout_ids": [], "timeout": 0.1}),
    _post("wait without ids", "/waits/rollouts", {"timeout": 0}),
)

_QUERIES: Final = (
    _get("one unknown rollout", "/rollouts/ro-unknown"),
    _get("all rollouts", "/rollouts"),
    _get("rollouts of two statuses", "/rollouts", status_in=["cancelled", "requeuing"], sort_by="start_time"),
    _get("rollouts by id or status", "/rollouts", rollout_id_in=["<ro0>", "<ro1>"], status_in="cancelled",
         filter_logic="or", sort_order="desc", limit=2, offset=1),
    _post("rollouts by search", "/rollouts/search", {"status_in": ["cancelled"], "rollout_id_contains": "ro-"}),
    _post("rollouts by search without a body", "/rollouts/search"),
    _post("workers by search without a body", "/workers/search"),
    _post("spans by search without a body", "/spans/search"),
    _post("wait without a body", "/waits/rollouts"),
    _get("a route that only takes POST", "/queues/rollouts/dequeue"),
    _get("an update, asked for", "/workers/search"),
    _post("rollouts of no status", "/rollouts/search", {"status_in": []}),
    _post("rollouts by null", "/rollouts/search", {"status_in": None, "sort_by": None, "limit": 1}),
    _get("rollouts of an unknown status", "/rollouts", status_in="done"),
    _get("rollouts sorted by nothing known", "/rollouts", sort_by="nonsense"),
    _get("rollouts, none of them", "/rollouts", limit=0),
    _get("rollouts, fewer than none", "/rollouts", limit=-2),
    _get("rollouts from before the first", "/rollouts", offset=-1),
    _get("rollouts of unknown logic", "/rollouts", filter_logic="xor"),
    _get("rollouts with parameters that nobody knows", "/rollouts", nonsense=1, limit=1),
    _post("heartbeat", "/workers/worker", {"heartbeat_stats": {"cpu": 0.5}}),
    _post("heartbeat without a body", "/workers/new-worker"),
    _post("heartbeat of nothing", "/workers/new-worker", {}),
    _post("heartbeat of null", "/workers/worker", {"heartbeat_stats": None}),
    _get("one worker", "/workers/worker"),
    _get("one unknown worker", "/workers/unknown"),
    _get("all workers", "/workers"),
    _get("workers, filtered and sorted", "/workers", status_in=["idle", "unknown"], sort_by="worker_id", limit=2),
    _post("workers by search", "/workers/search", {"worker_id_contains": "er", "sort_by": "last_busy_time"}),
    _get("workers sorted by nothing known", "/workers", sort_by="nonsense"),
    _get("statistics", "/statistics"),
)  # fmt: skip

_PAGE: Final = {"limit": 20, "offset": 0, "sort_order": "desc"}

_DASHBOARD: Final = (
    _get("dashboard: rollouts", "/rollouts", **_PAGE, sort_by="start_time", status_in=["running", "cancelled"],
         mode_in=["val"], rollout_id_contains="ro"),
    _get("dashboard: all rollouts", "/rollouts", limit=-1, offset=0),
    _get("dashboard: attempts", "/rollouts/<ro0>/attempts", **_PAGE, sort_by="sequence_id"),
    _get("dashboard: spans", "/spans", **_PAGE, rollout_id="<ro1>", attempt_id="<at5>", sort_by="start_time",
         trace_id_contains="b", span_id_contains="1", parent_id_contains="p", name_contains="pl", filter_logic="or"),
    _get("dashboard: resources", "/resources", **_PAGE, sort_by="version", resources_id_contains="s"),
    _get("dashboard: workers", "/workers", **_PAGE, sort_by="status", status_in=["busy", "idle"],
         worker_id_contains="er"),
)  # fmt: skip
"""What the front end of upstream's dashboard asks for, with the parameters that it sends."""

_ROUTES: Final = (
    _get("no such path", "/nonsense"),
    _get("a slash too many", "/rollouts/"),
    Step("another method", "DELETE", PREFIX + "/rollouts/<ro1>"),
    Step("head of a route", "HEAD", PREFIX + "/rollouts"),
    Step("options without CORS", "OPTIONS", PREFIX + "/rollouts"),
    Step("metrics by OTLP", "POST", "/v1/metrics", raw=b""),
    Step("logs by OTLP", "POST", "/v1/logs", raw=b""),
    Step("profiles by OTLP", "POST", "/v1/development/profiles", raw=b""),
)

STORY: Final = (
    *_CREATION, *_REFUSED_CREATION, *_RESOURCES, *_ATTEMPTS, *_SPANS, *_UPDATES, *_QUERIES, *_DASHBOARD,
    *_ROUTES,
)  # fmt: skip
