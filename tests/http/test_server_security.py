"""Who may call a server, and what: tokens and their roles, this machine without tokens, web pages, TLS."""

import gc
import json
import logging
import pickle
import secrets
import ssl
from pathlib import Path

import aiohttp
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from lightning_store import InMemoryLightningStore
from lightning_store.errors import AccessDeniedError, InvalidRequestError
from lightning_store.http import certificates
from lightning_store.http.access import REQUEST, Request, ServedStore
from lightning_store.http.answers import Answers
from lightning_store.http.client import LightningStoreClient
from lightning_store.http.options import ServerOptions
from lightning_store.http.server import LightningStoreServer
from lightning_store.http.tokens import ROLES, Tokens
from lightning_store.operations import OPERATIONS
from tests.support.serving import TOKEN_OF, TOKENS, Reply, ask, send_raw
from tests.support.until import until


@pytest.fixture
async def server(make_server):
    return await make_server(tokens=TOKENS)


def is_refusal(reply: Reply, status: int) -> bool:
    assert reply.headers["Content-Type"] == "application/json"
    assert set(reply.json) == {"detail", "error_type"}
    assert reply.json["error_type"] == "ACCESS_DENIED"
    assert "Traceback" not in reply.body.decode()
    return reply.status == status


def answers_kept() -> int:
    """How many answers are kept for repeats, by all servers of this process."""
    return sum(len(each) for each in gc.get_objects() if isinstance(each, Answers))


