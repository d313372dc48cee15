"""The store on the other side of an HTTP connection."""

import asyncio
import math
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from lightning_store.contract import DEFAULT_QUEUES, Capabilities
from lightning_store.errors import InvalidRequestError, LightningStoreError, QueueFullError
from lightning_store.forwarding import ForwardingStore
from lightning_store.http.checks import checked
from lightning_store.http.protocol import CUT_HEADER, PREFIX, TRACES_PATH
from lightning_store.http.routes import written
from lightning_store.http.sending import Answer, Patience, Request, Sender
from lightning_store.http.sessions import Sessions
from lightning_store.http.trust import Trust
from lightning_store.http.upstream import Upstream
from lightning_store.http.wire import CODECS
from lightning_store.operations import OPERATIONS, Operation
from lightning_store.records import AttemptedRollout, EnqueueRolloutRequest, Rollout
from lightning_store.requests import check_limit, check_positive, check_seconds
from lightning_store.spans import Span

Arguments = dict[str, Any]

RESCUE_SECONDS: Final = 1.0
"""For how long a cancelled call waits until it is ended at the server, and what it claimed handed back."""

QUEUE_FULL_PAUSE: Final = 0.05
"""Before a full queue is asked again within the caller's own time, when the server did not wait for so long."""

_SCHEMES: Final = ("http", "https")


class LightningStoreClient(ForwardingStore):
    """A store behind a `LightningStoreServer`, or behind the server of Agent Lightning 0.3.

    Every call is repeated until it is answered: our server knows a repeat by its key, so that it takes effect once.
    With another server, calls are repeated only if that does no harm. Errors are those of the store behind the server.

    Callable from any thread, event loop and process; connections are opened when first used, one session per loop.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        request_seconds: float = 30.0,
        connect_seconds: float = 5.0,
        wait_seconds: float = 60.0,
        retry_seconds: float = 30.0,
        retry_delays: Sequence[float] = (0.1, 0.2, 0.5, 1.0, 2.0),
        health_seconds: float | None = 2.0,
        max_connections: int = 100,
        ca_file: str | None = None,
        ca_data: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
        verify: bool = True,
    ) -> None:
        """Make a client; nothing is sent before its first call.

        Args:
            url: `http://host:port` or `https://host:port`, without the prefix of the API, or with it.
            token: Bearer token; None = none.
            request_seconds: Longest time for one try of a call, without what the call itself waits for.
            connect_seconds: Longest time to connect.
            wait_seconds: Longest wait of one request; longer waits are several requests.
            retry_seconds: For how long a call is repeated before StoreUnavailableError; 0 = it is not.
            retry_delays: Seconds before each repeat; the last one goes on. Each is varied by half.
            health_seconds: Before a repeat the server is asked whether it lives, for so long; None = it is not asked.
            max_connections: Most connections per event loop, besides those that wait at the server; further calls wait
                for one.
            ca_file: PEM file of certificates to trust besides those of the system: of authorities, or a server's own.
            ca_data: The same as text.
            cert_file: Our own certificate, where the server asks for one.
            key_file: Its key; None = in the same file.
            verify: Whether the server's certificate is checked; False gives up all protection.

        Raises:
            InvalidRequestError: An argument cannot be accepted.
        """
        self._root = _root(url)
        self._token = token
        self._patience = Patience(
            request_seconds=check_positive(request_seconds, "request_seconds"),
            connect_seconds=check_positive(connect_seconds, "connect_seconds"),
            retry_seconds=check_seconds(retry_seconds, "retry_seconds"),
            retry_delays=tuple(check_seconds(delay, "retry_delays") for delay in retry_delays) or (0.0,),
            health_seconds=None if health_seconds is None else check_positive(health_seconds, "health_seconds"),
        )
        self._wait_seconds = check_positive(wait_seconds, "wait_seconds")
        self._max_connections = check_limit(max_connections, "max_connections", 1)
        self._trust = Trust(ca_file, ca_data, cert_file, key_file, verify)
        self._connect()

    def _connect(self) -> None:
        self._sessions = Sessions(max_connections=self._max_connections, tls=self._trust.context)
        self._sender = Sender(self._root, self._token, self._patience, self._sessions)
        self._upstream = Upstream(self._ask)
        self._background: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._root!r})"

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for connected in ("_sessions", "_sender", "_upstream", "_background"):
            state.pop(connected)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._connect()

    @property
    def url(self) -> str:
        """The server, without the prefix of the API."""
        return self._root

    @property
    def capabilities(self) -> Capabilities:
        """Everything: callable from anywhere, copies see the same data, and the server takes traces."""
        return Capabilities(thread_safe=True, async_safe=True, zero_copy=True, otlp_traces=True)

    def otlp_traces_endpoint(self) -> str:
        """Where the server takes OTLP traces."""
        return self._root + TRACES_PATH

    async def close(self) -> None:
        """Close the connections of the running event loop. The client can be used again, and opens new ones then."""
        loop = asyncio.get_running_loop()
        tasks = [task for task in self._background if task.get_loop() is loop]
        if tasks:
            await asyncio.wait(tasks)
        await self._sessions.close()

    async def invoke(self, operation: Operation, arguments: Arguments) -> Any:
        """Carry out one operation at the server."""
        composed = _COMPOSED.get(operation.name)
        if composed is not None:
            return await composed(self, arguments)
        arguments = checked(operation.name, arguments)
        if not (self._sender.is_ours or await self._sender.recognise()):
            return await self._upstream.carry_out(operation, arguments)
        if operation.waits:
            return await self._wait(operation, arguments)
        return await self._ask(operation, arguments)

    async def _ask(self, operation: Operation, arguments: Arguments) -> Any:
        return (await self._call(operation, arguments))[0]

    async def _call(self, operation: Operation, arguments: Arguments, wait_seconds: float = 0.0) -> tuple[Any, Answer]:
        codec = CODECS[operation.name]
        assert operation.method is not None and operation.path is not None  # noqa: S101, PT018 - it has a route
        path = written(operation.path, arguments)
        body = None
        if operation.method == "GET":
            query = {name: value for name, value in arguments.items() if name in codec.parameters and value is not None}
            path = f"{path}?{urlencode(query, errors='surrogatepass')}" if query else path
        else:
            body = codec.write_body(arguments)
        key = secrets.token_hex(16) if operation.mutates else None
        request = Request(operation.method, path, body, key, operation.idempotent, wait_seconds)
        try:
            answer = await self._sender.send(request)
        except asyncio.CancelledError:
            if operation.mutates and operation.waits and self._sender.is_ours:
                # For a moment only, because the event loop may end with the caller.
                await asyncio.wait({self._end(request)}, timeout=RESCUE_SECONDS)
            raise
        return codec.read_answer(answer.body, arguments), answer

    def _end(self, call: Request) -> "asyncio.Task[None]":
        """Begin to end a call that nobody wants any more; it may have been carried out, or be on its way."""

        async def tell() -> None:
            with suppress(LightningStoreError):  # then its lease has to end it
                await self._sender.send(Request("DELETE", call.path, key=call.key))

        task = asyncio.ensure_future(tell())
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _wait(self, operation: Operation, arguments: Arguments) -> Any:
        """Ask again until there is something, or the caller's own time is over."""
        loop = asyncio.get_running_loop()
        timeout = arguments.get("timeout", operation.signature.parameters["timeout"].default)
        until = loop.time() + (math.inf if timeout is None else max(0.0, timeout))
        while True:
            begun = loop.time()
            seconds = min(max(0.0, until - begun), self._wait_seconds)
            try:
                result, answer = await self._call(operation, {**arguments, "timeout": seconds}, seconds)
            except QueueFullError:
                if loop.time() >= until:
                    raise
                await asyncio.sleep(QUEUE_FULL_PAUSE)
                continue
            was_cut = CUT_HEADER in answer.headers or loop.time() - begun >= seconds
            if not was_cut or loop.time() >= until or _has_ended(operation, result):
                return result


