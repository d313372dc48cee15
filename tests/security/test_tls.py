"""The store over TLS, with certificates of the test's own authority; never a plain connection in its place."""

import asyncio
import gc
import os
import socket
import subprocess
import warnings
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
import trustme

from lightning_store import RedisLightningStore
from lightning_store.errors import StoreUnavailableError
from lightning_store.reachable import check_reachable
from tests.support.command_line import run_process
from tests.support.factories import claim, requests_for, span_of
from tests.support.redis_server import BINARY_VARIABLE, binary_under_test
from tests.support.replicated import SentinelGroup, Tls
from tests.support.shipped_redis import PASSWORDS, free_port, running

DEBIAN = "/usr/bin/redis-server"


@dataclass(frozen=True)
class TlsServer:
    """A server that listens with TLS on one port, and without on none."""

    port: int
    ca: Path
    folder: Path

    def url(self, user="algorithm", host="127.0.0.1", scheme="rediss", ca=None, options=""):
        where = "" if scheme == "redis" else f"?ssl_ca_certs={quote(str(ca or self.ca))}{options}"
        return f"{scheme}://{user}:{PASSWORDS[user]}@{host}:{self.port}/0{where}"


def reason_without_tls():
    """Why the server under test has no TLS, as it says itself; None if it has."""
    binary = binary_under_test()
    command = [binary.path, "--port", "0", "--tls-port", "1", "--save", ""]
    said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    assert said.returncode != 0, "it was not given a certificate"
    if "tls-cert-file" in said.stdout:
        return None
    return f"{binary.path} {binary.version_text} was built without TLS"


def require_tls():
    """Skip where the server has no TLS; Debian's has, so in CI that would be a fault."""
    reason = reason_without_tls()
    if reason is not None:
        assert not (os.environ.get("CI") and os.environ.get(BINARY_VARIABLE) == DEBIAN), reason
        pytest.skip(reason)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def server(tmp_path_factory, authority):
    require_tls()
    folder = tmp_path_factory.mktemp("tls")
    port = free_port()
    with running(folder, port, "--port", "0", "--tls-port", str(port), *certified(folder, authority, "127.0.0.1")):
        yield TlsServer(port, folder / "ca.pem", folder)


def certified(folder, authority, host):
    """Arguments of a server with a certificate for a host; its files are in the folder."""
    certificate = authority.issue_cert(host)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    files = {"ca-cert-file": "ca.pem", "key-file": "key.pem", "cert-file": "cert.pem"}
    named = [word for name, file in files.items() for word in (f"--tls-{name}", str(folder / file))]
    return [*named, "--tls-auth-clients", "no"]


@pytest.fixture
async def open_store(namespace):
    stores = []

    def make(url, **options):
        stores.append(RedisLightningStore(url, namespace=namespace, **options))
        return stores[-1]

    yield make
    for store in stores:
        await store.close()


async def refusal(store):
    """How a store says that it cannot reach its server, which it must not take long to find out."""
    with pytest.raises(StoreUnavailableError) as caught:
        await asyncio.wait_for(store.enqueue_rollout("task"), 10)
    assert "algorithmpw" not in str(caught.value)
    return str(caught.value)


async def test_store_works_over_tls(server, open_store):
    algorithm, runner = open_store(server.url()), open_store(server.url("runner"))
    waiting = asyncio.create_task(runner.dequeue_rollout("worker-1", timeout=30, lease_seconds=60))
    await asyncio.sleep(0.1)  # it waits at the server
    rollouts = await algorithm.enqueue_many_rollouts(requests_for(["x" * 100_000, "small"]))
    first = await waiting
    second = await claim(runner, "worker-1", lease_seconds=60)
    done = asyncio.create_task(
        algorithm.wait_for_rollouts(rollout_ids=[rollout.rollout_id for rollout in rollouts], timeout=30)
    )
    for claimed in (first, second):
        assert len(await runner.add_many_spans([span_of(claimed) for _ in range(100)], renumber=True)) == 100
        await runner.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status="succeeded")
    assert [rollout.status for rollout in await done] == ["succeeded"] * 2
    assert (await algorithm.query_spans(first.rollout_id)).total == 100
    assert first.input == "x" * 100_000


