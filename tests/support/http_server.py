"""One real HTTP server for all tests of a process: each test's application lies under a path of its own."""

import asyncio
import json
import secrets
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import aiohttp
import uvicorn
from yarl import URL

from lightning_store.contract import LightningStore
from lightning_store.http.app import build_app
from lightning_store.http.client import LightningStoreClient
from lightning_store.http.protocol import PREFIX
from tests.support.until import wait_until

T = TypeVar("T")
App = Callable[[Any, Any, Any], Awaitable[None]]


class SharedServer:
    """uvicorn on a thread of its own and a free loopback port, with any number of applications.

    Attributes:
        loop: Where they run, once it listens.
    """

    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        self._apps: dict[str, App] = {}
        config = uvicorn.Config(
            self._dispatch, host="127.0.0.1", port=0, log_level="error", access_log=False, lifespan="off",
            timeout_graceful_shutdown=1, interface="asgi3",
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="shared-http-server", daemon=True)

    def start(self) -> None:
        """Listen.

        Raises:
            AssertionError: It could not.
        """
        self._thread.start()
        wait_until(lambda: self._server.started or not self._thread.is_alive())
        assert self._server.started, "the shared server has ended before it listened"

    def stop(self) -> None:
        """Listen no more."""
        self._server.should_exit = True
        self._thread.join(30)

    def mount(self, app: App) -> str:
        """Serve an application; its URL."""
        assert self._thread.is_alive(), "a test has ended the shared server"
        name = secrets.token_hex(4)
        self._apps[name] = app
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}/{name}"

    @property
    def connections(self) -> frozenset[Any]:
        """The connections that are open."""
        return frozenset(self._server.server_state.connections.copy())

    def unmount(self, url: str) -> None:
        """Serve it no more."""
        del self._apps[url.rpartition("/")[2]]

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Carry something out where the applications run."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    def _run(self) -> None:
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(self._server.serve())
        finally:
            self.loop.close()

    async def _dispatch(self, scope: Any, receive: Any, send: Any) -> None:
        name = scope["path"].split("/")[1]
        await self._apps[name]({**scope, "root_path": f"/{name}"}, receive, send)


_SERVERS: Final[list[SharedServer]] = []


def shared_server() -> SharedServer:
    """The server of this process, started when first asked for; it ends with the process."""
    if not _SERVERS:
        server = SharedServer()
        server.start()
        _SERVERS.append(server)  # not before: one whose start failed would fail all tests to come
    return _SERVERS[0]


class ServedStore(LightningStoreClient):
    """A client of a store that is served by this process.

    Attributes:
        store: The store behind the server.
    """

    def __init__(self, store: LightningStore, **options: Any) -> None:
        self.store = store
        self._served_by = shared_server()
        self._app = build_app(store, **{"orphan_seconds": 0.3, **options})
        super().__init__(self._served_by.mount(self._app))

    def end_waits(self) -> None:
        """What a server does when it stops."""
        self._served_by.loop.call_soon_threadsafe(self._app.state.shutdown.set)

    def __getstate__(self) -> dict[str, Any]:
        here = {"store", "_served_by", "_app"}
        return {name: value for name, value in super().__getstate__().items() if name not in here}

    async def close(self) -> None:
        """Close the client, and the store where it is used."""
        await super().close()
        close: Any = getattr(getattr(self, "store", None), "close", None)
        if close is not None:
            await self._served_by.run(close())


class Raw:
    """Requests as they are, to one application: what a client other than ours sends and gets.

    Attributes:
        url: Of the server, without the prefix of the API.
    """

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def __call__(
        self, method: str, path: str, body: Any = None, *, data: bytes | None = None, headers: Any = None
    ) -> tuple[int, Any]:
        """Status and body of an answer; paths are below the prefix, and sent as they are."""
        answer = await self.whole(method, path, body, data=data, headers=headers)
        return answer.status, answer.json

    async def whole(
        self, method: str, path: str, body: Any = None, *, data: bytes | None = None, headers: Any = None
    ) -> "RawAnswer":
        """The same with its headers and the body as it came."""
        target = URL(self.url + PREFIX + path, encoded=True)
        async with self._session.request(method, target, json=body, data=data, headers=headers) as response:
            return RawAnswer(response.status, response.headers, await response.read())


@dataclass(frozen=True)
class RawAnswer:
    """One answer."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read strictly; None when there is none."""

        def refuse(text: str) -> None:
            raise AssertionError(f"{text} is no JSON")

        return json.loads(self.body, parse_constant=refuse) if self.body else None