class TestTokens:
    @pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}], ids=str)
    async def test_without_one_nothing_is_told(self, server, headers):
        for path in ("/v1/agl/statistics", "/v1/agl/nowhere", "/nowhere", "/v1/traces"):
            reply = await ask(server.url, path, headers=headers)
            assert is_refusal(reply, 401)
            assert reply.headers["WWW-Authenticate"].startswith("Bearer ")

    async def test_wrong_one_is_refused(self, server):
        for token in ("wrong", TOKEN_OF["admin"] + "x", TOKEN_OF["admin"][:-1], "caf\u00e9"):
            reply = await ask(server.url, "/v1/agl/statistics", token=token)
            assert is_refusal(reply, 401)
            assert token not in reply.body.decode()

    async def test_two_headers_are_refused(self, server):
        """Or what stands before the server could read another one than the server does."""
        lines = "".join(f"Authorization: Bearer {TOKEN_OF[role]}\r\n" for role in ("read", "admin"))
        request = f"GET /v1/agl/statistics HTTP/1.1\r\nHost: localhost\r\n{lines}Connection: close\r\n\r\n"
        assert b" 401 " in (await send_raw(server.url, request.encode())).splitlines()[0]

    async def test_scheme_may_be_written_in_any_case(self, server):
        reply = await ask(server.url, "/v1/agl/statistics", headers={"Authorization": f"bearer  {TOKEN_OF['read']} "})
        assert reply.status == 200

    async def test_role_that_is_too_low_is_refused_and_changes_nothing(self, server):
        enqueue = {"rollouts": [{"input": 1}]}
        for role, status in (("read", 403), ("runner", 403), ("admin", 201)):
            reply = await ask(server.url, "/v1/agl/queues/rollouts/enqueue", json=enqueue, token=TOKEN_OF[role])
            assert reply.status == status
            assert status == 201 or is_refusal(reply, 403)
        for role, status in (("read", 403), ("runner", 200)):
            reply = await ask(server.url, "/v1/agl/queues/rollouts/dequeue", json={"limit": 1}, token=TOKEN_OF[role])
            assert reply.status == status
        for role in ROLES:
            reply = await ask(server.url, "/v1/agl/statistics", token=TOKEN_OF[role])
            assert reply.json["total_rollouts"] == 1

    async def test_call_is_ended_by_its_key_only_with_the_role_that_the_call_needs(self, server):
        """Or who may only read could hand back others' work, and fill the memory of answers with keys."""
        for path, allowed in (("dequeue", {"runner", "admin"}), ("enqueue", {"admin"})):
            for role in ROLES:
                before = answers_kept()
                reply = await ask(
                    server.url, f"/v1/agl/queues/rollouts/{path}", method="DELETE", token=TOKEN_OF[role],
                    headers={"Idempotency-Key": secrets.token_hex(16)},
                )  # fmt: skip
                if role in allowed:
                    assert (reply.status, reply.json, answers_kept()) == (200, None, before + 1)
                else:
                    assert is_refusal(reply, 403)
                    assert answers_kept() == before

    async def test_sender_of_spans_is_asked_for_its_role_before_its_body_is_read(self, server):
        for role, status in (("read", 403), ("runner", 200)):
            headers = {"Content-Type": "application/x-protobuf"}
            reply = await ask(server.url, "/v1/traces", method="POST", token=TOKEN_OF[role], headers=headers)
            assert reply.status == status

    async def test_client_raises_the_class_for_it(self, server):
        client = LightningStoreClient(server.url, token=TOKEN_OF["runner"])
        with pytest.raises(AccessDeniedError, match="needs a token with the role admin, got runner"):
            await client.enqueue_rollout("task")
        await client.close()
        stranger = LightningStoreClient(server.url)
        with pytest.raises(AccessDeniedError, match="Authorization"):
            await stranger.statistics()
        await stranger.close()

    @pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda row: row.name)
    @pytest.mark.parametrize("role", [None, *ROLES])
    async def test_every_operation_asks_for_its_role(self, operation, role):
        """Where it is carried out, so no route can lead around it. That it gets through shows by what it says then."""
        served = ServedStore(InMemoryLightningStore(), ServerOptions())
        reset = REQUEST.set(Request("1", role))
        try:
            with pytest.raises((AccessDeniedError, TypeError)) as caught:
                await served.invoke(operation, {"no_such_argument": 1})
        finally:
            REQUEST.reset(reset)
        is_allowed = role is not None and ROLES.index(role) >= ROLES.index(operation.role)
        assert (caught.type is TypeError) == is_allowed

    async def test_operation_without_a_request_is_refused(self):
        with pytest.raises(AccessDeniedError):
            await ServedStore(InMemoryLightningStore(), ServerOptions()).statistics()

    async def test_file_is_followed_without_a_restart(self, make_server, tmp_path):
        file = tmp_path / "tokens"
        file.write_text(f"admin {TOKEN_OF['admin']}\n")
        file.chmod(0o600)
        server = await make_server(tokens=Tokens(file=file))
        new = "admin-token-of-tomorrow"
        file.write_text(f"admin {TOKEN_OF['admin']}\nadmin {new}\n")

        async def status(token):
            return (await ask(server.url, "/v1/agl/statistics", token=token)).status

        async def is_known():
            return await status(new) == 200

        await until(is_known)
        assert await status(TOKEN_OF["admin"]) == 200, "both count while clients change over"
        file.write_text(f"admin {new}\n")

        async def is_forgotten():
            return await status(TOKEN_OF["admin"]) == 401

        await until(is_forgotten)
        copy = pickle.loads(pickle.dumps(server))  # noqa: S301 - our own
        assert await copy.statistics(), "copies are not bound to the tokens in the file"
        await copy.close()

    async def test_no_token_shows_anywhere(self, server, caplog):
        caplog.set_level(logging.DEBUG)
        for token in (*TOKEN_OF.values(), "secret-but-wrong-token"):
            await ask(server.url, f"/v1/agl/rollouts?token={token}", token=token)
            await ask(server.url, "/v1/agl/queues/rollouts/enqueue", data=b"{", token=token)
        shown = caplog.text + repr(server) + repr(vars(server)) + str(pickle.dumps(server))
        for token in (*TOKEN_OF.values(), "secret-but-wrong-token"):
            assert token not in shown


async def test_client_that_was_refused_still_knows_whose_server_it_is(make_server, tmp_path):
    """Or it would treat the next call as one to Agent Lightning's server, which has no such operation."""
    file = tmp_path / "tokens"
    old, new = TOKEN_OF["admin"], "another-token-0123456789"
    file.write_text(f"admin {old}\n")
    server = await make_server(tokens=Tokens(file=file))
    client = LightningStoreClient(server.url, token=old)
    try:
        claimed = await client.start_rollout(1, worker_id="w")
        file.write_text(f"admin {new}\n")
        await until(lambda: _is_unknown(server.url, old))
        with pytest.raises(AccessDeniedError):
            await client.statistics()
        file.write_text(f"admin {old}\n")
        await until(lambda: _is_unknown(server.url, new))
        await client.renew("w", [(claimed.rollout_id, claimed.attempt.attempt_id)])
    finally:
        await client.close()


