"""LightningStoreServer as a thing that runs: start and stop, its port, its copies in other processes, its end."""

import asyncio
import gc
import multiprocessing
import os
import pickle
import socket
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from lightning_store import InMemoryLightningStore, LightningStoreThreaded, RedisLightningStore
from lightning_store.errors import InvalidRequestError, LightningStoreError, StoreUnavailableError
from lightning_store.http.client import LightningStoreClient
from lightning_store.http.server import LightningStoreServer
from tests.support.command_line import ROOT
from tests.support.processes import is_gone
from tests.support.serving import TOKENS, ask, connect, read_to_end
from tests.support.until import AT_ONCE, until

pytestmark = pytest.mark.wide

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def redis_store(redis_url, namespace):
    return RedisLightningStore(redis_url, namespace=namespace)


class Unreadable(RedisLightningStore):
    """It can be sent to another process, and cannot be read there."""

    def __reduce__(self) -> Any:
        return _fail, ()


def _fail() -> None:
    raise RuntimeError("not here")


BEFORE: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


@pytest.fixture(autouse=True)
def threads_before() -> None:
    """Those that other tests have left until they are collected."""
    BEFORE.clear()
    BEFORE.update(threading.enumerate())


def server_threads() -> list[str]:
    """The threads of ours that this test has started."""
    new = [thread for thread in threading.enumerate() if thread not in BEFORE]
    return [thread.name for thread in new if thread.name.startswith("lightning-store")]


def in_fork(work: Callable[[], Any]) -> Any:
    """What a function returns in a forked child of this process."""
    results: Any = FORK.SimpleQueue()

    def run() -> None:
        try:
            results.put(("done", work()))
        except BaseException as error:  # noqa: BLE001 - the parent tells it
            results.put(("failed", repr(error)))

    child = FORK.Process(target=run)
    child.start()
    kind, value = results.get()
    child.join(30)
    assert kind == "done", value
    assert child.exitcode == 0
    return value


