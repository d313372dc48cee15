"""`/v1/traces` over a real server: raw requests, and OpenTelemetry's own exporter in another process."""

import asyncio
import gzip
import json
import re
import sys
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from google.protobuf import json_format
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from lightning_store.backends.memory import InMemoryLightningStore
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.errors import AccessDeniedError, StoreFullError, StoreUnavailableError
from lightning_store.forwarding import ForwardingStore
from lightning_store.http.options import ServerOptions
from lightning_store.http.serving import Plan, assemble
from tests.support.factories import make_span
from tests.support.otlp import ids, ids_of, otlp_request, otlp_span, serving
from tests.support.otlp_agent import STEPS

PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}
MAX_BODY_BYTES = 1 << 19
TOO_LARGE = f"expected a body of at most {MAX_BODY_BYTES} bytes"


class Door:
    """The routes over a store, as a client without any comfort sees them."""

    def __init__(self, address: str, session: aiohttp.ClientSession) -> None:
        self.address = address
        self._session = session

    async def post(self, body: bytes, path: str = "/v1/traces", **headers: str) -> tuple[int, bytes, Any]:
        """Status, body as it came, headers."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.request("POST", path, data=body, headers={"Accept-Encoding": "identity", **named})

    async def request(self, method: str, path: str, **options: Any) -> tuple[int, bytes, Any]:
        async with self._session.request(method, self.address + path, **options) as answer:
            return answer.status, await answer.read(), answer.headers

    async def send(self, request: ExportTraceServiceRequest) -> ExportTraceServiceResponse:
        """Send a request that has to be taken."""
        status, body, headers = await self.post(request.SerializeToString(), **PROTOBUF)
        assert (status, headers["Content-Type"]) == (200, "application/x-protobuf"), body
        return ExportTraceServiceResponse.FromString(body)


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
async def store(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Any]:
    if request.param == "memory":
        made: Any = InMemoryLightningStore(max_span_bytes=4096)
    else:
        made = RedisLightningStore(request.getfixturevalue("redis_url"), namespace=namespace, max_span_bytes=4096)
    yield made
    await made.close()


@pytest.fixture
async def door(store: Any) -> AsyncIterator[Door]:
    async with opened(store) as made:
        yield made


@asynccontextmanager
async def opened(store: Any) -> AsyncIterator[Door]:
    """A door to a store."""
    app = assemble(Plan(store, ServerOptions(max_body_bytes=MAX_BODY_BYTES), None)).app
    async with serving(app) as address, aiohttp.ClientSession(auto_decompress=False) as session:
        yield Door(address, session)


def error_of(body: bytes) -> str:
    """The message of an error, which has nothing else."""
    status = Status.FromString(body)
    assert status == Status(message=status.message)
    return str(status.message)


async def names(store: Any, rollout: Any) -> list[tuple[int, str]]:
    return [(span.sequence_id, span.name) for span in await store.query_spans(rollout.rollout_id)]


# -- what is taken ---------------------------------------------------------------------------------------------------


async def test_spans_are_stored_numbered_and_a_sign_of_life(store, door):
    rollout = await store.start_rollout("task")

    answer = await door.send(otlp_request([otlp_span(1), otlp_span(2)], ids_of(rollout)))

    assert answer == ExportTraceServiceResponse()
    assert await names(store, rollout) == [(1, "step 1"), (2, "step 2")]
    found = await store.get_rollout_by_id(rollout.rollout_id)
    assert (found.status, found.attempt.status) == ("running", "running")


async def test_numbers_that_are_given_are_kept_and_others_are_the_next_in_order(store, door):
    rollout = await store.start_rollout("task")
    spans = [
        otlp_span(1),
        otlp_span(2, ids_of(rollout, 7)),
        otlp_span(3, ids_of(rollout, -1)),
        otlp_span(4, ids_of(rollout, "0")),
        otlp_span(5, ids_of(rollout, "soon")),
    ]

    await door.send(otlp_request(spans, ids_of(rollout)))
    await door.send(otlp_request([otlp_span(6)], ids_of(rollout)))

    assert await names(store, rollout) == [
        (0, "step 4"), (1, "step 1"), (2, "step 3"), (3, "step 5"), (7, "step 2"), (8, "step 6"),
    ]  # fmt: skip


async def test_numbers_run_through_the_attempts_of_a_rollout_in_order_of_appearance(store, door):
    first = await store.start_rollout("task")
    second = await store.start_attempt(first.rollout_id)
    other = await store.start_rollout("other")
    owners = [first, second, other, first, second]

    await door.send(otlp_request([otlp_span(number, ids_of(owner)) for number, owner in enumerate(owners)]))

    assert await names(store, first) == [(1, "step 0"), (2, "step 1"), (3, "step 3"), (4, "step 4")]
    assert await names(store, other) == [(1, "step 2")]


async def test_duplicates_are_dropped_and_not_rejected(store, door):
    rollout = await store.start_rollout("task")
    request = otlp_request([otlp_span(1), otlp_span(2)], ids_of(rollout))
    await door.send(request)
    request.resource_spans[0].scope_spans[0].spans.append(otlp_span(3))

    assert await door.send(request) == ExportTraceServiceResponse()

    assert await names(store, rollout) == [(1, "step 1"), (2, "step 2"), (3, "step 3")]


async def test_json_is_taken_and_answered_in_json(store, door):
    rollout = await store.start_rollout("task")
    span = {
        "traceId": "AB" * 16,
        "spanId": "cd" * 8,
        "name": "step",
        "kind": 3,
        "startTimeUnixNano": "1700000000500000000",
    }
    attributes = [{"key": key, "value": {"stringValue": value}} for key, value in ids_of(rollout).items()]
    tree = {"resourceSpans": [{"resource": {"attributes": attributes}, "scopeSpans": [{"spans": [span, {}]}]}]}

    status, body, headers = await door.post(json.dumps(tree).encode(), Content_Type="application/json; charset=utf-8")

    assert (status, headers["Content-Type"], json.loads(body)) == (200, "application/json", {})
    stored, empty = await store.query_spans(rollout.rollout_id)
    assert (stored.trace_id, stored.span_id, stored.start_time) == ("ab" * 16, "cd" * 8, 1_700_000_000.5)
    assert stored.model_extra["kind"] == "SpanKind.CLIENT"
    assert (empty.trace_id, empty.span_id, empty.name) == ("0" * 32, "0" * 16, "")


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
async def test_packed_requests(store, door, pack):
    rollout = await store.start_rollout("task")
    body = otlp_request([otlp_span(1)], ids_of(rollout)).SerializeToString()
    encoding = "gzip" if pack is gzip.compress else "deflate"

    status, _, _ = await door.post(pack(body), Content_Encoding=encoding, **PROTOBUF)

    assert (status, await names(store, rollout)) == (200, [(1, "step 1")])


@pytest.mark.parametrize("listed", ["gzip", "br, GZIP;q=0", "deflate,gzip;q=0.5"])
@pytest.mark.parametrize("kind", [PROTOBUF, JSON, {"Content-Type": "text/plain"}])
async def test_answers_are_packed_where_the_client_lists_gzip_errors_included(door, listed, kind):
    for body in (b"", b"\xff"):
        plain = await door.post(body, **kind)
        status, packed, headers = await door.post(body, Accept_Encoding=listed, **kind)

        assert (status, gzip.decompress(packed)) == plain[:2]
        assert (headers["Content-Encoding"], headers["Content-Type"]) == ("gzip", plain[2]["Content-Type"])
        assert "Content-Encoding" not in plain[2]


@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
async def test_empty_body_is_a_success(door, kind):
    for encoding in ("identity", "gzip"):
        status, body, headers = await door.post(b"", Content_Encoding=encoding, **kind)
        assert (status, body) == (200, b"" if kind is PROTOBUF else b"{}")
        assert headers["Content-Type"] == kind["Content-Type"]


async def test_many_spans_in_one_request(store, door):
    """More than go into one call of the store, and enough to be converted in a thread."""
    rollout = await store.start_rollout("task")
    spans = [otlp_span(number, {"text": "x" * 300}) for number in range(1, 1001)]

    await door.send(otlp_request(spans, ids_of(rollout)))

    assert await names(store, rollout) == [(number, f"step {number}") for number in range(1, 1001)]


# -- what is rejected, and what goes on beside it ----------------------------------------------------------------------


async def test_spans_that_cannot_be_stored_are_counted_and_the_others_are_stored(store, door, caplog):
    rollout = await store.start_rollout("task")
    attempt_id = rollout.attempt.attempt_id
    spans = [
        otlp_span(1, ids_of(rollout)),
        otlp_span(2),
        otlp_span(3, {"agentlightning.rollout_id": rollout.rollout_id}),
        otlp_span(4, ids("ro-unknown", attempt_id)),
        otlp_span(5, ids(rollout.rollout_id, "at-unknown")),
        otlp_span(6, ids("not a name\n", "")),
        otlp_span(7, {**ids_of(rollout), "text": "x" * 5000}),
        otlp_span(8, {**ids_of(rollout, 12), "text": "x" * 5000}),
        otlp_span(9, ids_of(rollout)),
    ]

    answer = await door.send(otlp_request(spans))

    partial = answer.partial_success
    assert partial.rejected_spans == 7
    assert "2 rejected: no attribute agentlightning.rollout_id or agentlightning.attempt_id" in partial.error_message
    for reason in (
        "Rollout ro-unknown not found",
        "Attempt at-unknown not found",
        "'step 7'",
        "'step 8'",
        "max_span_bytes",
    ):
        assert reason in partial.error_message
    # Numbers of a rollout of which the request names several attempts are taken beforehand, so rejected spans use some.
    assert await names(store, rollout) == [(1, "step 1"), (4, "step 9")]
    assert (await store.statistics())["total_spans"] == 2
    assert re.search("OTLP spans rejected: .2 rejected", caplog.text)


async def test_partial_success_in_json(door):
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [{"spanId": "00ff" * 4}]}]}]}).encode()

    status, answer, _ = await door.post(body, **JSON)

    partial = json.loads(answer)["partialSuccess"]
    assert (status, partial["rejectedSpans"]) == (200, "1")
    assert "agentlightning.rollout_id" in partial["errorMessage"]


async def test_message_is_bounded_however_many_reasons_there_are(door):
    spans = [otlp_span(number, ids(f"ro-{number}" * 40, "at-1")) for number in range(1000)]

    partial = (await door.send(otlp_request(spans))).partial_success

    assert partial.rejected_spans == 1000
    assert len(partial.error_message) < 4000
    assert partial.error_message.endswith("992 more reasons")


async def test_unknown_rollout_with_two_attempts_is_rejected_too(store, door):
    rollout = await store.start_rollout("task")
    spans = [otlp_span(1, ids("ro-x", "at-1")), otlp_span(2, ids("ro-x", "at-2")), otlp_span(3, ids_of(rollout))]

    assert (await door.send(otlp_request(spans))).partial_success.rejected_spans == 2

    assert await names(store, rollout) == [(1, "step 3")]


# -- what is refused ---------------------------------------------------------------------------------------------------


async def test_other_content_types_are_refused(store, door):
    rollout = await store.start_rollout("task")
    body = otlp_request([otlp_span(1)], ids_of(rollout)).SerializeToString()
    for content_type in ("application/protobuf", "text/plain", "application/octet-stream", ""):
        status, answer, headers = await door.post(body, Content_Type=content_type)
        assert (status, headers["Content-Type"]) == (400, "application/x-protobuf")
        assert error_of(answer).startswith(f"Unsupported Content-Type {content_type!r}")
    assert (await store.statistics())["total_spans"] == 0


@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        (b"\xffgarbage", {}, 400, "Unable to parse OTLP traces payload: "),
        (b"garbage", {"Content_Encoding": "gzip"}, 400, "not gzip"),
        (gzip.compress(b"x" * 100)[:-9], {"Content_Encoding": "gzip"}, 400, "ends before its gzip"),
        (b"", {"Content_Encoding": "br"}, 415, "expected gzip, deflate or none, got 'br'"),
        (b"x" * (MAX_BODY_BYTES + 1), {}, 413, TOO_LARGE),
        (gzip.compress(bytes(100 << 20)), {"Content_Encoding": "gzip"}, 413, TOO_LARGE),
    ],
    ids=["garbage", "no gzip", "cut gzip", "brotli", "large", "bomb"],
)
async def test_bodies_that_are_none_are_refused_in_the_encoding_of_the_request(
    door, kind, body, headers, status, message
):
    answered, answer, answer_headers = await door.post(body, **headers, **kind)

    told = error_of(answer) if kind is PROTOBUF else json.loads(answer)["message"]
    assert (answered, answer_headers["Content-Type"]) == (status, kind["Content-Type"])
    assert message in told


async def test_body_without_a_length_is_bounded_as_it_arrives(door):
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(65536)

    try:
        asked = door.request("POST", "/v1/traces", data=endless(), headers=PROTOBUF)
        assert (await asyncio.wait_for(asked, 30))[0] == 413
    except aiohttp.ClientError:
        pass  # who never stops to send may miss the answer


async def test_client_that_goes_away_within_the_body_leaves_nothing(store, door, caplog):
    rollout = await store.start_rollout("task")
    body = otlp_request([otlp_span(1)], ids_of(rollout)).SerializeToString()
    host, port = door.address.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n"
        b"Content-Length: %d\r\n\r\n" % (len(body) + 1) + body
    )
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    assert (await door.post(b"", **PROTOBUF))[0] == 200
    assert await names(store, rollout) == []
    assert "Exception" not in caplog.text


@pytest.mark.parametrize("path", ["/v1/metrics", "/v1/logs", "/v1/development/profiles"])
async def test_other_signals_are_not_taken(door, path):
    assert (await door.post(b"x", path, **PROTOBUF))[:2] == (501, b"")
    assert (await door.request("GET", path))[0] == 405


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
async def test_other_methods_and_paths_are_not_there(door, method):
    assert (await door.request(method, "/v1/traces"))[0] == 405
    assert (await door.request("POST", "/v1/traces/", allow_redirects=False))[0] in {404, 307}


# -- a store that cannot -----------------------------------------------------------------------------------------------


class Refusing(ForwardingStore):
    """A store in which everything fails in one way."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def invoke(self, operation: Any, arguments: dict[str, Any]) -> Any:
        raise self._error


