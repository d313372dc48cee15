"""Certificates that a client does not trust are told at once and in words; copies of a server trust its own."""

import asyncio
import datetime
import multiprocessing
import os
import pickle
import subprocess
import sys
from functools import partial

import pytest
import trustme

from lightning_store import InMemoryLightningStore
from lightning_store.errors import InvalidRequestError, LightningStoreError, StoreUnavailableError
from lightning_store.http.client import LightningStoreClient
from lightning_store.http.listening import listen
from lightning_store.http.options import ServerOptions
from lightning_store.http.server import LightningStoreServer
from lightning_store.http.serving import Plan, Service
from lightning_store.http.trust import certificates_in
from tests.support.serving import TOKENS
from tests.support.until import AT_ONCE, until

FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def certify(folder, authority, *names, **options):
    """One file of a certificate and its key, as options of a server."""
    file = folder / "server.pem"
    authority.issue_cert(*names or ("127.0.0.1",), **options).private_key_and_cert_chain_pem.write_to_path(str(file))
    return {"tls_cert": str(file), "tls_key": str(file)}


async def refusal(store):
    """What a call says that is refused at once, though there were half a minute for repeats."""
    with pytest.raises(StoreUnavailableError) as caught:
        await asyncio.wait_for(store.statistics(), AT_ONCE)
    await store.close()
    return str(caught.value)


async def is_trusted(url, ca_file):
    """Whether a server is reached by who trusts this file."""
    client = LightningStoreClient(url, ca_file=str(ca_file))
    try:
        return (await client.statistics())["total_rollouts"] == 0
    except StoreUnavailableError:
        return False
    finally:
        await client.close()


def yesterday():
    return datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)


class TestClient:
    async def test_is_told_which_certificate_is_not_trusted_and_what_to_do(self, make_server, tmp_path, authority):
        server = await make_server(**certify(tmp_path, authority))
        said = await refusal(LightningStoreClient(server.url))
        assert f"the certificate of 127.0.0.1:{server.port} is not trusted (unable to get local issuer cert" in said
        assert "ca_file or the variable SSL_CERT_FILE" in said

    async def test_is_told_of_a_name_that_is_not_in_it(self, make_server, tmp_path, authority):
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        server = await make_server(**certify(tmp_path, authority, "store.example"))
        for host in ("127.0.0.1", "localhost"):
            said = await refusal(
                LightningStoreClient(f"https://{host}:{server.port}", ca_file=str(tmp_path / "ca.pem"))
            )
            assert f"of {host}:{server.port} is not trusted" in said
            assert f"'{host}'): connect by a name that it is for" in said

    async def test_is_told_that_it_has_expired(self, make_server, tmp_path, authority):
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        server = await make_server(**certify(tmp_path, authority, not_after=yesterday()))
        said = await refusal(LightningStoreClient(server.url, ca_file=str(tmp_path / "ca.pem")))
        assert "(certificate has expired): it has to be renewed" in said

    async def test_is_told_in_the_middle_of_repeats(self, tmp_path, authority):
        """The server is away, and comes back with a certificate that is not trusted."""
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        server = LightningStoreServer(InMemoryLightningStore(), **certify(tmp_path, authority))
        await server.start()
        client = LightningStoreClient(server.url, ca_file=str(tmp_path / "ca.pem"), retry_delays=[0.05])
        await client.statistics()
        await server.stop()
        call = asyncio.ensure_future(client.statistics())
        await asyncio.wait({call}, timeout=0.2)
        assert not call.done()
        certify(tmp_path, trustme.CA())
        await server.start()
        with pytest.raises(StoreUnavailableError, match="is not trusted"):
            await asyncio.wait_for(call, AT_ONCE)
        await client.close()
        await server.close()

    async def test_trusts_a_server_whose_certificate_was_renewed_between_its_reading_and_its_start(
        self, tmp_path, authority
    ):
        options = ServerOptions(port=0, **certify(tmp_path, trustme.CA()))
        listener, started = listen(options), asyncio.Event()
        service = Service(Plan(InMemoryLightningStore(), options, None), listener, started.set)
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        certify(tmp_path, authority)
        serves = asyncio.ensure_future(service.run_here())
        await started.wait()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        await until(partial(is_trusted, url, tmp_path / "ca.pem"))
        service.stop()
        await serves

    async def test_trusts_the_authority_or_the_certificate_itself(self, make_server, tmp_path, authority):
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        options = certify(tmp_path, authority)
        server = await make_server(**options)
        for trusted in (
            {"ca_file": str(tmp_path / "ca.pem")},
            {"ca_file": options["tls_cert"]},
            {"ca_data": certificates_in(options["tls_cert"])},
            {"verify": False},
        ):
            client = LightningStoreClient(server.url, **trusted)
            for each in (client, pickle.loads(pickle.dumps(client))):  # noqa: S301 - our own
                assert (await each.statistics())["total_rollouts"] == 0
                await each.close()

    @pytest.mark.parametrize("name", ["ca_file", "cert_file"])
    @pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), ("no PEM", "expected .* in PEM")])
    async def test_file_that_cannot_be_used_is_named_at_once(self, tmp_path, name, content, reason):
        file = tmp_path / "some.pem"
        if content is not None:
            file.write_text(content)
        client = LightningStoreClient("https://127.0.0.1:1", **{name: str(file)})
        with pytest.raises(InvalidRequestError, match=f"{name} {file}.*: {reason}"):
            await asyncio.wait_for(client.statistics(), AT_ONCE)
        await client.close()

    async def test_on_the_command_line(self, make_server, tmp_path, authority):
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        server = await make_server(**certify(tmp_path, authority))

        async def status(**variables):
            command = [sys.executable, "-m", "lightning_store", "status", "--store", server.url]
            return await asyncio.to_thread(
                subprocess.run, command, capture_output=True, text=True, env={**os.environ, **variables}, check=False
            )

        refused = await status()
        assert refused.returncode == 3
        assert f"the certificate of 127.0.0.1:{server.port} is not trusted" in refused.stderr
        assert (await status(SSL_CERT_FILE=str(tmp_path / "ca.pem"))).returncode == 0


