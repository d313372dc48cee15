"""What a server does not let itself be made to do: limits of size, number, depth and time, by real connections."""

import asyncio
import gzip
import io
import json
import zlib
from collections.abc import Awaitable, Callable
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_store import InMemoryLightningStore
from lightning_store.http.bodies import check_json
from lightning_store.http.refusals import Refused
from lightning_store.http.server import LightningStoreServer
from tests.support.factories import requests_for
from tests.support.serving import TOKEN_OF, TOKENS, Reply, ask, connect, read_to_end, send_raw
from tests.support.until import until

pytestmark = pytest.mark.wide

ENQUEUE = "/v1/agl/queues/rollouts/enqueue"
DEQUEUE = "/v1/agl/queues/rollouts/dequeue"
KIB = 1024
MakeServer = Callable[..., Awaitable[LightningStoreServer]]


@pytest.fixture
async def make_server():
    servers = []

    async def make(store=None, **options) -> LightningStoreServer:
        servers.append(LightningStoreServer(store or InMemoryLightningStore(), drain_seconds=1, **options))
        await servers[-1].start()
        return servers[-1]

    yield make
    for server in servers:
        await server.close()


def task_of(size: int) -> bytes:
    """The body of an enqueue, of just so many bytes."""
    empty = json.dumps({"rollouts": [{"input": ""}]}).encode()
    return json.dumps({"rollouts": [{"input": "x" * (size - len(empty))}]}).encode()


async def enqueue(server: LightningStoreServer, body, **headers: str) -> Reply:
    given = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return await ask(server.url, ENQUEUE, data=body, headers=given)


async def stored(server: LightningStoreServer) -> int:
    return (await server.statistics())["total_rollouts"]


def is_refusal(reply: Reply, status: int, kind: str = "INVALID_REQUEST") -> bool:
    assert set(reply.json) == {"detail", "error_type"}
    return (reply.status, reply.json["error_type"]) == (status, kind)


async def in_pieces(body: bytes, size: int = 1000):
    for start in range(0, len(body), size):
        yield body[start : start + size]


