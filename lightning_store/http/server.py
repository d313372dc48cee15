"""The store with an HTTP server before it: direct calls where it lives, and HTTP everywhere else."""

import asyncio
import os
import secrets
import socket
import weakref
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Literal, TypeAlias

from lightning_store.connect import open_store
from lightning_store.contract import Capabilities, LightningStore
from lightning_store.errors import InvalidRequestError, LightningStoreError
from lightning_store.forwarding import ForwardingStore
from lightning_store.http.client import LightningStoreClient
from lightning_store.http.listening import check_exposure, listen
from lightning_store.http.options import ServerOptions
from lightning_store.http.processes import ServerProcesses
from lightning_store.http.protocol import TRACES_PATH
from lightning_store.http.serving import Plan
from lightning_store.http.thread import ServerThread
from lightning_store.http.tokens import Tokens
from lightning_store.http.trust import certificates_in
from lightning_store.operations import Operation, Role
from lightning_store.threaded import LightningStoreThreaded

Launch: TypeAlias = Literal["thread", "process"]

_SERVERS: Final[weakref.WeakSet["LightningStoreServer"]] = weakref.WeakSet()

_LEFT_TO_PARENT: Final[list[Any]] = []
"""Servers of the parent of this forked process; collecting them would disturb it."""


class LightningStoreServer(ForwardingStore):
    """A store, and a server that lets other processes and hosts use it.

    In the process that made it, its operations call the store behind it, without HTTP and without a lock. A copy,
    forked or pickled, is a client of the server: it has the same operations, needs no URL to be told, and never starts
    or stops anything.

        async with LightningStoreServer(InMemoryLightningStore()) as server:
            print(server.url)

    Start and stop may be repeated, from any event loop; the port stays the same.
    """

    def __init__(
        self,
        store: LightningStore | str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tokens: Tokens | Sequence[tuple[Role, str]] | None = None,
        launch: Launch = "thread",
        workers: int = 1,
        namespace: str = "default",
        **options: Any,
    ) -> None:
        """Set up; nothing is listened on before `start`.

        Args:
            store: The store, which nobody else may use from now on unless it is safe to share; or its URL.
            host: Address to listen on; other than loopback only with tokens.
            port: Port to listen on; 0 = a free one.
            tokens: Who may call, as pairs of role and token or from a file; None = any program of this machine.
            launch: `thread`: on a thread with an event loop of its own; `process`: in processes of its own, which takes
                a store that processes can share (`zero_copy`).
            workers: Number of processes.
            namespace: Which store at a URL.
            options: Further fields of `ServerOptions`: limits, TLS, CORS.

        Raises:
            InvalidRequestError: An argument cannot be accepted.
            TypeError: There is no such option.
        """
        self._options = ServerOptions(host=host, port=port, **options)
        self._tokens = tokens if tokens is None or isinstance(tokens, Tokens) else Tokens(tokens)
        check_exposure(self._options, has_tokens=self._tokens is not None)
        given = open_store(store, namespace) if isinstance(store, str) else store
        _check_launch(launch, workers, given)
        self._launch, self._workers = launch, workers
        is_shareable = given.capabilities.get("thread_safe", False)
        self._store: LightningStore | None = given if is_shareable else LightningStoreThreaded(given)
        self._capabilities: Capabilities = given.capabilities.copy()
        # Copies are clients of ours whatever tokens come and go; and what they carry says nothing about those.
        self._copy_token = None if self._tokens is None else secrets.token_hex(32)
        self._certificates: str | None = None  # of the server, as a copy that was pickled has brought them along
        self._port: int | None = port or None
        self._running: ServerThread | ServerProcesses | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None
        self._client: LightningStoreClient | None = None
        _SERVERS.add(self)

    # -- the server ---------------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port that is listened on.

        Raises:
            LightningStoreError: It is not known before the first start.
        """
        if self._port is None:
            raise LightningStoreError("the server has no port yet: it was not started")
        return self._port

    @property
    def url(self) -> str:
        """Where others reach the server.

        Raises:
            LightningStoreError: It is not known before the first start.
        """
        return self._options.url_at(self.port)

    @property
    def options(self) -> ServerOptions:
        """Limits and the like."""
        return self._options

    @property
    def is_running(self) -> bool:
        """Whether this object, in this process, has a server running."""
        return self._running is not None

    async def start(self) -> None:
        """Start the server; requests are answered when this returns. Does nothing while it runs.

        Raises:
            CannotListenError: The address cannot be listened on, for instance because the port is in use.
            InvalidRequestError: The certificate cannot be read.
            LightningStoreError: This is a copy, or the processes did not start.
        """
        if self._store is None:
            raise LightningStoreError("this is a copy of a server, which only the process that made it can start")
        if self._running is not None:
            return
        listener = listen(replace(self._options, port=self._port or 0))
        try:
            running = self._launched(listener, self._store)
        except BaseException:
            listener.close()
            raise
        self._port = listener.getsockname()[1]
        self._running = running
        self._finalizer = weakref.finalize(self, running.abandon)
        try:
            await asyncio.wrap_future(running.started)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop accepting, end waits, let requests in flight end, and wait for all of it; see `drain_seconds`.

        Does nothing when it does not run, and in copies.
        """
        running, self._running = self._running, None
        if running is None:
            return
        if self._finalizer is not None:
            self._finalizer.detach()
        await asyncio.get_running_loop().run_in_executor(None, running.stop)

    async def close(self) -> None:
        """Stop, and close the connections that this event loop has to the store, or a copy to the server."""
        await self.stop()
        if self._client is not None:
            await self._client.close()
        close = getattr(self._store, "close", None)
        if close is not None:
            await close()

    async def __aenter__(self) -> "LightningStoreServer":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    def _launched(self, listener: socket.socket, store: LightningStore) -> "ServerThread | ServerProcesses":
        tokens = self._tokens
        if tokens is not None and self._copy_token is not None:
            tokens = tokens.with_one_more("admin", self._copy_token)
        plan = Plan(store, self._options, tokens)
        if self._launch == "process":
            return ServerProcesses(plan, listener, self._workers)
        return ServerThread(plan, listener)

    # -- the store ----------------------------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """Those of the store behind it; callable from anywhere, copies are clients, and it takes traces."""
        capabilities = self._capabilities.copy()
        capabilities["thread_safe"] = capabilities["async_safe"] = True
        capabilities["zero_copy"] = capabilities["otlp_traces"] = True
        return capabilities

    def otlp_traces_endpoint(self) -> str:
        """Where the server takes OTLP traces.

        Raises:
            LightningStoreError: It is not known before the first start.
        """
        return self.url + TRACES_PATH

    async def invoke(self, operation: Operation, arguments: dict[str, Any]) -> Any:
        """Carry out one operation: on the store itself where it lives, over HTTP elsewhere."""
        store = self._store if self._store is not None else self._connected()
        return await getattr(store, operation.name)(**arguments)

    def _connected(self) -> LightningStoreClient:
        if self._client is None:
            if self._options.tls_client_ca is not None:
                raise LightningStoreError(
                    "the server demands certificates of its clients, and this copy of it has none: use "
                    f"LightningStoreClient({self.url!r}, token=…, cert_file=…, key_file=…)"
                )
            trusted = self._certificates or _own_certificates(self._options)
            self._client = LightningStoreClient(self.url, token=self._copy_token, ca_data=trusted)
        return self._client

    # -- copies -------------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        kind = "copy of " if self._store is None else ""
        return f"{type(self).__name__}({kind}{'not started' if self._port is None else self.url})"

    def __getstate__(self) -> dict[str, Any]:
        return {
            "options": replace(self._options, public_url=None if self._port is None else self.url),
            "port": self._port,
            "capabilities": self._capabilities,
            "copy_token": self._copy_token,
            "certificates": self._certificates or _own_certificates(self._options),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._options, self._port = state["options"], state["port"]
        self._capabilities, self._copy_token = state["capabilities"], state["copy_token"]
        self._certificates = state["certificates"]
        self._become_copy()

    def after_fork(self) -> None:
        """In a forked child: be a client, and leave the parent's server and store alone."""
        if self._finalizer is not None:
            self._finalizer.detach()
        if self._running is not None:
            self._running.leave_to_parent()
        _LEFT_TO_PARENT.extend((self._running, self._store, self._client))
        self._become_copy()

    def _become_copy(self) -> None:
        self._store, self._tokens, self._running, self._finalizer, self._client = None, None, None, None, None


def _own_certificates(options: ServerOptions) -> str | None:
    """The certificates that the server shows, which its copies trust; None without TLS."""
    return None if options.tls_cert is None else certificates_in(options.tls_cert)


def _check_launch(launch: str, workers: int, store: LightningStore) -> None:
    """Refuse what cannot be launched.

    Raises:
        InvalidRequestError: See above.
    """
    if launch not in {"thread", "process"}:
        raise InvalidRequestError(f"launch: expected thread or process, got {launch!r}")
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise InvalidRequestError(f"workers: expected an integer of at least 1, got {workers!r}")
    if launch == "thread" and workers > 1:
        raise InvalidRequestError(f"workers: {workers} of them take launch='process'")
    if launch == "process":
        check_shareable(store, "launch")


def check_shareable(store: LightningStore, name: str) -> None:
    """Refuse to have other processes serve a store that is in this one only.

    Raises:
        InvalidRequestError: See above.
    """
    if not store.capabilities.get("zero_copy", False):
        raise InvalidRequestError(
            f"{name}: {type(store).__name__} is in the memory of one process, no other can serve it: use one "
            "process, or a store that processes can share, such as Redis"
        )


def _after_fork() -> None:
    for server in list(_SERVERS):
        server.after_fork()


os.register_at_fork(after_in_child=_after_fork)