def in_fork(work):
    """What a coroutine function returns in a forked child of this process."""
    results = FORK.SimpleQueue()

    def run():
        try:
            results.put(asyncio.run(work()))
        except BaseException as error:  # noqa: BLE001 - the parent tells it
            results.put(repr(error))

    child = FORK.Process(target=run)
    child.start()
    value = results.get()
    child.join(30)
    return value


class TestCopies:
    async def test_trust_the_certificate_of_the_server(self, make_server, tmp_path, authority):
        server = await make_server(tokens=TOKENS, **certify(tmp_path, authority))
        await server.enqueue_rollout("task")
        data = pickle.dumps(server)
        assert b"PRIVATE KEY" not in data
        copy = pickle.loads(data)  # noqa: S301 - our own
        (tmp_path / "server.pem").rename(tmp_path / "away.pem")  # as on another host, which has no such file
        again = pickle.loads(pickle.dumps(copy))  # noqa: S301 - our own
        for each in (copy, again):
            assert (await each.statistics())["total_rollouts"] == 1
            await each.close()
        (tmp_path / "away.pem").rename(tmp_path / "server.pem")

        async def ask():
            return (await server.statistics())["total_rollouts"]

        assert await asyncio.to_thread(in_fork, ask) == 1

    async def test_trust_a_certificate_that_was_renewed_before_they_were_made(self, make_server, tmp_path, authority):
        server = await make_server(**certify(tmp_path, authority))
        old = pickle.loads(pickle.dumps(server))  # noqa: S301 - our own
        certify(tmp_path, trustme.CA())

        await until(partial(is_trusted, server.url, tmp_path / "server.pem"))
        new = pickle.loads(pickle.dumps(server))  # noqa: S301 - our own
        assert (await new.statistics())["total_rollouts"] == 0
        await new.close()
        assert "is not trusted" in await refusal(old)

    async def test_say_at_once_that_the_certificate_is_for_another_name(self, make_server, tmp_path, authority):
        server = await make_server(**certify(tmp_path, authority, "store.example"))
        copy = pickle.loads(pickle.dumps(server))  # noqa: S301 - our own
        assert "connect by a name that it is for" in await refusal(copy)

    async def test_say_that_they_have_no_certificate_where_the_server_demands_one(
        self, make_server, tmp_path, authority
    ):
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        server = await make_server(tls_client_ca=str(tmp_path / "ca.pem"), **certify(tmp_path, authority))
        copy = pickle.loads(pickle.dumps(server))  # noqa: S301 - our own
        with pytest.raises(LightningStoreError, match=r"demands certificates.*LightningStoreClient\('https.*cert_file"):
            await copy.statistics()
        await copy.close()

    @pytest.mark.parametrize("content", [None, "nothing"])
    async def test_certificate_that_cannot_be_read_is_named(self, tmp_path, content):
        file = tmp_path / "server.pem"
        if content is not None:
            file.write_text(content)
        server = LightningStoreServer(InMemoryLightningStore(), port=1, tls_cert=str(file), tls_key=str(file))
        with pytest.raises(InvalidRequestError, match=f"certificate {file}"):
            pickle.dumps(server)
        await server.close()