async def _is_unknown(url: str, token: str) -> bool:
    return (await ask(url, "/v1/agl/statistics", token=token)).status == 401


class TestWithoutTokens:
    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "store.example"])
    def test_only_loopback_is_listened_on(self, host):
        with pytest.raises(InvalidRequestError, match=r"needs tokens.*LIGHTNING_STORE_TOKENS.*127\.0\.0\.1"):
            LightningStoreServer(InMemoryLightningStore(), host=host)
        LightningStoreServer(InMemoryLightningStore(), host=host, tokens=TOKENS)

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.2", "::1", "LOCALHOST"])
    def test_loopback_has_many_names(self, host):
        LightningStoreServer(InMemoryLightningStore(), host=host)

    async def test_programs_of_this_machine_may_do_all(self, make_server):
        server = await make_server()
        reply = await ask(server.url, "/v1/agl/queues/rollouts/enqueue", json={"rollouts": [{"input": 1}]})
        assert reply.status == 201

    @pytest.mark.parametrize(
        "headers",
        [
            {"Host": "evil.example"},
            {"Host": "evil.example:4747", "Origin": "http://evil.example:4747"},
            {"Host": "localhost", "Origin": "https://evil.example"},
            {"Host": "localhost", "Origin": "null"},
            {"Host": "localhost.evil.example"},
            {"Host": ""},
        ],
        ids=str,
    )
    async def test_web_pages_of_others_may_not(self, make_server, headers):
        """A page in a browser of this machine could send requests, and read answers by a name that it turns to it."""
        server = await make_server()
        reply = await ask(server.url, "/v1/agl/queues/rollouts/enqueue", data=b"{}", headers=headers)
        assert is_refusal(reply, 403)

    @pytest.mark.parametrize("origin", ["http://localhost:4747", "http://127.0.0.1:3000", "http://[::1]:1"])
    async def test_pages_of_this_machine_may(self, make_server, origin):
        server = await make_server()
        assert (await ask(server.url, "/v1/agl/statistics", headers={"Origin": origin})).status == 200

    async def test_public_name_is_a_name_of_this_machine(self, make_server):
        server = await make_server(public_url="https://store.example")
        reply = await ask(f"http://127.0.0.1:{server.port}", "/v1/agl/statistics", headers={"Host": "store.example"})
        assert reply.status == 200