class TestBodies:
    MOST = 16 * KIB

    @pytest.fixture
    async def server(self, make_server):
        return await make_server(max_body_bytes=self.MOST)

    @pytest.mark.parametrize("chunked", [False, True])
    @pytest.mark.parametrize(("size", "fits"), [(16 * KIB, True), (16 * KIB + 1, False), (300 * KIB, False)])
    async def test_of_the_largest_size_are_taken_and_larger_ones_not(self, server, size, fits, chunked):
        body = task_of(size)
        reply = await enqueue(server, in_pieces(body) if chunked else body)
        assert reply.status == 201 if fits else is_refusal(reply, 413)
        assert await stored(server) == fits

    async def test_length_that_is_too_much_is_refused_before_it_is_sent(self, server):
        """The client asks first, and is told no instead of to go on."""
        head = f"POST {ENQUEUE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n"
        answer = await send_raw(server.url, head.encode())
        assert b" 413 " in answer.splitlines()[0]
        assert b"connection: close" in answer.lower()

    async def test_endless_body_is_cut_off(self, server):
        reader, writer = await connect(server.url)
        writer.write(f"POST {ENQUEUE} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode())

        async def pour():
            try:
                while True:
                    writer.write(b"400\r\n" + b" " * KIB + b"\r\n")
                    await writer.drain()
            except ConnectionError:
                return

        pouring = asyncio.create_task(pour())
        answer = await read_to_end(reader)
        assert not answer or b" 413 " in answer.splitlines()[0], "who never stops to send may miss the answer"
        await pouring
        writer.close()
        assert await stored(server) == 0

    @pytest.mark.parametrize("level", [1, 9])
    async def test_gzip_is_unpacked(self, server, level):
        reply = await enqueue(server, gzip.compress(task_of(self.MOST), level), Content_Encoding="gzip")
        assert reply.status == 201
        assert len(reply.json[0]["input"]) > 16_000

    async def test_gzip_may_have_several_members(self, server):
        body = task_of(1000)
        reply = await enqueue(server, gzip.compress(body[:500]) + gzip.compress(body[500:]), Content_Encoding="gzip")
        assert reply.status == 201

    async def test_gzip_bomb_is_cut_off(self, server):
        """Ten thousand times its size; it is never unpacked further than to the limit."""
        bomb = gzip.compress(bytes(150_000_000))[: self.MOST]
        assert is_refusal(await enqueue(server, bomb, Content_Encoding="gzip"), 413)

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"not gzip", 400),
            (gzip.compress(task_of(1000))[:-9], 400),
            (gzip.compress(task_of(1000))[:-8] + bytes(8), 400),
            (zlib.compress(task_of(1000)), 400),
        ],
        ids=["no gzip", "cut off", "wrong sum", "another format"],
    )
    async def test_gzip_that_is_damaged_is_refused(self, server, body, status):
        assert is_refusal(await enqueue(server, body, Content_Encoding="gzip"), status)
        assert await stored(server) == 0

    async def test_empty_body_may_be_called_gzip(self, server):
        assert (await ask(server.url, DEQUEUE, data=b"", headers={"Content-Encoding": "gzip"})).status == 200

    @pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "x" * 100])
    async def test_other_encodings_are_refused(self, server, encoding):
        assert is_refusal(await enqueue(server, task_of(1000), Content_Encoding=encoding), 415)

    async def test_all_together_take_bounded_memory(self, make_server):
        server = await make_server(max_body_bytes=self.MOST, max_buffered_bytes=self.MOST + 10 * KIB)
        reader, writer = await connect(server.url)
        head = f"POST {ENQUEUE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {self.MOST}\r\n\r\n"
        body = task_of(self.MOST)
        writer.write(head.encode() + body[:-1])

        await until(lambda: server._running._service._assembled.places.body_bytes == self.MOST - 1)
        assert is_refusal(await enqueue(server, body), 503, "SERVER_BUSY")
        assert (await enqueue(server, task_of(KIB))).status == 201, "a small one still fits"
        writer.write(body[-1:])
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b" 201 " in (await read_to_end(reader)).splitlines()[0]
        writer.close()
        assert (await enqueue(server, body)).status == 201, "its memory is free again"

    async def test_client_that_goes_away_within_a_body_leaves_nothing(self, make_server):
        server = await make_server(max_requests=1)
        reader, writer = await connect(server.url)
        writer.write(f"POST {ENQUEUE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{{".encode())

        async def is_busy():
            return (await ask(server.url, "/v1/agl/statistics")).status == 503

        await until(is_busy)
        writer.close()

        async def is_free():
            return not await is_busy()

        await until(is_free)
        assert await stored(server) == 0
        assert await read_to_end(reader) == b""


def nested(levels: int, opening: str = "[", closing: str = "]") -> str:
    return opening * levels + closing * levels


class TestDepth:
    async def test_deep_body_is_refused_and_the_server_lives(self, make_server):
        server = await make_server()
        for body in (b"[" * 1_000_000, nested(100_000).encode(), b'{"a":' * 100_000 + b"1" + b"}" * 100_000):
            assert is_refusal(await enqueue(server, body), 400)
        assert await stored(server) == 0

    async def test_values_as_deep_as_stores_take_them_pass(self, make_server):
        server = await make_server()
        value = json.loads(nested(198))
        reply = await enqueue(server, json.dumps({"rollouts": [{"input": value}]}).encode())
        assert reply.status == 201
        assert (await server.dequeue_rollout()).input == value

    async def test_encodings_that_hide_depth_are_refused(self, make_server):
        server = await make_server()
        for encoding in ("utf-16", "utf-16-le", "utf-32"):
            assert is_refusal(await enqueue(server, nested(1000).encode(encoding)), 400)

    @given(
        st.recursive(st.text() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)),
        st.data(),
    )
    def test_is_counted_as_a_parser_would(self, value, data):
        def depth(item) -> int:
            inside = chain(item.values() if isinstance(item, dict) else item) if isinstance(item, dict | list) else None
            return 0 if inside is None else 1 + max(map(depth, inside), default=0)

        body = json.dumps(value, ensure_ascii=data.draw(st.booleans())).encode("utf-8", "surrogatepass")
        check_json(body, depth(value))
        if depth(value):
            with pytest.raises(Refused):
                check_json(body, depth(value) - 1)

    @pytest.mark.parametrize(
        "text",
        [
            '"' + "[" * 99 + '"',
            '["' + '\\"[' * 99 + '"]',
            '["\\\\", "' + "{" * 99 + '"]',
            '{"[[[[[[": "]]]]]]]"}',
            "[], " * 99,
        ],
    )
    def test_brackets_in_texts_and_beside_each_other_do_not_count(self, text):
        check_json(text.encode(), 2)

    @pytest.mark.parametrize(
        "text", ['"\\\\"' + "[" * 99, '"\\"' + '"' + "[" * 99, "[" * 99 + "]" * 99, '{"a":' * 99, "[{" * 50]
    )
    def test_depth_behind_texts_is_seen(self, text):
        with pytest.raises(Refused):
            check_json(text.encode(), 90)

    def test_deep_one_is_found_before_all_of_it_is_looked_at(self):
        with pytest.raises(Refused):
            check_json(b"[" * 50_000_000, 256)


