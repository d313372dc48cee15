"""The API as clients other than ours see it: section 6 of the contract, to status codes, null against absent, pages."""

import math

import aiohttp
import pytest

from lightning_store.backends.memory import InMemoryLightningStore
from lightning_store.records import AttemptedRollout, Rollout
from tests.support.clock import SettableClock
from tests.support.factories import make_span, span_of
from tests.support.http_server import Raw, ServedStore

RECORD = ["rollout_id", "input", "start_time", "end_time", "mode", "resources_id", "status", "config", "metadata"]
LLM = {"resource_type": "llm", "endpoint": "http://e", "model": "m"}


@pytest.fixture
async def served():
    store = ServedStore(InMemoryLightningStore(clock=SettableClock()))
    yield store
    await store.close()


@pytest.fixture
async def http(served):
    async with aiohttp.ClientSession() as session:
        yield Raw(served.url, session)


def span_body(rollout, **changes):
    return span_of(rollout).model_dump() | changes


async def started(http, **fields):
    _, rollout = await http("POST", "/rollouts", {"input": "task", "worker_id": "w"} | fields)
    return AttemptedRollout.model_validate(rollout)


# -- every route -------------------------------------------------------------------------------------------------------


async def test_health_and_statistics(http):
    assert await http("GET", "/health") == (200, {"status": "ok"})
    status, counts = await http("GET", "/statistics")
    assert (status, counts["total_rollouts"]) == (200, 0)


async def test_enqueue_and_dequeue(http):
    tasks = [{"input": 1}, {"input": None, "mode": "train", "config": {"max_attempts": 2}, "metadata": {"a": []}}]
    status, created = await http("POST", "/queues/rollouts/enqueue", {"rollouts": tasks})
    assert (status, [each["input"] for each in created]) == (201, [1, None])
    assert list(created[0])[: len(RECORD)] == RECORD
    assert "attempt" not in created[0]
    assert await http("POST", "/queues/rollouts/enqueue", {"rollouts": []}) == (201, [])

    status, claimed = await http("POST", "/queues/rollouts/dequeue")
    assert (status, len(claimed), claimed[0]["attempt"]["sequence_id"]) == (200, 1, 1)
    status, claimed = await http("POST", "/queues/rollouts/dequeue", {"limit": 5, "worker_id": "w"})
    assert [each["attempt"]["worker_id"] for each in claimed] == ["w"]
    assert await http("POST", "/queues/rollouts/dequeue", {"limit": 0, "worker_id": "v"}) == (200, [])
    assert await http("GET", "/workers/v") == (200, None)


async def test_rollouts(http):
    status, rollout = await http(
        "POST", "/rollouts", {"input": {"a": 1}, "mode": None, "config": None, "metadata": None, "worker_id": None}
    )
    assert (status, rollout["status"], rollout["attempt"]["status"]) == (201, "preparing", "preparing")
    path = f"/rollouts/{rollout['rollout_id']}"
    assert await http("GET", path) == (200, rollout)
    status, updated = await http("POST", path, {"status": "running"})
    assert (status, updated["status"], "attempt" in updated) == (200, "running", False)
    status, again = await http("POST", path + "/attempts")
    assert (status, again["attempt"]["sequence_id"]) == (201, 2)
    status, again = await http("POST", path + "/attempts", {"worker_id": "w"})
    assert (status, again["attempt"]["worker_id"]) == (201, "w")


async def test_attempts(http):
    rollout = await started(http)
    path = f"/rollouts/{rollout.rollout_id}/attempts"
    for page in (await http("GET", path), await http("POST", path + "/search", {})):
        assert (page[0], page[1]["total"], page[1]["limit"], page[1]["offset"]) == (200, 1, -1, 0)
    assert (await http("GET", path + "/latest"))[1]["attempt_id"] == rollout.attempt.attempt_id
    for id in ("latest", rollout.attempt.attempt_id):
        status, attempt = await http("POST", f"{path}/{id}", {"metadata": {"by": id}})
        assert (status, attempt["metadata"]) == (200, {"by": id})


async def test_resources(http):
    assert await http("GET", "/resources/latest") == (200, None)
    status, added = await http("POST", "/resources", {"main": LLM})
    assert (status, added["version"], added["resources"]["main"]["model"]) == (201, 1, "m")
    status, updated = await http("POST", f"/resources/{added['resources_id']}", {})
    assert (status, updated["version"], updated["resources"]) == (200, 2, {})
    for path in (f"/resources/{added['resources_id']}", "/resources/latest"):
        assert await http("GET", path) == (200, updated)
    status, page = await http("GET", "/resources?resources_id_contains=rs-&limit=5")
    assert (status, page["total"], page["limit"]) == (200, 1, 5)
    assert await http("GET", "/resources/unknown") == (200, None)


