"""Whether the server lives, and whether it can do its work: `/health` and `/ready`, for which nobody needs a token."""

import asyncio
import json
import logging
import time
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from lightning_store.contract import LightningStore
from lightning_store.http.refusals import RETRY_AFTER

logger = logging.getLogger("lightning_store")

HEALTH: Final = "/health"
READY: Final = "/ready"
KEEP_SECONDS: Final = 0.5
"""An answer about the store holds so long: whoever asks for it in a loop asks the store no more often."""

_NOBODY: Final = "ready"
_METHODS: Final = ("GET", "HEAD")


class Probes:
    """Answers `/health` with 200 always, and `/ready` with 200 or 503."""

    def __init__(self, app: ASGIApp, store: LightningStore, seconds: float) -> None:
        """Set up.

        Args:
            app: What answers all other paths.
            store: The store that has to answer.
            seconds: Within so much time.
        """
        self._app = app
        self._store = store
        self._seconds = seconds
        self._is_stopping = False
        self._latest: tuple[float, bool] = (float("-inf"), False)
        self._asking: asyncio.Task[bool] | None = None

    def stop(self) -> None:
        """Be ready no more, so that nothing new is sent here."""
        self._is_stopping = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["path"] not in {HEALTH, READY} or scope["method"] not in _METHODS:
            await self._app(scope, receive, send)
        elif scope["path"] == HEALTH:
            await _answer(scope, send, 200, {"status": "ok"})
        elif await self._is_ready():
            await _answer(scope, send, 200, {"status": "ready"})
        else:
            await _answer(scope, send, 503, {"status": "not ready"}, RETRY_AFTER)

    async def _is_ready(self) -> bool:
        if self._is_stopping:
            return False
        asked_at, is_ready = self._latest
        if time.monotonic() - asked_at < KEEP_SECONDS:
            return is_ready
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        return await asyncio.shield(self._asking)  # one who goes away does not end it for the others

    async def _ask(self) -> bool:
        """Whether the store answers a read that costs nothing; why it does not is for the log only."""
        try:
            await asyncio.wait_for(self._store.get_worker_by_id(_NOBODY), self._seconds)
        except Exception as error:  # noqa: BLE001 - whatever it is, the answer is no
            logger.warning("not ready: %s", str(error) or f"no answer of the store within {self._seconds:g} s")
            is_ready = False
        else:
            is_ready = True
        self._latest = (time.monotonic(), is_ready)
        return is_ready


async def _answer(scope: Scope, send: Send, status: int, facts: dict[str, Any], *headers: tuple[bytes, bytes]) -> None:
    body = json.dumps(facts).encode()
    start = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