async def test_sentinels_and_the_servers_that_they_name_are_reached_over_tls(tmp_path, authority, open_store):
    require_tls()
    words = certified(tmp_path, authority, "127.0.0.1")
    lines = [f"{name.removeprefix('--')} {value}" for name, value in zip(words[::2], words[1::2], strict=True)]
    ca = tmp_path / "ca.pem"
    with SentinelGroup(tmp_path / "group", Tls(ca, tuple(lines))) as group:
        plain = group.url.replace("redis+", "rediss+")
        url = f"{plain}&ssl_ca_certs={ca}&sentinel_ssl=yes&sentinel_ssl_ca_certs={ca}"
        store = open_store(url, min_replicas=2)
        await store.enqueue_rollout("task")
        await claim(store)
        await asyncio.to_thread(check_reachable, url)
        # Neither certificate is taken on trust.
        for distrusted in (f"&ssl_ca_certs={ca}&sentinel_ssl=yes", f"&sentinel_ssl=yes&sentinel_ssl_ca_certs={ca}"):
            assert "certificate" in await refusal(open_store(f"{plain}{distrusted}"))


def test_command_line_works_over_tls(server, namespace):
    environment = {"LIGHTNING_STORE_URL": server.url(), "LIGHTNING_STORE_NAMESPACE": namespace}
    result = run_process(["status", "--json"], environment=environment)
    assert result.code == 0, result.err


async def test_client_certificate_that_the_server_asks_for_is_shown(tmp_path, authority, open_store):
    require_tls()
    port = free_port()
    arguments = certified(tmp_path, authority, "127.0.0.1")
    arguments[-1] = "yes"
    with running(tmp_path, port, "--port", "0", "--tls-port", str(port), *arguments):
        there = TlsServer(port, tmp_path / "ca.pem", tmp_path)
        shown = f"&ssl_certfile={tmp_path / 'cert.pem'}&ssl_keyfile={tmp_path / 'key.pem'}"
        assert await open_store(there.url(options=shown)).enqueue_rollout("task")
        await refusal(open_store(there.url(), retry_seconds=0.5))


async def test_certificate_of_another_authority_is_refused_at_once(server, open_store, tmp_path):
    """Waiting does not mend it, so the 30 s that a call is repeated for are not spent on it."""
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    assert "CERTIFICATE_VERIFY_FAILED" in await refusal(open_store(server.url(ca=other)))
    with pytest.raises(StoreUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        check_reachable(server.url(ca=other))


async def test_certificate_is_checked_without_being_asked_for(server, open_store):
    """The authorities of this machine do not know ours."""
    assert "CERTIFICATE_VERIFY_FAILED" in await refusal(open_store(server.url().partition("?")[0]))


async def test_certificate_for_another_host_is_refused(server, open_store):
    assert "CERTIFICATE_VERIFY_FAILED" in await refusal(open_store(server.url(host="localhost")))
    with pytest.raises(StoreUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        check_reachable(server.url(host="localhost"))


async def test_check_is_left_out_only_where_the_url_says_so(server, open_store):
    url = f"{server.url().partition('?')[0]}?ssl_cert_reqs=none"
    assert await open_store(url).enqueue_rollout("task")


async def test_plain_url_does_not_reach_a_server_with_tls(server, open_store):
    await refusal(open_store(server.url(scheme="redis"), retry_seconds=0.5))


async def test_store_with_tls_sends_nothing_to_a_plain_server(open_store, tmp_path):
    """A server without TLS, seen from its side: nothing of what comes can be read."""
    received = bytearray()

    async def read(reader, writer):
        received.extend(await reader.read(1000))
        writer.write(b"-ERR what is that\r\n")
        writer.close()

    listener = await asyncio.start_server(read, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        await refusal(open_store(f"rediss://algorithm:algorithmpw@127.0.0.1:{port}/0", retry_seconds=0.2))
    assert received
    assert b"algorithmpw" not in received
    assert b"AUTH" not in received


async def test_missing_authority_is_told(server, open_store, tmp_path):
    assert "No such file" in await refusal(open_store(server.url(ca=tmp_path / "nowhere.pem"), retry_seconds=0.2))


def test_loops_that_ended_without_close_leave_no_socket(server, namespace):
    """`asyncio.run` again and again with one store, as scripts do; also while a read waits at the server."""
    store = RedisLightningStore(server.url(), namespace=namespace)

    async def work():
        await store.enqueue_rollout("task")
        await store.dequeue_rollout("worker-1", queues=["empty"], timeout=0.1)

    def sockets():
        return [c for c in psutil.Process().net_connections("tcp") if c.raddr and c.raddr.port == server.port]

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(4):
            asyncio.run(work())
        held = len(sockets())

        async def last():
            await store.statistics()
            await store.close()

        asyncio.run(last())
        left = sockets()
        gc.collect()
    assert held <= 2, "only those of the loop that ended last"
    assert left == []
    assert [str(warning.message) for warning in caught] == []


async def test_connections_that_are_cut_are_opened_again(server, open_store):
    """As by a load balancer that closes what is idle."""
    store = open_store(server.url())
    await store.enqueue_rollout("task")
    for pool in store._connections._pools._values.values():
        pool._channel._transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
    assert (await claim(store, "worker-1")).input == "task"