def _has_ended(operation: Operation, result: Any) -> bool:
    """Whether a wait that was cut short has brought what it waited for."""
    if operation.name == "wait_for_rollouts":
        return False  # only the server knows which of them exist
    return bool(result.items if operation.name == "completions" else result)


# -- operations that have no route of their own, or a better one -------------------------------------------------------


async def _enqueue_rollout(client: LightningStoreClient, arguments: Arguments) -> Rollout:
    wait = {"timeout": arguments.pop("timeout")} if "timeout" in arguments else {}
    return (await client.enqueue_many_rollouts([EnqueueRolloutRequest(**arguments)], **wait))[0]


async def _dequeue_rollout(client: LightningStoreClient, arguments: Arguments) -> AttemptedRollout | None:
    arguments.setdefault("queues", DEFAULT_QUEUES)
    claimed = await client.dequeue_many_rollouts(limit=1, **arguments)
    return claimed[0] if claimed else None


async def _add_span(client: LightningStoreClient, arguments: Arguments) -> Span | None:
    stored = await client.add_many_spans([arguments["span"]])
    return stored[0] if stored else None


async def _add_otel_span(client: LightningStoreClient, arguments: Arguments) -> Span | None:
    number = arguments.get("sequence_id")
    span = Span.from_opentelemetry(
        arguments["readable_span"], arguments["rollout_id"], arguments["attempt_id"], number or 0
    )
    stored = await client.add_many_spans([span], renumber=number is None)
    return stored[0] if stored else None


async def _next_number(client: LightningStoreClient, arguments: Arguments) -> int:
    return (await client.get_many_span_sequence_ids([(arguments["rollout_id"], arguments["attempt_id"])]))[0]


_COMPOSED: Final[dict[str, Callable[[LightningStoreClient, Arguments], Awaitable[Any]]]] = {
    "enqueue_rollout": _enqueue_rollout,
    "dequeue_rollout": _dequeue_rollout,
    "add_span": _add_span,
    "add_otel_span": _add_otel_span,
    "get_next_span_sequence_id": _next_number,
}
assert set(_COMPOSED) <= set(OPERATIONS)  # noqa: S101 - names of the table


def _root(url: object) -> str:
    """The URL of a server without the prefix of the API.

    What is wrong with it is said without quoting it: it may hold a secret.
    """
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in _SCHEMES or not parts.hostname or parts.query or parts.fragment:
        raise InvalidRequestError("url: expected http://host:port or https://host:port")
    if parts.username is not None:
        raise InvalidRequestError("url: expected no user or password; a token is an argument of its own")
    path = parts.path.rstrip("/").removesuffix(PREFIX)
    return f"{parts.scheme}://{parts.netloc}{path}"
