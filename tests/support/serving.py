"""Talks to a server as a stranger would: whole requests, or bytes of one."""

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from lightning_store.operations import Role

API: Final = "/v1/agl"
TOKENS: Final[list[tuple[Role, str]]] = [
    ("read", "read-token-0123456789"),
    ("runner", "runner-token-0123456789"),
    ("admin", "admin-token-0123456789"),
]
TOKEN_OF: Final[Mapping[str, str]] = dict(TOKENS)


@dataclass(frozen=True)
class Reply:
    """The answer to a request."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Its body, which is JSON."""
        return json.loads(self.body)


async def ask(
    url: str,
    path: str,
    *,
    method: str | None = None,
    json: Any = None,
    data: Any = None,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Reply:
    """Send one request, on a connection of its own: POST with a body, else GET."""
    given = dict(headers or {})
    if token is not None:
        given["Authorization"] = f"Bearer {token}"
    has_body = json is not None or data is not None
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            method or ("POST" if has_body else "GET"), url + path, json=json, data=data, headers=given, ssl=tls or True
        ) as answer,
    ):
        return Reply(answer.status, answer.headers, await answer.read())


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A bare connection to a server."""
    parts = urlsplit(url)
    return await asyncio.open_connection(parts.hostname, parts.port)


async def read_to_end(reader: asyncio.StreamReader, seconds: float = 30.0) -> bytes:
    """What comes until the server closes; a reset is an end too."""

    async def read() -> bytes:
        received = bytearray()
        try:
            while piece := await reader.read(65_536):
                received += piece
        except ConnectionError:
            pass
        return bytes(received)

    return await asyncio.wait_for(read(), seconds)


async def send_raw(url: str, data: bytes) -> bytes:
    """Send bytes, and read to the end of the connection."""
    reader, writer = await connect(url)
    try:
        writer.write(data)
        return await read_to_end(reader)
    finally:
        writer.close()