class TestStartAndStop:
    async def test_answers_as_soon_as_it_has_started(self):
        async with LightningStoreServer(InMemoryLightningStore()) as server:
            assert (await ask(server.url, "/health")).json == {"status": "ok"}
            assert server.url == f"http://127.0.0.1:{server.port}"
            assert server.is_running
        assert not server.is_running
        await server.close()
        assert server_threads() == []

    async def test_start_whose_caller_was_cancelled_has_ended_when_that_is_told(self):
        server = LightningStoreServer(InMemoryLightningStore())
        starting = asyncio.create_task(server.start())
        await asyncio.sleep(0)  # it begins, and waits for the thread
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert server_threads() == []
        async with server:
            assert (await ask(server.url, "/health")).status == 200
        await server.close()

    async def test_can_be_repeated_and_the_port_stays(self):
        server = LightningStoreServer(InMemoryLightningStore())
        ports = set()
        for _ in range(3):
            await server.start()
            await server.start()
            ports.add(server.port)
            assert (await ask(server.url, "/health")).status == 200
            await server.stop()
            await server.stop()
        assert len(ports) == 1
        await server.close()

    def test_from_other_event_loops(self):
        server = LightningStoreServer(InMemoryLightningStore())
        asyncio.run(server.start())
        assert asyncio.run(ask(server.url, "/health")).status == 200
        asyncio.run(server.close())

    async def test_stopped_server_listens_no_more(self):
        async with LightningStoreServer(InMemoryLightningStore()) as server:
            pass
        with pytest.raises(ConnectionRefusedError):
            await connect(server.url)
        await server.close()

    async def test_address_is_not_known_before_it_listens(self):
        server = LightningStoreServer(InMemoryLightningStore())
        for ask_for in (lambda: server.port, lambda: server.url, server.otlp_traces_endpoint):
            with pytest.raises(LightningStoreError, match="not started"):
                ask_for()
        assert "not started" in repr(server)
        await server.close()

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
    async def test_listens_on_loopback_by_any_name(self, host):
        if host == "::1" and not socket.has_ipv6:
            pytest.skip("no IPv6 here")
        async with LightningStoreServer(InMemoryLightningStore(), host=host) as server:
            assert (await ask(server.url, "/health")).status == 200
        await server.close()

    async def test_port_in_use_is_told_with_what_to_do(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            server = LightningStoreServer(InMemoryLightningStore(), port=port)
            with pytest.raises(OSError, match=rf"127\.0\.0\.1:{port}.*another port") as caught:
                await server.start()
            assert isinstance(caught.value, LightningStoreError)
            assert not server.is_running
        await server.start()
        await server.close()

    async def test_two_servers_do_not_share_a_port(self):
        async with LightningStoreServer(InMemoryLightningStore()) as first:
            second = LightningStoreServer(InMemoryLightningStore(), port=first.port)
            with pytest.raises(OSError, match="another program listens there"):
                await second.start()
            await second.close()
        await first.close()

    @pytest.mark.parametrize(
        ("host", "message"), [("host.invalid", "there is no such host"), ("192.0.2.1", "does not have that address")]
    )
    async def test_address_that_is_not_here_is_told(self, host, message):
        server = LightningStoreServer(InMemoryLightningStore(), host=host, tokens=TOKENS)
        with pytest.raises(OSError, match=message):
            await server.start()
        await server.close()

    async def test_request_in_flight_is_answered_before_the_end(self):
        """It comes slowly, and its connection is the last to close."""
        server = LightningStoreServer(InMemoryLightningStore())
        await server.start()
        reader, writer = await connect(server.url)
        body = b'{"rollouts": [{"input": 1}]}'
        head = (
            f"POST /v1/agl/queues/rollouts/enqueue HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body[:5])
        assert (await ask(server.url, "/health")).status == 200, "so the other has arrived too"
        stopping = asyncio.create_task(server.stop())
        await until(lambda: _refuses(server))
        writer.write(body[5:])
        answer = await read_to_end(reader)
        assert b" 201 " in answer.splitlines()[0]
        assert b"connection: close" in answer
        await stopping
        writer.close()
        assert (await server.statistics())["total_rollouts"] == 1
        await server.close()

    async def test_request_that_does_not_end_is_cut_off_at_the_limit(self):
        server = LightningStoreServer(InMemoryLightningStore(), drain_seconds=0.1)
        await server.start()
        reader, writer = await connect(server.url)
        writer.write(b"POST /v1/agl/rollouts HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
        assert (await ask(server.url, "/health")).status == 200
        await asyncio.wait_for(server.stop(), 30)
        answer = await read_to_end(reader)
        assert answer == b"" or b" 503 " in answer.splitlines()[0]
        writer.close()
        await server.close()

    async def test_waits_end_at_once(self):
        server = LightningStoreServer(InMemoryLightningStore(), drain_seconds=60)
        await server.start()
        waiting = asyncio.create_task(
            ask(server.url, "/v1/agl/queues/rollouts/dequeue", json={"limit": 1, "timeout": 50})
        )
        await until(lambda: not waiting.done())
        await asyncio.sleep(0.2)
        loop = asyncio.get_running_loop()
        started = loop.time()
        await server.stop()
        assert loop.time() - started < AT_ONCE
        assert (await waiting).json == []
        await server.close()

    async def test_redis_connections_of_its_loop_are_closed(self, private_redis, namespace):
        redis = private_redis()
        store = RedisLightningStore(redis.url, namespace=namespace)
        server = LightningStoreServer(store)
        await server.start()
        await ask(server.url, "/v1/agl/statistics")
        port = int(redis.url.rpartition(":")[2].partition("/")[0])
        await server.stop()

        def connections():
            return [c for c in psutil.Process().net_connections("tcp") if c.raddr and c.raddr.port == port]

        await until(lambda: connections() == [])
        await server.close()


def _refuses(server: LightningStoreServer) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", server.port)) != 0


class TestStoreOfItsProcess:
    async def test_calls_go_to_the_store_itself(self):
        """No request is made, so it works while the server does not run."""
        server = LightningStoreServer(InMemoryLightningStore())
        await server.enqueue_rollout("task")
        async with server:
            reply = await ask(server.url, "/v1/agl/queues/rollouts/dequeue", json={"limit": 1})
            assert reply.json[0]["input"] == "task"
            assert (await server.query_rollouts()).total == 1
        await server.close()

    async def test_caller_waits_while_the_server_serves(self):
        async with LightningStoreServer(InMemoryLightningStore()) as server:
            waiting = asyncio.create_task(server.dequeue_rollout("worker-1", timeout=60))
            reply = await ask(server.url, "/v1/agl/queues/rollouts/enqueue", json={"rollouts": [{"input": 5}]})
            assert reply.status == 201
            assert (await waiting).input == 5
        await server.close()

    async def test_store_that_is_safe_to_share_is_used_as_it_is(self, redis_store):
        async with LightningStoreServer(redis_store) as server:
            await server.enqueue_rollout("task")
            assert (await redis_store.query_rollouts()).total == 1
        await server.close()

    async def test_capabilities_are_those_of_copies_too(self, redis_store):
        everything = {"thread_safe": True, "async_safe": True, "zero_copy": True, "otlp_traces": True}
        for store in (InMemoryLightningStore(), LightningStoreThreaded(InMemoryLightningStore()), redis_store):
            server = LightningStoreServer(store, port=1)
            assert server.capabilities == everything
            assert pickle.loads(pickle.dumps(server)).capabilities == everything  # noqa: S301 - our own
            assert server.otlp_traces_endpoint() == "http://127.0.0.1:1/v1/traces"
            await server.close()


class TestCopies:
    async def test_pickled_copy_is_a_client(self):
        async with LightningStoreServer(InMemoryLightningStore(), tokens=TOKENS) as server:
            copy = pickle.loads(pickle.dumps(server))  # noqa: S301 - our own
            rollout = await copy.enqueue_rollout("task")
            assert (await server.get_rollout_by_id(rollout.rollout_id)).input == "task"
            assert copy.url == server.url
            assert copy.otlp_traces_endpoint() == server.otlp_traces_endpoint()
            again = pickle.loads(pickle.dumps(copy))  # noqa: S301 - our own
            assert (await again.query_rollouts()).total == 1
            await copy.close()
            await again.close()
            assert (await ask(server.url, "/health")).status == 200, "no copy ends the server"
        await server.close()

    async def test_copies_neither_start_nor_stop_it(self):
        async with LightningStoreServer(InMemoryLightningStore()) as server:
            copy = pickle.loads(pickle.dumps(server))  # noqa: S301 - our own
            with pytest.raises(LightningStoreError, match="only the process that made it"):
                await copy.start()
            await copy.stop()
            assert not copy.is_running
            assert "copy of" in repr(copy)
            assert (await ask(server.url, "/health")).status == 200
        await server.close()

    async def test_copy_of_a_server_that_was_not_started_says_so(self):
        server = LightningStoreServer(InMemoryLightningStore())
        copy = pickle.loads(pickle.dumps(server))  # noqa: S301 - our own
        with pytest.raises(LightningStoreError, match="not started"):
            await copy.statistics()
        await server.close()

    async def test_copy_follows_a_public_url(self):
        server = LightningStoreServer(InMemoryLightningStore(), port=1, public_url="https://store.example/base/")
        copy = pickle.loads(pickle.dumps(server))  # noqa: S301 - our own
        assert (server.url, copy.url) == ("https://store.example/base",) * 2
        await server.close()

    async def test_copy_works_in_a_spawned_process(self):
        async with LightningStoreServer(InMemoryLightningStore(), tokens=TOKENS) as server:
            script = "import sys, pickle, asyncio\n" + textwrap.dedent(
                """
                async def main():
                    server = pickle.load(sys.stdin.buffer)
                    await server.enqueue_rollout("from afar")
                    await server.close()
                asyncio.run(main())
                """
            )
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                script,
                stdin=subprocess.PIPE,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            await child.communicate(pickle.dumps(server))
            assert child.returncode == 0
            assert (await server.dequeue_rollout()).input == "from afar"
        await server.close()

    def test_forked_copy_is_a_client_and_leaves_the_server_alone(self):
        async def start():
            server = LightningStoreServer(InMemoryLightningStore(), tokens=TOKENS)
            await server.start()
            await server.enqueue_rollout("from the parent")
            return server

        async def in_child():
            claimed = await server.dequeue_rollout("worker-1")
            await server.stop()
            with pytest.raises(LightningStoreError):
                await server.start()
            await server.close()
            return claimed.input

        server = asyncio.run(start())
        assert in_fork(lambda: asyncio.run(in_child())) == "from the parent"
        assert in_fork(lambda: gc.collect() and server.is_running) is False
        assert asyncio.run(ask(server.url, "/health")).status == 200
        assert asyncio.run(server.get_worker_by_id("worker-1")).status == "busy"
        asyncio.run(server.close())

    def test_forked_child_does_not_hold_the_port(self):
        """A child that outlives the server must not keep its address, nor connections of its clients, open."""
        server = LightningStoreServer(InMemoryLightningStore())
        asyncio.run(server.start())
        client = socket.create_connection(("127.0.0.1", server.port))
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(100)
        go_on = FORK.Event()
        child = FORK.Process(target=go_on.wait)
        child.start()
        try:
            asyncio.run(server.stop())
            client.settimeout(30)
            while client.recv(1000):
                pass
            assert _refuses(server)
            asyncio.run(server.start())
            assert asyncio.run(ask(server.url, "/health")).status == 200
        finally:
            go_on.set()
            child.join()
            client.close()
            asyncio.run(server.close())

    async def test_calls_to_a_server_that_is_gone_say_so(self):
        async with LightningStoreServer(InMemoryLightningStore()) as server:
            copy = pickle.loads(pickle.dumps(server))  # noqa: S301 - our own
        client = LightningStoreClient(copy.url, retry_seconds=0)
        with pytest.raises(StoreUnavailableError):
            await client.statistics()
        await client.close()
        await server.close()


class TestItsEnd:
    def test_server_that_nobody_refers_to_ends(self, redis_store):
        server = LightningStoreServer(redis_store)
        asyncio.run(server.start())
        url, watch = server.url, weakref.ref(server)
        del server
        gc.collect()
        assert watch() is None
        with pytest.raises(OSError, match="onnect"):
            asyncio.run(ask(url, "/health"))
        assert server_threads() == []

    @pytest.mark.parametrize("launch", ["thread", "process"])
    def test_interpreter_ends_without_stop(self, launch, redis_url, namespace):
        script = f"""
import asyncio
from lightning_store import RedisLightningStore
from lightning_store.http.server import LightningStoreServer
server = LightningStoreServer(RedisLightningStore({redis_url!r}, namespace={namespace!r}), launch={launch!r})
asyncio.run(server.start())
print(server.url, flush=True)
"""
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", script],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=ROOT,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        with pytest.raises(OSError, match="onnect"):
            asyncio.run(ask(done.stdout.strip(), "/health"))


class TestProcessesOfItsOwn:
    @pytest.mark.parametrize("workers", [1, 2])
    async def test_serve_the_store_that_this_process_uses_too(self, redis_store, workers):
        server = LightningStoreServer(redis_store, launch="process", workers=workers, tokens=TOKENS)
        async with server:
            await server.enqueue_rollout("task")
            copy = pickle.loads(pickle.dumps(server))  # noqa: S301 - our own
            assert (await copy.dequeue_rollout()).input == "task"
            await copy.close()
            children = [child.pid for child in psutil.Process().children() if "http.child" in " ".join(child.cmdline())]
            assert len(children) == workers
        assert all(is_gone(pid) for pid in children)
        assert _refuses(server)
        assert "lightning-store-supervisor" not in server_threads()
        await server.close()

    async def test_one_that_is_killed_is_started_again(self, redis_store):
        async with LightningStoreServer(redis_store, launch="process") as server:
            children = [child for child in psutil.Process().children() if "http.child" in " ".join(child.cmdline())]
            children[0].kill()
            copy = pickle.loads(pickle.dumps(server))  # noqa: S301 - our own
            assert await copy.enqueue_rollout("task")
            await copy.close()
        await server.close()

    @pytest.mark.parametrize("options", [{"launch": "process"}, {"launch": "process", "workers": 2}])
    def test_need_a_store_that_can_be_shared(self, options):
        with pytest.raises(InvalidRequestError, match="in the memory of one process"):
            LightningStoreServer(InMemoryLightningStore(), **options)

    async def test_that_never_come_to_life_are_given_up(self, redis_url, namespace):
        server = LightningStoreServer(Unreadable(redis_url, namespace=namespace), launch="process")
        with pytest.raises(LightningStoreError, match="ended with exit code"):
            await server.start()
        assert not server.is_running
        await server.close()

    async def test_that_cannot_start_say_so(self, redis_store, tmp_path):
        (tmp_path / "cert.pem").write_text("none")
        server = LightningStoreServer(
            redis_store, launch="process", tls_cert=str(tmp_path / "cert.pem"), tls_key=str(tmp_path / "cert.pem")
        )
        with pytest.raises(LightningStoreError, match="tls_cert"):
            await server.start()
        assert not server.is_running
        await server.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"launch": "rocket"}, "launch: expected thread or process"),
        ({"workers": 0}, "workers: expected an integer of at least 1"),
        ({"workers": 2}, "take launch='process'"),
        ({"port": -1}, "port: expected an integer of at least 0, got -1"),
        ({"drain_seconds": -1}, "drain_seconds: expected a number of at least 0, got -1"),
        ({"port": 70_000}, "port: expected 0 to 65535"),
        ({"port": True}, "port: expected an integer"),
        ({"host": ""}, "host: expected a text"),
        ({"header_seconds": 0}, "header_seconds: expected a number above 0"),
        ({"body_seconds": float("inf")}, "body_seconds: expected a number"),
        ({"body_seconds": float("nan")}, "body_seconds: expected a number"),
        ({"max_body_bytes": "1"}, "max_body_bytes: expected an integer"),
        ({"max_body_bytes": 10, "max_buffered_bytes": 9}, "max_buffered_bytes: expected at least max_body_bytes"),
        ({"cors_origins": "*"}, "cors_origins: expected a list"),
        ({"cors_origins": [""]}, "cors_origins: expected texts"),
        ({"debug": 1}, "debug: expected true or false"),
        ({"tls_cert": "cert.pem"}, "tls_cert and tls_key: expected both or none"),
        ({"tls_client_ca": "ca.pem"}, "tls_client_ca: expected tls_cert"),
        ({"public_url": "store.example"}, "public_url: expected http://"),
    ],
)
def test_options_out_of_bounds_are_refused(options, message):
    with pytest.raises(InvalidRequestError, match=message):
        LightningStoreServer(InMemoryLightningStore(), **options)


def test_option_that_does_not_exist_is_a_type_error():
    with pytest.raises(TypeError, match="max_bodies"):
        LightningStoreServer(InMemoryLightningStore(), max_bodies=1)