class TestWebPages:
    ORIGIN = "https://board.example"

    async def test_allowed_origin_may_call_and_read_refusals(self, make_server):
        server = await make_server(tokens=TOKENS, cors_origins=[self.ORIGIN])
        for token, status in ((TOKEN_OF["read"], 200), ("wrong", 401)):
            reply = await ask(server.url, "/v1/agl/statistics", token=token, headers={"Origin": self.ORIGIN})
            assert reply.status == status
            assert reply.headers["Access-Control-Allow-Origin"] == self.ORIGIN

    async def test_preflight_needs_no_token(self, make_server):
        server = await make_server(tokens=TOKENS, cors_origins=[self.ORIGIN])
        headers = {
            "Origin": self.ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        reply = await ask(server.url, "/v1/agl/rollouts", method="OPTIONS", headers=headers)
        assert reply.status == 200
        assert "POST" in reply.headers["Access-Control-Allow-Methods"]
        assert reply.headers["Access-Control-Allow-Headers"] == "authorization"

    async def test_other_origins_get_no_headers(self, make_server):
        server = await make_server(tokens=TOKENS, cors_origins=[self.ORIGIN])
        reply = await ask(
            server.url, "/v1/agl/statistics", token=TOKEN_OF["read"], headers={"Origin": "https://evil.example"}
        )
        assert reply.status == 200
        assert not [name for name in reply.headers if name.lower() == "access-control-allow-origin"]

    async def test_without_tokens_an_allowed_origin_is_let_in(self, make_server):
        server = await make_server(cors_origins=[self.ORIGIN])
        reply = await ask(server.url, "/v1/agl/statistics", headers={"Origin": self.ORIGIN})
        assert reply.status == 200

    async def test_description_of_the_api_needs_no_token(self, server):
        for path in ("/docs", "/openapi.json"):
            assert (await ask(server.url, path)).status == 200


def certify(folder: Path, authority: trustme.CA, *names: str) -> dict[str, str]:
    """Files of a certificate, as options of a server."""
    issued = authority.issue_cert(*names)
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    return {"tls_cert": str(folder / "cert.pem"), "tls_key": str(folder / "key.pem")}


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


class TestTls:
    async def test_serves_https_only(self, make_server, tmp_path, authority):
        server = await make_server(tokens=TOKENS, **certify(tmp_path, authority, "127.0.0.1"))
        assert server.url.startswith("https://127.0.0.1:")
        reply = await ask(server.url, "/v1/agl/statistics", token=TOKEN_OF["read"], tls=trusting(authority))
        assert reply.status == 200
        assert b"HTTP" not in await send_raw(server.url, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with pytest.raises(OSError, match=r"certificate verify failed|CERTIFICATE_VERIFY_FAILED"):
            await ask(server.url, "/health")

    async def test_old_versions_of_tls_are_refused(self, make_server, tmp_path, authority):
        server = await make_server(**certify(tmp_path, authority, "127.0.0.1"))
        old = trusting(authority)
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(OSError, match=r"(?i)ssl|protocol"):
            await ask(server.url, "/health", tls=old)

    async def test_client_certificate_is_demanded(self, make_server, tmp_path, authority):
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        server = await make_server(**certify(tmp_path, authority, "127.0.0.1"), tls_client_ca=str(tmp_path / "ca.pem"))
        with pytest.raises((OSError, aiohttp.ClientError)):
            await ask(server.url, "/health", tls=trusting(authority))
        with_one = trusting(authority)
        authority.issue_cert("client@example.org").configure_cert(with_one)
        assert (await ask(server.url, "/health", tls=with_one)).status == 200
        with_other = trusting(authority)
        trustme.CA().issue_cert("client@example.org").configure_cert(with_other)
        with pytest.raises((OSError, aiohttp.ClientError)):
            await ask(server.url, "/health", tls=with_other)

    async def test_renewed_certificate_is_used_without_a_restart(self, make_server, tmp_path, authority, monkeypatch):
        monkeypatch.setattr(certificates, "LOOK_SECONDS", 0.02)
        server = await make_server(**certify(tmp_path, authority, "127.0.0.1"))
        next_authority = trustme.CA()
        (tmp_path / "cert.pem").write_text("half a renewal")
        assert (await ask(server.url, "/health", tls=trusting(authority))).status == 200
        certify(tmp_path, next_authority, "127.0.0.1")

        async def is_renewed():
            try:
                return (await ask(server.url, "/health", tls=trusting(next_authority))).status == 200
            except OSError:
                return False

        await until(is_renewed)

    @pytest.mark.parametrize("damage", ["cert", "key", "both", "ca", "swapped"])
    async def test_files_that_cannot_be_used_are_named(self, tmp_path, authority, damage):
        options = certify(tmp_path, authority, "127.0.0.1")
        if damage == "swapped":
            options = {"tls_cert": options["tls_key"], "tls_key": options["tls_cert"]}
        elif damage == "ca":
            options["tls_client_ca"] = str(tmp_path / "nowhere")
        elif damage == "both":
            options = {name: str(tmp_path / "nowhere") for name in options}
        else:
            (tmp_path / f"{damage}.pem").write_text("nonsense")
        server = LightningStoreServer(InMemoryLightningStore(), **options)
        with pytest.raises(InvalidRequestError, match=r"tls_client_ca|tls_cert"):
            await server.start()
        assert not server.is_running
        await server.close()

    async def test_key_with_a_passphrase_is_refused_without_asking(self, tmp_path, authority):
        options = certify(tmp_path, authority, "127.0.0.1")
        key = serialization.load_pem_private_key((tmp_path / "key.pem").read_bytes(), None)
        locked = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
        (tmp_path / "locked.pem").write_bytes(locked)
        server = LightningStoreServer(
            InMemoryLightningStore(), tls_cert=options["tls_cert"], tls_key=str(tmp_path / "locked.pem")
        )
        with pytest.raises(InvalidRequestError, match="without a passphrase"):
            await server.start()
        await server.close()


async def test_json_of_a_refusal_is_exact(server):
    reply = await ask(server.url, "/v1/agl/statistics", token="wrong")
    assert json.loads(reply.body) == {"detail": "the token is not known", "error_type": "ACCESS_DENIED"}