async def test_spans(http):
    rollout = await started(http)
    body = span_body(rollout, kind="CLIENT")
    assert await http("POST", "/spans", body) == (201, body)
    assert await http("POST", "/spans", body) == (201, None)
    query = f"/spans?rollout_id={rollout.rollout_id}&name_contains=st&attempt_id=latest&limit=3"
    for page in (
        await http("GET", query),
        await http("POST", "/spans/search", {"rollout_id": rollout.rollout_id}),
    ):
        assert (page[0], page[1]["items"]) == (200, [body])
    pair = {"rollout_id": rollout.rollout_id, "attempt_id": "any"}
    assert await http("POST", "/spans/next", pair) == (200, {"sequence_id": 2})


async def test_waits(http):
    rollout = await started(http)
    ids = {"rollout_ids": [rollout.rollout_id, "ro-unknown"], "timeout": 0}
    assert await http("POST", "/waits/rollouts", ids) == (200, [])
    await http("POST", f"/rollouts/{rollout.rollout_id}/attempts/latest", {"status": "failed"})
    status, finished = await http("POST", "/waits/rollouts", {**ids, "timeout": None})
    assert (status, len(finished), "attempt" in finished[0]) == (200, 1, False)


async def test_workers(http):
    assert await http("GET", "/workers/w") == (200, None)
    status, worker = await http("POST", "/workers/w")
    assert (status, worker["worker_id"], worker["heartbeat_stats"]) == (200, "w", None)
    status, worker = await http("POST", "/workers/w", {"heartbeat_stats": {"a": 1.0}})
    assert worker["heartbeat_stats"] == {"a": 1.0}
    for page in (
        await http("GET", "/workers?status_in=idle&status_in=unknown"),
        await http("POST", "/workers/search", {}),
    ):
        assert page == (200, {"items": [worker], "limit": -1, "offset": 0, "total": 1})


# -- what is told apart ------------------------------------------------------------------------------------------------


async def test_rollouts_with_and_without_attempts_are_told_apart_by_a_key(http):
    await http("POST", "/queues/rollouts/enqueue", {"rollouts": [{"input": 1}]})
    await started(http)
    for page in (await http("GET", "/rollouts"), await http("POST", "/rollouts/search", {})):
        assert ["attempt" in each for each in page[1]["items"]] == [False, True]


async def test_queries_take_lists_and_pages(http):
    for number in range(4):
        await started(http, rollout_id=f"r{number}")
    status, page = await http(
        "GET", "/rollouts?status_in=preparing&status_in=failed&rollout_id_in=r1&rollout_id_in=r3&rollout_id_in=r9"
        "&sort_by=rollout_id&sort_order=desc&limit=1&offset=1&unknown=1",
    )  # fmt: skip
    assert status == 200
    assert [each["rollout_id"] for each in page["items"]] == ["r1"]
    assert (page["limit"], page["offset"], page["total"]) == (1, 1, 2)
    body = {"rollout_id_in": [], "sort_by": None, "status_in": None}
    assert (await http("POST", "/rollouts/search", body))[1]["total"] == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [("input", {"new": None}), ("input", None), ("mode", None), ("resources_id", None), ("metadata", None)],
)
async def test_null_in_an_update_of_a_rollout_is_a_value(http, field, value):
    rollout = await started(http, input="old", mode="train", resources_id="rs", metadata={"a": 1})
    status, updated = await http("POST", f"/rollouts/{rollout.rollout_id}", {field: value})
    expected = {**rollout.model_dump(exclude={"attempt"}), field: value}
    assert (status, updated) == (200, expected)


async def test_null_is_refused_where_there_has_to_be_a_value(http):
    rollout = await started(http)
    path = f"/rollouts/{rollout.rollout_id}"
    refused = [(path, name) for name in ("status", "config")]
    refused += [
        (f"{path}/attempts/latest", name) for name in ("status", "worker_id", "last_heartbeat_time", "metadata")
    ]
    refused += [("/workers/w", "heartbeat_stats")]
    for target, name in refused:
        status, body = await http("POST", target, {name: None})
        assert (status, name in body["detail"], body["error_type"]) == (400, True, "INVALID_REQUEST"), (target, name)


async def test_values_that_json_has_not_are_null_for_others(http, served):
    rollout = await served.start_rollout({"nan": math.nan, "list": [math.inf, -math.inf, 1.0], "text": "NaN \ud800"})
    status, body = await http("GET", f"/rollouts/{rollout.rollout_id}")
    assert status == 200
    assert body["input"] == {"nan": None, "list": [None, None, 1.0], "text": "NaN \ud800"}


