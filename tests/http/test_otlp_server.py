"""`/v1/traces` of a whole server: its guards answer as OTLP wants it, requests are counted, and memory is bounded."""

import asyncio
import gzip
import io
import re
from pathlib import Path
from typing import Final

import psutil
import pytest
from google.rpc.status_pb2 import Status

from lightning_store import InMemoryLightningStore, RedisLightningStore
from lightning_store.http.otlp_wire import field
from lightning_store.http.server import LightningStoreServer
from tests.support.faulty import FaultyStore
from tests.support.otlp import ids, ids_of, otlp_request, otlp_span
from tests.support.scraping import scrape
from tests.support.serving import TOKEN_OF, TOKENS, ask, connect
from tests.support.until import until

PROTOBUF = "application/x-protobuf"
KIB, MIB = 1 << 10, 1 << 20
OTLP_PATHS = ["/v1/traces", "/v1/metrics", "/v1/logs", "/v1/development/profiles"]


async def post(server, body=b"", *, path="/v1/traces", kind=PROTOBUF, **options):
    headers = {"Content-Type": kind, **options.pop("headers", {})}
    return await ask(server.url, path, method="POST", data=io.BytesIO(body), headers=headers, **options)


def told(reply, kind=PROTOBUF):
    """The message of an error, which is in the form of the request and has nothing else."""
    assert reply.headers["Content-Type"] == kind
    if kind == PROTOBUF:
        status = Status.FromString(reply.body)
        assert status == Status(message=status.message)
        return status.message
    assert set(reply.json) == {"message"}
    return reply.json["message"]


# -- refusals of the guards --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", OTLP_PATHS)
@pytest.mark.parametrize("kind", [PROTOBUF, "application/json", "text/plain"])
async def test_guards_refuse_in_the_form_of_the_request(make_server, path, kind):
    server = await make_server(tokens=TOKENS, max_body_bytes=KIB, max_header_bytes=2 * KIB)
    token, form = TOKEN_OF["runner"], "application/json" if kind == "application/json" else PROTOBUF
    for status, message, reply in (
        (401, "ACCESS_DENIED: expected one header", await post(server, path=path, kind=kind)),
        (401, "ACCESS_DENIED: the token is not known", await post(server, path=path, kind=kind, token="wrong" * 5)),
        (413, "at most 1024 bytes", await post(server, bytes(2 * KIB), path=path, kind=kind, token=token)),
        (431, "headers", await post(server, path=path, kind=kind, token=token, headers={"X": "x" * 2 * KIB})),
        (415, "got 'br'", await post(server, path=path, kind=kind, token=token, headers={"Content-Encoding": "br"})),
    ):
        assert (reply.status, message in told(reply, form)) == (status, True), told(reply, form)


async def test_strangers_pages_are_refused_in_the_form_of_the_request(make_server):
    reply = await post(await make_server(), headers={"Host": "evil.example"})
    assert (reply.status, told(reply).partition(":")[0]) == (403, "ACCESS_DENIED")


async def test_busy_server_tells_exporters_to_come_again(make_server):
    server = await make_server(max_requests=1)
    _, writer = await connect(server.url)
    writer.write(b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
    await until(lambda: server._running._service._assembled.places.requests == 1)

    reply = await post(server)

    assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
    assert told(reply).startswith("SERVER_BUSY: 1 requests are under way")
    writer.close()


async def test_stopping_server_tells_exporters_to_come_again():
    store = FaultyStore(InMemoryLightningStore())
    rollout = await store.start_rollout("task")
    store.gates["add_many_spans"] = asyncio.Event()
    server = LightningStoreServer(store, drain_seconds=0.05)
    await server.start()
    asked = asyncio.ensure_future(post(server, otlp_request([otlp_span(1)], ids_of(rollout)).SerializeToString()))
    await until(lambda: store.calls["add_many_spans"] == 1)
    await server.stop()
    reply = await asked
    assert (reply.status, reply.headers["Retry-After"], told(reply)) == (
        503,
        "1",
        "SERVER_BUSY: the server is stopping",
    )
    store.gates["add_many_spans"].set()
    await server.close()


async def test_fault_of_ours_is_told_in_the_form_of_the_request(make_server, caplog):
    store = FaultyStore(InMemoryLightningStore())
    store.errors["add_many_spans"] = KeyError("broken")
    server = await make_server(store)
    reply = await post(server, otlp_request([otlp_span(1)], ids("ro-1", "at-1")).SerializeToString())
    assert (reply.status, told(reply)) == (500, "INTERNAL: Internal server error")
    assert "broken" in caplog.text


# -- who may send ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "encoding", "body"),
    [
        (PROTOBUF, "identity", b""),
        (PROTOBUF, "gzip", b"no gzip"),
        (PROTOBUF, "br", b"x"),
        ("application/json", "identity", b"{"),
        ("text/plain", "identity", b"x"),
        ("", "identity", bytes(3 * MIB)),
    ],
)
async def test_token_that_may_only_read_is_refused_whatever_it_sends(make_server, kind, encoding, body):
    server = await make_server(tokens=TOKENS, max_body_bytes=MIB)
    reply = await post(server, body, kind=kind, token=TOKEN_OF["read"], headers={"Content-Encoding": encoding})
    assert reply.status == 403
    message = told(reply, kind if kind == "application/json" else PROTOBUF)
    assert message == "ACCESS_DENIED: add_many_spans needs a token with the role runner, got read"


