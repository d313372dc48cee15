"""What a server says of itself and of its requests: access log, request ids, `/health` and `/ready`."""

import asyncio
import logging
import re

import pytest

from lightning_store import RedisLightningStore
from lightning_store.http import probes
from tests.support.serving import TOKEN_OF, TOKENS, ask, connect
from tests.support.until import until

LINE = re.compile(
    r"method=(?P<method>\S+) path=(?P<path>\S+) status=(?P<status>\S+) ms=(?P<ms>[\d.]+) bytes_in=(?P<bytes_in>\d+) "
    r"bytes_out=(?P<bytes_out>\d+) role=(?P<role>\S+) client=(?P<client>\S+) request=(?P<request>\S+)"
)


@pytest.fixture
def lines(caplog):
    """The lines of the access log so far."""
    caplog.set_level(logging.INFO, "lightning_store.access")

    def read() -> list[dict[str, str]]:
        texts = [record.getMessage() for record in caplog.records if record.name == "lightning_store.access"]
        return [LINE.fullmatch(text).groupdict() for text in texts]

    return read


class TestAccessLog:
    async def test_has_one_line_for_each_request(self, make_server, lines):
        server = await make_server(tokens=TOKENS)
        path = "/v1/agl/queues/rollouts/enqueue"
        body = b'{"rollouts": [{"input": "a task"}]}'
        taken = await ask(server.url, path, data=body, token=TOKEN_OF["admin"])
        refused = await ask(server.url, path, data=body, token="wrong")
        await until(lambda: len(lines()) == 2)
        first, second = lines()
        assert {name: first[name] for name in ("method", "path", "status", "role", "client")} == {
            "method": "POST", "path": path, "status": "201", "role": "admin", "client": "127.0.0.1",
        }  # fmt: skip
        assert (int(first["bytes_in"]), int(first["bytes_out"])) == (len(body), len(taken.body))
        assert float(first["ms"]) > 0
        assert (second["status"], second["role"], int(second["bytes_out"])) == ("401", "-", len(refused.body))

    async def test_has_no_query_and_no_body(self, make_server, lines, caplog):
        server = await make_server()
        await ask(server.url, "/v1/agl/rollouts?password=hidden-one")
        await ask(server.url, "/v1/agl/rollouts", data=b'{"input": "hidden-two"}')
        await until(lambda: len(lines()) == 2)
        assert "hidden" not in caplog.text

    async def test_cannot_be_written_into(self, make_server, lines):
        """A path with line ends and control characters is written as it was sent, escaped."""
        server = await make_server()
        await ask(server.url, "/v1/agl/a%0Amethod=GET%20status=200%1b[2J" + "x" * 1000)
        await until(lambda: len(lines()) == 1)
        line = lines()[0]
        assert line["path"].startswith("/v1/agl/a%0Amethod=GET%20status=200%1B")
        assert len(line["path"]) <= 256

    async def test_tells_of_clients_that_went_away(self, make_server, lines):
        server = await make_server()
        _, writer = await connect(server.url)
        body = b'{"timeout": 50}'
        head = (
            f"POST /v1/agl/queues/rollouts/dequeue HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await until(lambda: server._running._service._assembled.places.waits == 1)
        writer.close()
        await until(lambda: len(lines()) == 1)
        assert lines()[0]["status"] == "none"

    async def test_can_be_left_out(self, make_server, lines):
        server = await make_server(access_log=False)
        assert (await ask(server.url, "/v1/agl/statistics")).headers["X-Request-ID"]
        await server.stop()
        assert lines() == []


class TestRequestId:
    async def test_is_the_one_that_came(self, make_server, lines):
        server = await make_server()
        reply = await ask(server.url, "/health", headers={"X-Request-ID": "trace-1:2.3_4"})
        assert reply.headers["X-Request-ID"] == "trace-1:2.3_4"
        await until(lambda: len(lines()) == 1)
        assert lines()[0]["request"] == "trace-1:2.3_4"

    @pytest.mark.parametrize("given", ["", "two words", "x" * 65, "a=b", "caf\u00e9"])
    async def test_is_made_where_none_or_none_that_is_sane_came(self, make_server, given):
        server = await make_server()
        ids = {
            (await ask(server.url, "/health", headers={"X-Request-ID": given})).headers["X-Request-ID"]
            for _ in range(2)
        }
        assert len(ids) == 2
        assert all(re.fullmatch("[0-9a-f]{16}", one) for one in ids)

    async def test_stands_on_refusals_too(self, make_server):
        server = await make_server(tokens=TOKENS, max_header_bytes=2000)
        for headers in ({}, {"X": "x" * 3000}):
            reply = await ask(server.url, "/v1/agl/statistics", headers={**headers, "X-Request-ID": "mine"})
            assert reply.headers["X-Request-ID"] == "mine"


class TestProbes:
    async def test_need_no_token_and_tell_nothing(self, make_server):
        server = await make_server(tokens=TOKENS)
        assert (await ask(server.url, "/health")).json == {"status": "ok"}
        assert (await ask(server.url, "/ready")).json == {"status": "ready"}
        assert (await ask(server.url, "/v1/agl/health")).json == {"status": "ok"}
        head = await ask(server.url, "/ready", method="HEAD")
        assert (head.status, head.body) == (200, b"")
        assert (await ask(server.url, "/ready", data=b"")).status == 401

    async def test_ready_says_no_within_its_time_while_the_store_is_away(
        self, make_server, private_redis, namespace, monkeypatch, caplog
    ):
        monkeypatch.setattr(probes, "KEEP_SECONDS", 0)
        redis = private_redis()
        server = await make_server(RedisLightningStore(redis.url, namespace=namespace), ready_seconds=0.5)
        assert (await ask(server.url, "/ready")).status == 200
        redis.pause()
        reply = await asyncio.wait_for(ask(server.url, "/ready"), 20)
        assert (reply.status, reply.json) == (503, {"status": "not ready"})
        assert reply.headers["Retry-After"] == "1"
        assert (await ask(server.url, "/health")).status == 200, "it lives all the same"
        assert "not ready: no answer of the store within 0.5 s" in caplog.text
        redis.resume()

        async def is_ready():
            return (await ask(server.url, "/ready")).status == 200

        await until(is_ready)

    async def test_many_that_ask_at_once_cost_the_store_one_call(self, make_server, private_redis, namespace):
        redis = private_redis()
        server = await make_server(RedisLightningStore(redis.url, namespace=namespace))
        assert (await ask(server.url, "/ready")).status == 200

        def calls() -> int:
            with redis.client() as client:
                stats = client.info("commandstats")
            return sum(entry["calls"] for name, entry in stats.items() if "eval" in name or "hgetall" in name)

        before = calls()
        await asyncio.gather(*(ask(server.url, "/ready") for _ in range(50)))
        assert calls() - before <= 25