async def test_big_integers_and_kinds_of_numbers_are_kept(http):
    value = {"big": 10**40, "one": 1, "float": 1.0, "true": True, "empty": [[], {}], "": "\x00"}
    rollout = await started(http, input=value)
    answer = await http.whole("GET", f"/rollouts/{rollout.rollout_id}")
    assert b'"one":1,"float":1.0,"true":true' in answer.body
    assert answer.json["input"] == value


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("/rollouts", {}, ["body", "input"]),
        ("/rollouts", {"input": 1, "mode": "demo"}, ["body", "mode"]),
        ("/rollouts", {"input": 1, "config": {"max_attempts": 0}}, ["body", "config", "max_attempts"]),
        ("/queues/rollouts/enqueue", {}, ["body", "rollouts"]),
        ("/queues/rollouts/enqueue", {"rollouts": [{}]}, ["body", "rollouts", 0]),
        ("/queues/rollouts/enqueue", {"rollouts": {}}, ["body", "rollouts"]),
        ("/queues/rollouts/dequeue", {"limit": "many"}, ["body", "limit"]),
        ("/rollouts/search", {"status_in": ["lost"]}, ["body", "status_in", 0]),
        ("/rollouts/search", {"sort_order": "up"}, ["body", "sort_order"]),
        ("/rollouts/search", {"filter_logic": "xor"}, ["body", "filter_logic"]),
        ("/rollouts/r", {"status": "lost"}, ["body", "status"]),
        ("/rollouts/r/attempts/a", {"status": "queuing"}, ["body", "status"]),
        ("/resources", {"m": {"resource_type": "tool"}}, ["body", "m"]),
        ("/spans", {}, ["body", "rollout_id"]),
        ("/spans/next", {"rollout_id": "r"}, ["body", "attempt_id"]),
        ("/waits/rollouts", {"rollout_ids": "r"}, ["body", "rollout_ids"]),
        ("/workers/w", {"heartbeat_stats": 1}, ["body", "heartbeat_stats"]),
        ("/rollouts/search", [], ["body"]),
    ],
)
async def test_ill_typed_fields_are_told_by_their_place(http, path, body, place):
    status, answer = await http("POST", path, body)
    first = answer["detail"][0]
    assert (status, first["loc"]) == (422, place)
    assert {"type", "msg", "input"} <= set(first)


@pytest.mark.parametrize("data", [b"{", b"\xff", b"[1,", b'{"input": 1} 2', b"9" * 5000, b"[" * 100_000])
async def test_what_is_no_json_is_unprocessable(http, data):
    for path in ("/rollouts", "/spans", "/resources", "/rollouts/search"):
        status, answer = await http("POST", path, data=data)
        assert (status, answer["detail"][0]["loc"][0]) == (422, "body")
    assert (await http("GET", "/statistics"))[1]["total_rollouts"] == 0


@pytest.mark.parametrize("path", ["/rollouts", "/queues/rollouts/enqueue", "/spans", "/resources", "/waits/rollouts"])
async def test_body_that_is_needed_and_missing_is_unprocessable(http, path):
    status, answer = await http("POST", path)
    assert (status, answer["detail"][0]["loc"][0]) == (422, "body")


async def test_queries_are_checked_too(http):
    status, answer = await http("GET", "/spans?limit=x")
    assert status == 422
    assert {tuple(each["loc"]) for each in answer["detail"]} == {("query", "rollout_id"), ("query", "limit")}


@pytest.mark.parametrize("page", [{"limit": 0}, {"limit": -2}, {"offset": -1}])
async def test_pages_have_bounds(http, page):
    [(name, value)] = page.items()
    for path in ("/rollouts", "/workers", "/rollouts/r/attempts"):
        status, answer = await http("POST", path + "/search", page)
        assert (status, name in answer["detail"]) == (400, True)
        assert (await http("GET", f"{path}?{name}={value}"))[0] == 400
    assert (await http("GET", f"/resources?{name}={value}"))[0] == 400
    assert (await http("POST", "/spans/search", {"rollout_id": "r", **page}))[0] == 400


async def test_unknown_field_to_sort_by_is_told_with_those_that_there_are(http):
    fields = ", ".join(Rollout.model_fields)
    assert await http("POST", "/rollouts/search", {"sort_by": "size"}) == (
        400,
        {"detail": f"Invalid sort_by: size, allowed fields are: {fields}", "error_type": "INVALID_REQUEST"},
    )