async def test_body_of_one_who_may_only_read_is_not_asked_for(make_server):
    server = await make_server(tokens=TOKENS)
    for role, first in (("read", b"HTTP/1.1 403"), ("runner", b"HTTP/1.1 100")):
        reader, writer = await connect(server.url)
        writer.write(
            f"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN_OF[role]}\r\n"
            f"Content-Type: {PROTOBUF}\r\nContent-Length: 999999\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        assert (await asyncio.wait_for(reader.readline(), 30)).startswith(first)
        writer.close()


async def test_body_of_one_who_may_only_read_takes_no_room_of_others(make_server):
    server = await make_server(tokens=TOKENS, max_body_bytes=20 * KIB, max_buffered_bytes=20 * KIB, max_requests=1)
    _, writer = await connect(server.url)
    head = f"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN_OF['read']}\r\n"
    writer.write(f"{head}Content-Length: 20000\r\n\r\n".encode() + bytes(10_000))
    reply = await post(server, field(15, bytes(15 * KIB)), token=TOKEN_OF["runner"])
    assert reply.status == 200
    writer.close()


# -- counted -----------------------------------------------------------------------------------------------------------


async def test_requests_are_counted_by_what_became_of_them(make_server):
    server = await make_server()
    rollout = await server.start_rollout("task")
    found = await scrape(server.port)
    assert found("operations_total", operation="otlp_traces", outcome="ok") is None
    for body in (b"", otlp_request([otlp_span(1), otlp_span(2)], ids_of(rollout)).SerializeToString(), b"\xff", b"{"):
        await post(server, body)
    await post(server, b"{", kind="text/plain")

    found = await scrape(server.port)

    outcomes = {outcome: found("operations_total", operation="otlp_traces", outcome=outcome) for outcome in
                ("ok", "invalid_request")}  # fmt: skip
    assert outcomes == {"ok": 2, "invalid_request": 3}
    assert found("operation_duration_seconds_count", operation="otlp_traces") == 5
    assert found("operations_total", operation="add_many_spans", outcome="ok") == 1


# -- memory ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [PROTOBUF, "application/json"])
async def test_unpacked_bytes_count_among_those_of_all_bodies(make_server, kind):
    store = FaultyStore(InMemoryLightningStore())
    server = await make_server(store, max_body_bytes=100 * KIB, max_buffered_bytes=100 * KIB)
    rollout = await server.start_rollout("task")
    store.gates["add_many_spans"] = asyncio.Event()
    places = server._running._service._assembled.places
    request = otlp_request([otlp_span(1, {"text": "x" * 80_000})], ids_of(rollout))
    body = request.SerializeToString()
    headers = {"Content-Encoding": "gzip"}
    first = asyncio.ensure_future(post(server, gzip.compress(body), headers=headers))
    await until(lambda: store.calls["add_many_spans"] == 1)
    assert places.body_bytes == len(body)

    reply = await post(server, gzip.compress(b" " * 80_000), kind=kind, headers=headers)

    assert reply.status == 503
    assert told(reply, kind).startswith("SERVER_BUSY: bodies under way take as much memory")
    store.gates["add_many_spans"].set()
    assert (await first).status == 200
    await until(lambda: places.body_bytes == 0)


MANY = 10 * MIB
IDS = ids("ro-000000000000000000000000", "at-000000000000")


def small_spans():
    spans = [otlp_span(number, {"n": number, "text": "x" * 180}) for number in range(30_000)]
    return otlp_request(spans, IDS).SerializeToString()


BODIES: Final = {
    "small spans": (small_spans, 200),  # the first one, because the most memory that there was stays told
    "resources": (lambda: field(1, b"") * MANY, 413),
    "scopes": (lambda: field(1, field(2, b"") * MANY), 413),
    "spans": (lambda: field(1, field(2, field(2, b"") * MANY)), 413),
    "attributes": (lambda: field(1, field(2, field(2, field(9, b"") * MANY))), 413),
    "lists": (lambda: field(1, field(2, field(2, field(9, field(2, field(5, field(1, b"") * MANY)))))), 413),
    "of a resource": (lambda: field(1, field(1, field(1, b"") * MANY)), 413),
    "of the future": (lambda: field(3, b"") * MANY, 413),
}


def memory(pid, what):
    """Bytes of a process: `VmRSS` that it has, `VmHWM` the most that it had."""
    found = re.search(rf"^{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) * KIB


@pytest.mark.wide
@pytest.mark.redis
@pytest.mark.timeout(300)
async def test_memory_of_a_process_stays_in_proportion_to_what_a_body_unpacks_to(redis_url, namespace):
    """Twenty kilobytes unpack to so many groups of nothing that as messages they took a gigabyte."""
    store = RedisLightningStore(redis_url, namespace=namespace)
    async with LightningStoreServer(store, launch="process", access_log=False) as server:
        [child] = [each for each in psutil.Process().children() if "lightning_store.http.child" in each.cmdline()]
        headers = {"Content-Encoding": "gzip"}
        assert (await post(server, gzip.compress(b""), headers=headers)).status == 200
        before = memory(child.pid, "VmRSS")
        for name, (make, status) in BODIES.items():
            body = make()

            reply = await post(server, gzip.compress(body, 1), headers=headers)

            assert reply.status == status, (name, reply.body[:200])
            grown = memory(child.pid, "VmHWM") - before
            assert grown < 8 * len(body), f"{name}: {grown / len(body):.1f} times the body"
    await store.close()