class TestConcurrency:
    async def test_waiting_requests_do_not_shut_out_others(self, make_server):
        server = await make_server(max_requests=1, max_waits=3)
        places = server._running._service._assembled.places
        waiting = []
        for number in range(1, 4):
            waiting.append(asyncio.create_task(ask(server.url, DEQUEUE, json={"timeout": 50})))
            await until(lambda wanted=number: places.waits == wanted)
        assert places.requests == 0
        reply = await ask(server.url, DEQUEUE, json={"timeout": 50})
        assert is_refusal(reply, 503, "SERVER_BUSY")
        assert reply.headers["Retry-After"] == "1"
        assert "wait already" in reply.json["detail"]
        assert (await ask(server.url, "/v1/agl/statistics")).status == 200
        await server.enqueue_many_rollouts(requests_for([0, 1, 2]))
        assert sorted([(await task).json[0]["input"] for task in waiting]) == [0, 1, 2]
        await until(lambda: (places.requests, places.waits, places.body_bytes) == (0, 0, 0))

    async def test_more_requests_than_may_are_told_to_come_again(self, make_server):
        server = await make_server(max_requests=2)
        held = [await connect(server.url) for _ in range(2)]
        for _, writer in held:
            writer.write(f"POST {ENQUEUE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n".encode())

        async def is_full():
            return (await ask(server.url, "/v1/agl/statistics")).status == 503

        await until(is_full)
        reply = await ask(server.url, "/v1/agl/statistics")
        assert is_refusal(reply, 503, "SERVER_BUSY")
        assert reply.headers["Retry-After"] == "1"
        for path in ("/health", "/ready", "/v1/agl/health"):
            assert (await ask(server.url, path)).status == 200, "a busy server is no dead one"
        for _, writer in held:
            writer.close()

        async def is_free():
            return not await is_full()

        await until(is_free)

    async def test_more_connections_than_may_are_refused(self, make_server):
        server = await make_server(max_connections=2)
        held = [await connect(server.url) for _ in range(2)]
        for reader, writer in held:
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.readuntil(b"}")
        answer = await send_raw(server.url, b"")
        assert b" 503 " in answer.splitlines()[0]
        held[0][1].close()

        async def is_free():
            return b" 200 " in await send_raw(
                server.url, b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )

        await until(is_free)
        held[1][1].close()