@pytest.mark.parametrize(
    ("error", "status", "is_passing"),
    [
        (StoreUnavailableError("out of reach"), 503, True),
        (StoreFullError("no memory"), 503, True),
        (AccessDeniedError("not allowed"), 403, False),
    ],
)
async def test_errors_of_the_store_say_whether_to_come_again(error, status, is_passing):
    async with opened(Refusing(error)) as door:
        request = otlp_request([otlp_span(1, ids("ro-1", "at-1"))])
        answered, body, headers = await door.post(request.SerializeToString(), **PROTOBUF)

    assert (answered, error_of(body)) == (status, f"{error.code}: {error}")
    assert headers.get("Retry-After") == ("1" if is_passing else None)


async def test_redis_that_is_full_is_told_as_unavailable_and_the_repeat_stores_the_rest(private_redis, namespace):
    server = private_redis()
    store = RedisLightningStore(server.url, namespace=namespace)
    client = server.client()
    try:
        rollout = await store.start_rollout("task")
        await store.add_span(make_span(rollout.rollout_id, rollout.attempt.attempt_id, span_id="f" * 16))
        request = otlp_request([otlp_span(1), otlp_span(2)], ids_of(rollout)).SerializeToString()
        async with opened(store) as door:
            client.config_set("maxmemory", "1")
            full = await door.post(request, **PROTOBUF)
            client.config_set("maxmemory", "0")
            taken = await door.post(request, **PROTOBUF)
            assert await names(store, rollout) == [(1, "step"), (2, "step 1"), (3, "step 2")]
    finally:
        client.close()
        await store.close()

    assert (full[0], full[2]["Retry-After"], taken[0]) == (503, "1", 200)