async def test_unknown_ids(http):
    assert await http("GET", "/rollouts/ro-x") == (200, None)
    assert await http("GET", "/rollouts/ro-x/attempts/latest") == (200, None)
    assert (await http("GET", "/rollouts/ro-x/attempts"))[1]["total"] == 0
    for path, body in (
        ("/rollouts/ro-x", {"mode": "train"}),
        ("/rollouts/ro-x/attempts", None),
        ("/rollouts/ro-x/attempts/latest", {"status": "failed"}),
        ("/spans", make_span("ro-x", "at-x").model_dump()),
        ("/spans/next", {"rollout_id": "ro-x", "attempt_id": "at-x"}),
    ):
        status, answer = await http("POST", path, body)
        assert (status, answer["error_type"], "ro-x" in answer["detail"]) == (404, "ROLLOUT_NOT_FOUND", True), path


async def test_paths_and_methods_that_there_are_not(http):
    for method, path in (
        ("GET", "/nothing"), ("GET", ""), ("GET", "/"), ("GET", "/rollouts/"), ("POST", "/rollouts//attempts"),
        ("GET", "/rollouts/r/attempts/latest/"), ("POST", "/workers/"), ("GET", "/rollouts/r/attempts/a"),
    ):  # fmt: skip
        assert await http(method, path) == (404, {"detail": "Not Found"}), path
    for method, path, allowed in (
        ("PUT", "/rollouts", "GET, POST"),
        ("DELETE", "/rollouts/r/attempts/a", "POST"),
        ("OPTIONS", "/rollouts", "GET, POST"),
        ("POST", "/health", "GET"),
        ("PATCH", "/statistics", "GET"),
    ):
        answer = await http.whole(method, path)
        assert (answer.status, answer.json, answer.headers["Allow"]) == (
            405,
            {"detail": "Method Not Allowed"},
            allowed,
        )
    assert (await http.whole("HEAD", "/rollouts")).status == 405


async def test_words_of_the_api_win_over_ids(http):
    await http("POST", "/resources/latest", {})
    await http("POST", "/resources/search", {"m": LLM})
    _, page = await http("GET", "/resources")
    assert [each["resources_id"] for each in page["items"]] == ["latest", "search"]
    assert (await http("GET", "/resources/latest"))[1]["resources_id"] == "search"
    assert (await http("GET", "/resources/%6catest"))[1]["resources_id"] == "latest"


async def test_faults_of_our_own_tell_nothing_unless_they_are_wanted(caplog):
    class Broken(InMemoryLightningStore):
        async def get_latest_resources(self):
            raise RuntimeError("secret")

    async with aiohttp.ClientSession() as session:
        for debug in (False, True):
            store = ServedStore(Broken(), debug=debug)
            status, answer = await Raw(store.url, session)("GET", "/resources/latest")
            assert (status, answer["detail"], answer["error_type"]) == (500, "Internal server error", "INTERNAL")
            assert ("RuntimeError: secret" in answer.get("traceback", "")) is debug
            await store.close()
    assert "secret" in caplog.text


# -- headers -----------------------------------------------------------------------------------------------------------


async def test_every_answer_says_which_api_it_is(http):
    for method, path in (("GET", "/health"), ("GET", "/rollouts"), ("GET", "/nothing"), ("POST", "/rollouts")):
        answer = await http.whole(method, path)
        assert answer.headers["X-Lightning-Store"] == "1"
        assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("origins", [["*"], ["http://here", "http://there"]])
async def test_pages_of_other_origins(origins):
    store = ServedStore(InMemoryLightningStore(), cors_origins=origins)
    async with aiohttp.ClientSession() as session:
        http = Raw(store.url, session)
        known = await http.whole("GET", "/health", headers={"Origin": "http://here"})
        asked = {
            "Origin": "http://here",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "x-a",
        }
        preflight = await http.whole("OPTIONS", "/rollouts", headers=asked)
        other = await http.whole("GET", "/health", headers={"Origin": "http://elsewhere"})
    await store.close()

    allowed = {"*", "http://here"} if origins == ["*"] else {"http://here"}
    assert known.headers["Access-Control-Allow-Origin"] in allowed
    assert known.headers["Access-Control-Expose-Headers"] == "*"
    assert known.headers["Access-Control-Allow-Credentials"] == "true"
    assert preflight.status == 200
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    assert other.status == 200
    if origins != ["*"]:
        assert "Access-Control-Allow-Origin" not in other.headers


async def test_without_origins_there_are_no_such_headers(http):
    answer = await http.whole("GET", "/health", headers={"Origin": "http://here"})
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
