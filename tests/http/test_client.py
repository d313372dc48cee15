"""The client: errors, outages, time limits, health, TLS, loops, forks and pickles."""

import asyncio
import os
import pickle
import socket
import subprocess
import sys
import threading
import warnings

import pytest
import trustme
import uvicorn
from pydantic import ValidationError

from lightning_store import LightningStoreClient
from lightning_store.backends.memory import InMemoryLightningStore
from lightning_store.errors import (
    ERRORS_BY_CODE,
    AccessDeniedError,
    InternalStoreError,
    InvalidRequestError,
    ServerBusyError,
    StoreUnavailableError,
    UnsupportedOperationError,
)
from lightning_store.http.app import build_app
from tests.support.faulty import FaultyStore
from tests.support.http_server import ServedStore, shared_server
from tests.support.proxy import Fault, Proxy
from tests.support.until import wait_until

QUICK = {"retry_delays": [0.01], "retry_seconds": 0.3}


def answering(status, body=b"", headers=()):
    """An application that has one answer, and the requests that it was sent."""
    seen = []

    async def app(scope, receive, send):
        seen.append((scope["method"], scope["path"], dict(scope["headers"])))
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": body})

    return app, seen


@pytest.fixture
async def faulty():
    store = FaultyStore(InMemoryLightningStore())
    client = ServedStore(store)
    yield store, client
    await client.close()


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in ERRORS_BY_CODE.values() if kind is not ServerBusyError])
async def test_errors_arrive_as_the_same_class_with_the_same_text(faulty, kind):
    store, client = faulty
    store.errors["get_worker_by_id"] = kind("Worker w: ä \ud800 says no")
    with pytest.raises(kind, match=r"Worker w: ä \ud800 says no") as caught:
        await client.get_worker_by_id("w")
    assert type(caught.value) is kind
    assert store.calls["get_worker_by_id"] == 1, "the store itself has repeated what it could"


async def test_fault_of_the_server_is_one_of_ours(faulty, caplog):
    store, client = faulty
    store.errors["get_worker_by_id"] = KeyError("broken")
    with pytest.raises(InternalStoreError, match="Internal server error"):
        await client.get_worker_by_id("w")
    assert "broken" in caplog.text


async def test_arguments_are_refused_before_anything_is_sent(faulty):
    store, client = faulty
    await client.statistics()
    for call, error in (
        (client.enqueue_rollout({1}), InvalidRequestError),
        (client.enqueue_rollout(1, mode="demo"), ValidationError),
        (client.update_attempt("r", "a", status="lost"), ValidationError),
        (client.update_worker("w", None), TypeError),
        (client.get_rollout_by_id(5), InvalidRequestError),
        (client.update_rollout(None, status="running"), InvalidRequestError),
        (client.dequeue_rollout(lease_seconds=True), InvalidRequestError),
        (client.add_many_spans(["span"]), InvalidRequestError),
    ):
        with pytest.raises(error):
            await call
    assert set(store.calls) == {"statistics"}


async def test_ill_typed_argument_that_only_the_server_notices_is_named(faulty):
    _, client = faulty
    with pytest.raises(InvalidRequestError, match="status_in"):
        await client.query_rollouts(status_in=["lost"])


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, AccessDeniedError),
        (403, AccessDeniedError),
        (404, UnsupportedOperationError),
        (400, InvalidRequestError),
        (413, InvalidRequestError),
        (301, InvalidRequestError),
    ],
)
async def test_what_others_on_the_way_answer_is_final(status, error):
    app, seen = answering(status, b"<html>", [(b"x-lightning-store", b"1")])
    url = shared_server().mount(app)
    client = LightningStoreClient(url, token="secret")
    with pytest.raises(error, match=str(status)):
        await client.statistics()
    await client.close()
    assert len(seen) == 1
    assert seen[0][2][b"authorization"] == b"Bearer secret"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_server_that_cannot_answer_now_is_asked_again_until_the_time_is_over(status):
    app, seen = answering(status, b"busy", [(b"x-lightning-store", b"1")])
    client = LightningStoreClient(shared_server().mount(app), **QUICK)
    with pytest.raises(StoreUnavailableError, match=f"HTTP {status}"):
        await client.statistics()
    await client.close()
    assert len(seen) > 2


