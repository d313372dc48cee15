"""One server on one event loop: the application with all that guards it, and its life from start to drained."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import uvicorn
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from lightning_store.contract import LightningStore
from lightning_store.http.access import Places, ServedStore
from lightning_store.http.app import build_app
from lightning_store.http.bodies import Bodies
from lightning_store.http.certificates import certificate_state, follow_certificate
from lightning_store.http.connections import GuardedConnection, connections_with
from lightning_store.http.guards import Authentication, Concurrency, HeaderLimit, Senders
from lightning_store.http.journal import HEADER, Journal
from lightning_store.http.listening import BACKLOG, tls_context
from lightning_store.http.options import ServerOptions
from lightning_store.http.otlp_routes import otlp_routes
from lightning_store.http.probes import Probes
from lightning_store.http.refusals import Refusals
from lightning_store.http.scraping import Scraping
from lightning_store.http.tokens import Tokens
from lightning_store.metrics.server import ServerMetrics
from lightning_store.threaded import LightningStoreThreaded

logger = logging.getLogger("lightning_store")

ABANDON_SECONDS: Final = 1.0
"""How long requests that are cut off at the end of the drain, or because nobody needs the server, have to end."""


@dataclass(frozen=True)
class Plan:
    """What one process is to serve.

    Attributes:
        store: The store; callable on the loop that serves.
        options: Limits and the like; host and port are settled by the socket.
        tokens: Who may call; None = this machine's programs, with all rights.
    """

    store: LightningStore
    options: ServerOptions
    tokens: Tokens | None


@dataclass(frozen=True)
class Assembled:
    """An application, and how its waits are ended."""

    app: ASGIApp
    places: Places
    stop_waits: Callable[[], None]


def assemble(plan: Plan) -> Assembled:
    """The application for a plan, with its guards around it."""
    options, places = plan.options, Places()
    metrics = ServerMetrics(plan.store)
    served = ServedStore(metrics.store, options)
    api = build_app(
        served,
        admit=served.check,
        debug=options.debug,
        wait_limit_seconds=options.wait_limit_seconds,
        answer_seconds=options.answer_seconds,
    )
    api.router.routes.extend(otlp_routes(served, counted=metrics.counted_traces))
    app: ASGIApp = Bodies(api, places, options)
    app = Concurrency(app, places, options)
    app = Senders(app, served.check)
    app = Scraping(app, metrics)
    app = Authentication(app, plan.tokens, options)
    app = HeaderLimit(app, options)
    probes = Probes(Refusals(app), plan.store, options.ready_seconds)
    app = probes
    if options.cors_origins:
        # Around the guards, or web pages could not read why they were refused.
        app = CORSMiddleware(
            app,
            allow_origins=list(options.cors_origins),
            allow_methods=["*"],
            allow_headers=["*"],
            allow_credentials=True,
            expose_headers=["*", HEADER],
        )

    def stop_waits() -> None:
        probes.stop()
        api.state.shutdown.set()

    return Assembled(Journal(app, writes=options.access_log), places, stop_waits)


class Stoppable(Protocol):
    """What can be told to stop, from any thread."""

    def stop(self) -> None:
        """Drain, and end."""


class Service(uvicorn.Server):
    """uvicorn's server with our connections, on a socket that listens already; signals are left to others."""

    def __init__(self, plan: Plan, listener: socket.socket, started: Callable[[], None]) -> None:
        """Set up.

        Args:
            plan: What is served.
            listener: Where; it is closed at the end.
            started: Called on the loop once requests are answered.

        Raises:
            InvalidRequestError: The certificate cannot be read.
        """
        self._plan = plan
        self._listener = listener
        self._has_started = started
        self._certificate = certificate_state(plan.options)
        self._tls = tls_context(plan.options)
        self._assembled = assemble(plan)
        self._connections = connections_with(plan.options)
        config = uvicorn.Config(
            self._assembled.app,
            http=self._connections,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            server_header=False,
            timeout_keep_alive=plan.options.keep_alive_seconds,  # type: ignore[arg-type]  # it only goes into call_later
            timeout_graceful_shutdown=plan.options.drain_seconds,  # type: ignore[arg-type]  # and this into wait_for
        )
        super().__init__(config)

    def stop(self) -> None:
        """Stop accepting, end waits, let requests in flight end, for as long as the options say. From any thread."""
        self.should_exit = True

    def stop_at_once(self) -> None:
        """The same with little time for requests in flight."""
        self.config.timeout_graceful_shutdown = ABANDON_SECONDS  # type: ignore[assignment]  # it only goes into wait_for
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Take no signals: who runs the process does."""
        yield

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Accept connections."""
        loop = asyncio.get_running_loop()

        def connected() -> GuardedConnection:
            return self._connections(config=self.config, server_state=self.server_state, app_state={}, _loop=loop)

        tls: dict[str, Any] = {}
        if self._tls is not None:
            tls = {"ssl": self._tls, "ssl_handshake_timeout": self._plan.options.header_seconds}
        self.servers = [await loop.create_server(connected, sock=self._listener, backlog=BACKLOG, **tls)]
        self.started = True
        self._has_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, end waits, and drain; whoever is left then is told that the server stops."""
        for server in self.servers:
            server.close()
        self._assembled.stop_waits()
        await super().shutdown(sockets)
        if self.server_state.tasks:
            await asyncio.wait(set(self.server_state.tasks), timeout=ABANDON_SECONDS)
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    async def run_here(self) -> None:
        """Serve until told to stop; then the store's connections of this loop are closed."""
        following = asyncio.ensure_future(follow_certificate(self._tls, self._plan.options, self._certificate))
        try:
            await self.serve()
        finally:
            following.cancel()
            await asyncio.wait({following})
            await _leave(self._plan.store)


async def _leave(store: LightningStore) -> None:
    """Close what a store has on this loop. Stores on a loop of their own have nothing here, and others use them."""
    close = getattr(store, "close", None)
    if close is not None and not isinstance(store, LightningStoreThreaded):
        await close()


def new_loop() -> asyncio.AbstractEventLoop:
    """An event loop to serve on: uvloop's where there is one."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def run_on_loop(service: Service) -> None:
    """Serve on a new event loop of this thread until told to stop."""
    loop = new_loop()
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(service.run_here())
        pending = asyncio.all_tasks(loop)
        for task in pending:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