class TestHeaders:
    MOST = 4 * KIB

    @pytest.fixture
    async def server(self, make_server):
        return await make_server(max_header_bytes=self.MOST)

    @pytest.mark.parametrize("where", ["header", "path", "query", "many"])
    async def test_too_large_ones_are_refused(self, server, where):
        large = "x" * self.MOST
        many = "".join(f"X-{number}: {number}\r\n" for number in range(500))
        request = {
            "header": f"GET /health HTTP/1.1\r\nHost: localhost\r\nX: {large}\r\n\r\n",
            "path": f"GET /{large} HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "query": f"GET /v1/agl/rollouts?x={large} HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "many": f"GET /v1/agl/statistics HTTP/1.1\r\nHost: localhost\r\n{many}\r\n",
        }[where]
        if where == "header":
            request = request.replace("/health", "/v1/agl/statistics")
        answer = await send_raw(server.url, request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").encode())
        assert b" 431 " in answer.splitlines()[0]

    @pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", b"\r\n" * 3])
    async def test_endless_ones_are_cut_off(self, server, start):
        """They never become a request, so nothing but the connection can notice."""
        reader, writer = await connect(server.url)
        writer.write(start)
        filler = b"x" * KIB if start.strip() else b"\r\n" * 512

        async def pour():
            try:
                for _ in range(1000):
                    writer.write(filler)
                    await writer.drain()
            except ConnectionError:
                return

        pouring = asyncio.create_task(pour())
        answer = await read_to_end(reader)
        await pouring
        assert answer == b"" or b" 431 " in answer or b" 400 " in answer
        writer.close()

    async def test_trailers_are_dropped(self, server):
        trailers = "".join(f"X-{number}: {number}\r\n" for number in range(10_000))
        request = (
            f"POST {DEQUEUE} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            f"2\r\n{{}}\r\n0\r\n{trailers}\r\n"
        )
        assert b" 200 " in (await send_raw(server.url, request.encode())).splitlines()[0]

    async def test_usual_ones_pass_one_after_the_other(self, server):
        """The bytes of several requests of a connection do not add up."""
        reader, writer = await connect(server.url)
        for _ in range(20):
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * KIB + b"\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in head
            await reader.readuntil(b"}")
        writer.close()


class TestSlowClients:
    async def test_headers_that_do_not_come_end_the_connection(self, make_server):
        server = await make_server(header_seconds=0.3)
        assert b" 408 " in await send_raw(server.url, b"")
        assert b" 408 " in await send_raw(server.url, b"GET /health HTTP/1.1\r\nHost: loc")

    async def test_headers_that_drip_end_the_connection(self, make_server):
        """Each byte would put off a limit on silence; this is one on the whole."""
        server = await make_server(header_seconds=0.5, keep_alive_seconds=60)
        reader, writer = await connect(server.url)

        async def drip():
            try:
                writer.write(b"GET /health HTTP/1.1\r\nX: ")
                while True:
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.02)
            except ConnectionError:
                return

        dripping = asyncio.create_task(drip())
        await read_to_end(reader)
        writer.close()
        dripping.cancel()

    async def test_second_request_has_to_come_in_time_too(self, make_server):
        server = await make_server(header_seconds=0.5, keep_alive_seconds=60)
        for start in (b"GET /heal", b"\r\n"):
            reader, writer = await connect(server.url)
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.readuntil(b"}")
            writer.write(start)
            await read_to_end(reader)
            writer.close()

    async def test_many_of_them_do_not_shut_out_others(self, make_server):
        server = await make_server(header_seconds=30, max_requests=4)
        slow = [await connect(server.url) for _ in range(200)]
        for _, writer in slow:
            writer.write(b"POST /v1/agl/rollouts HTTP/1.1\r\nHost: localhost\r\nX: ")
        for _ in range(10):
            assert (await ask(server.url, "/v1/agl/statistics")).status == 200
        for _, writer in slow:
            writer.close()

    async def test_idle_connection_is_closed(self, make_server):
        server = await make_server(keep_alive_seconds=0.2)
        assert b" 200 " in await send_raw(server.url, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")

    @pytest.mark.parametrize("drips", [False, True])
    async def test_body_that_does_not_come_is_refused(self, make_server, drips):
        server = await make_server(body_seconds=0.3, body_bytes_per_second=10_000, max_requests=1)
        reader, writer = await connect(server.url)
        writer.write(f"POST {ENQUEUE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n".encode())

        async def drip():
            try:
                while drips:
                    writer.write(b" ")
                    await writer.drain()
                    await asyncio.sleep(0.01)
            except ConnectionError:
                return

        dripping = asyncio.create_task(drip())
        answer = await read_to_end(reader)
        assert b" 408 " in answer.splitlines()[0] or not answer
        writer.close()
        dripping.cancel()
        assert (await ask(server.url, "/v1/agl/statistics")).status == 200

    async def test_body_that_is_long_on_its_way_but_steady_is_taken(self, make_server):
        server = await make_server(body_seconds=1.0, body_bytes_per_second=500)

        async def steady():
            body = task_of(8 * KIB)
            for start in range(0, len(body), 512):
                await asyncio.sleep(0.1)
                yield body[start : start + 512]

        assert (await enqueue(server, steady())).status == 201

    async def test_client_that_takes_nothing_of_its_answer_is_hung_up_on(self, make_server):
        server = await make_server(write_seconds=0.3)
        await server.enqueue_rollout("x" * 16_000_000)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=KIB)
        writer.write(b"GET /v1/agl/rollouts HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head
        connections = server._running._service.server_state.connections
        await until(lambda: not connections)
        writer.close()

    async def test_client_that_takes_it_slowly_gets_all(self, make_server):
        server = await make_server(write_seconds=1.0)
        await server.enqueue_rollout("x" * 12_000_000)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=KIB)
        writer.write(b"GET /v1/agl/rollouts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        received = 0
        while piece := await reader.read(1_000_000):
            received += len(piece)
            if received < 6_000_000:
                await asyncio.sleep(0.001)
        assert received > 12_000_000
        writer.close()

    async def test_refusal_reaches_a_client_that_is_still_sending(self, make_server):
        """Closing at once would reset the connection, and the client would see that in place of the reason."""
        server = await make_server(max_body_bytes=KIB, max_buffered_bytes=KIB)
        for _ in range(5):
            assert is_refusal(await enqueue(server, io.BytesIO(task_of(3_000_000))), 413)


async def test_bodies_of_strangers_take_no_room_of_others(make_server):
    server = await make_server(tokens=TOKENS, max_body_bytes=20 * KIB, max_buffered_bytes=20 * KIB)
    paths = ("/docs", "/openapi.json", "/v1/agl/health")
    writers = []
    for path in paths:
        reader, writer = await connect(server.url)
        writers.append(writer)
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000\r\n\r\n"
        writer.write(head.encode() + b" " * 10_000)
        assert b" 405 " in await reader.readline(), "the rest of the body was not waited for"
    reply = await ask(server.url, ENQUEUE, data=task_of(15 * KIB), token=TOKEN_OF["admin"])
    assert reply.status == 201
    for writer in writers:
        writer.close()


@pytest.mark.parametrize("tries", ["9" * 5000, "-1", "x", ""], ids=["long", "negative", "word", "empty"])
async def test_number_of_a_try_that_is_none_is_the_first(make_server, tries):
    server = await make_server()
    headers = {"Idempotency-Key": "a" * 32, "X-Lightning-Store-Try": tries}
    assert (await ask(server.url, ENQUEUE, data=task_of(100), headers=headers)).status == 201


async def test_garbage_is_refused_and_the_server_lives(make_server):
    server = await make_server()
    for data in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GARBAGE\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"POST /v1/agl/rollouts HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/agl/rollouts HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        b"POST /v1/agl/rollouts HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"GET /v1/agl/rollouts/%FF HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /v1/agl/rollouts HTTP/1.1\r\nHost: [\r\nConnection: close\r\n\r\n",
        b"GET /v1/agl/rollouts HTTP/1.1\r\nHost: localhost\r\nOrigin: http://[\r\nConnection: close\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        b"GET http://evil.example/v1/agl/statistics HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
    ):
        answer = await send_raw(server.url, data)
        assert answer.split(b" ")[1:2] in ([b"400"], [b"403"], [b"404"], [b"405"]), data
    assert (await ask(server.url, "/health")).status == 200


async def test_upgrade_to_a_web_socket_is_an_ordinary_request(make_server):
    server = await make_server()
    request = (
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    reader, writer = await connect(server.url)
    writer.write(request)
    assert b" 200 " in await reader.readuntil(b"}")
    writer.close()