# -- outages -----------------------------------------------------------------------------------------------------------


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class OwnServer:
    """A uvicorn of its own on a thread, on a port that is known before."""

    def __init__(self, app, port, **options):
        config = uvicorn.Config(
            app, host="127.0.0.1", port=port, log_level="error", lifespan="off", interface="asgi3", **options
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve()))

    def start(self):
        self._thread.start()
        wait_until(lambda: self._server.started)

    def stop(self):
        self._server.should_exit = True
        self._thread.join(30)


async def test_outage_longer_than_the_limit_is_told():
    client = LightningStoreClient(f"http://127.0.0.1:{free_port()}", **QUICK)
    for call in (client.statistics, client.dequeue_rollout, client.query_rollouts, client.get_latest_resources):
        with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1"):
            await call()
    await client.close()


async def test_call_waits_for_a_server_that_is_started_again():
    port = free_port()
    store = InMemoryLightningStore()
    client = LightningStoreClient(f"http://127.0.0.1:{port}", retry_delays=[0.05])
    pending = asyncio.ensure_future(client.enqueue_rollout("task"))
    for number in range(2):
        server = OwnServer(build_app(store), port)
        await asyncio.to_thread(server.start)
        assert (await asyncio.wait_for(pending, 25)).input == "task"
        await asyncio.to_thread(server.stop)
        pending = asyncio.ensure_future(client.enqueue_rollout("task")) if number == 0 else pending
    await client.close()
    assert (await store.query_rollouts()).total == 2


async def test_answer_that_does_not_come_is_given_up_and_asked_for_again(faulty):
    store, client = faulty
    async with Proxy(client.url) as proxy:
        other = LightningStoreClient(proxy.url, request_seconds=0.5, retry_delays=[0.01])
        await other.statistics()
        proxy.fault, proxy.seconds = Fault.FROZEN_ANSWER, 1.5
        proxy.judge = lambda data: b"/rollouts " in data and proxy.lost == 0
        await other.start_rollout("once")
        await other.close()
        assert proxy.lost == 1
    assert store.calls["start_rollout"] == 1


async def test_health_is_asked_before_a_repeat_unless_told_otherwise():
    for health_seconds, expected in ((1.0, True), (None, False)):
        app, seen = answering(503, b"", [(b"x-lightning-store", b"1")])
        client = LightningStoreClient(shared_server().mount(app), health_seconds=health_seconds, **QUICK)
        client._sender.is_ours = True
        with pytest.raises(StoreUnavailableError):
            await client.statistics()
        await client.close()
        assert any(path.endswith("/health") for _, path, _ in seen) is expected


async def test_nothing_is_repeated_when_there_is_no_time_for_it():
    app, seen = answering(503, b"", [(b"x-lightning-store", b"1")])
    client = LightningStoreClient(shared_server().mount(app), retry_seconds=0)
    with pytest.raises(StoreUnavailableError):
        await client.statistics()
    await client.close()
    assert len(seen) == 1


# -- names that clash with words of the API ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["search", "latest", "cancel", "next", "many", ".", "..", "a/b", "a b", "ä%2F?#", "%73"]
)
async def test_any_name_can_be_an_id(faulty, name):
    _, client = faulty
    await client.update_worker(name, {"n": 1})
    await client.update_resources(name, {})
    assert (await client.get_worker_by_id(name)).worker_id == name
    assert (await client.get_resources_by_id(name)).resources_id == name
    assert await client.get_rollout_by_id(name) is None
    assert (await client.query_resources(resources_id=name)).total == 1


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["", "localhost:80", "ftp://host", "http://", "http://host?a=1", "redis://host", None])
def test_url_is_one_of_a_server(url):
    with pytest.raises(InvalidRequestError, match="url"):
        LightningStoreClient(url)