# -- OpenTelemetry's own exporter, in another process ------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["none", "gzip", "deflate"])
async def test_agent_that_traces_with_the_sdk(store, door, compression):
    rollout = await store.start_rollout("task")
    attempt_id = rollout.attempt.attempt_id

    agent = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.otlp_agent",
        f"{door.address}/v1/traces", rollout.rollout_id, attempt_id, compression,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    printed, _ = await agent.communicate()

    assert (agent.returncode, printed.decode().split()) == (0, [str(STEPS + 2)])
    spans = list(await store.query_spans(rollout.rollout_id))
    assert [span.sequence_id for span in spans] == list(range(1, STEPS + 3))
    root = next(span for span in spans if span.name == "agent")
    steps = [span for span in spans if span.name.startswith("step")]
    assert (root.parent_id, root.status.status_code, root.status.description) == (None, "ERROR", "gone wrong")
    assert [span.name for span in steps] == [f"step {number}" for number in range(STEPS)]
    for number, span in enumerate(steps):
        assert (span.trace_id, span.parent_id) == (root.trace_id, root.span_id)
        assert span.attributes == {"n": number, "ratio": 0.5, "ok": True, "texts": ["a", "ü"], "text": "x" * 1000}
        assert (span.events[0].name, span.events[0].attributes) == ("thought", {"n": number})
        assert (span.links[0].context.span_id, span.links[0].attributes) == (root.span_id, {"step": number})
        assert root.start_time <= span.start_time <= span.end_time <= root.end_time
        assert span.model_extra["kind"] == "SpanKind.CLIENT"
        assert span.model_extra["scope"] == {"name": "tests.agent", "version": "1.2", "attributes": {"flavour": "test"}}
        assert span.resource.attributes["service.name"] == "agent"
    assert await store.rewards([rollout.rollout_id]) == {rollout.rollout_id: 0.75}


async def test_agent_whose_rollout_is_unknown_is_told(door):
    agent = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.otlp_agent", f"{door.address}/v1/traces", "ro-x", "at-x", "none",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    await agent.communicate()

    assert agent.returncode == 0


def test_messages_of_partial_success_are_what_the_specification_says():
    """Field names of the JSON that exporters in other languages read."""
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 1
    assert json_format.MessageToDict(answer) == {"partialSuccess": {"rejectedSpans": "1"}}