@pytest.mark.parametrize(
    "setting",
    [
        {"request_seconds": 0},
        {"retry_seconds": -1},
        {"retry_delays": [-1]},
        {"wait_seconds": 0},
        {"max_connections": 0},
    ],
)
def test_settings_have_bounds(setting):
    with pytest.raises(InvalidRequestError, match=next(iter(setting))):
        LightningStoreClient("http://host", **setting)


def test_prefix_may_be_part_of_the_url():
    for url in (
        "http://host:1/under",
        "http://host:1/under/",
        "http://host:1/under/v1/agl",
        "http://host:1/under/v1/agl/",
    ):
        client = LightningStoreClient(url)
        assert client.url == "http://host:1/under"
        assert client.otlp_traces_endpoint() == "http://host:1/under/v1/traces"


def test_token_does_not_show():
    assert "secret" not in repr(LightningStoreClient("http://host", token="secret"))
    with pytest.raises(InvalidRequestError) as caught:
        LightningStoreClient("http://user:secret@host")
    assert "secret" not in str(caught.value)


def test_client_needs_neither_the_server_nor_a_backend():
    code = (
        "import sys, lightning_store; lightning_store.LightningStoreClient('http://host');"
        "print([name for name in sys.modules if name.split('.')[0] in {'fastapi', 'starlette', 'uvicorn', 'redis'}"
        " or name.startswith('lightning_store.backends.')])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


# -- loops, processes, pickles -----------------------------------------------------------------------------------------


async def test_pickled_client_works_and_has_no_connections():
    served = ServedStore(InMemoryLightningStore())
    client = LightningStoreClient(served.url, token="t")
    await client.enqueue_rollout("task")
    waiting = asyncio.ensure_future(client.dequeue_rollout(queues=["other"], timeout=30))
    await asyncio.wait([waiting], timeout=0.05)

    copy = pickle.loads(pickle.dumps(client))  # noqa: S301 - our own bytes

    assert (await copy.dequeue_rollout("w")).input == "task"
    await copy.enqueue_rollout("more", queue="other")
    assert (await asyncio.wait_for(waiting, 10)).input == "more"
    for each in (copy, client, served):
        await each.close()


async def test_client_works_in_a_forked_child():
    served = ServedStore(InMemoryLightningStore())
    client = LightningStoreClient(served.url)
    await client.enqueue_rollout("task")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: the test process has threads
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            thread = threading.Thread(target=lambda: asyncio.run(client.update_worker("child")))
            thread.start()  # a loop runs in this thread, or so the child thinks
            thread.join()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, pid, 0))[1]) == 0
    assert (await client.get_worker_by_id("child")) is not None
    assert (await client.dequeue_rollout()).input == "task"
    for each in (client, served):
        await each.close()


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tls(tmp_path):
    """Files of an authority, a server and a client."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name, certificate in (
        ("server", authority.issue_cert("localhost")),
        ("client", authority.issue_cert("client")),
    ):
        certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / f"{name}.pem")
    return {name: str(tmp_path / f"{name}.pem") for name in ("ca", "server", "client")}


async def test_connections_over_tls(tls):
    port = free_port()
    options = {"ssl_certfile": tls["server"], "ssl_ca_certs": tls["ca"], "ssl_cert_reqs": 2}
    server = OwnServer(build_app(InMemoryLightningStore()), port, **options)
    await asyncio.to_thread(server.start)
    url = f"https://localhost:{port}"
    trusting = LightningStoreClient(url, ca_file=tls["ca"], cert_file=tls["client"])
    careless = LightningStoreClient(url, verify=False, cert_file=tls["client"])
    strict = LightningStoreClient(url, cert_file=tls["client"], **QUICK)
    anonymous = LightningStoreClient(url, ca_file=tls["ca"], **QUICK)

    assert (await trusting.statistics())["total_rollouts"] == 0
    assert (await careless.statistics())["total_rollouts"] == 0
    for client in (strict, anonymous):
        with pytest.raises(StoreUnavailableError):
            await client.statistics()

    for client in (trusting, careless, strict, anonymous):
        await client.close()
    await asyncio.to_thread(server.stop)
