"""Bodies of requests: read within limits of size, time and depth, and unpacked, before the application sees them."""

import asyncio
import time
from array import array
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lightning_store.http.access import Places
from lightning_store.http.guards import PUBLIC_PATHS
from lightning_store.http.options import ServerOptions
from lightning_store.http.protocol import PREFIX
from lightning_store.http.refusals import bad_request, overloaded, too_slow
from lightning_store.http.unpacking import ENCODINGS, CorruptBodyError, Unpacker
from lightning_store.loops import timeout

_STEPS: Final = bytes.maketrans(b"[]{}", b"\x01\xff\x01\xff")
"""One level up or down, as signed bytes."""

_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_CHUNK: Final = 65_536


class Bodies:
    """Reads the whole body of a request, unpacks it, and passes it on in one piece.

    Below the prefix of the API the nesting of JSON is checked.
    """

    def __init__(self, app: ASGIApp, places: Places, options: ServerOptions) -> None:
        self._app = app
        self._places = places
        self._options = options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["path"] in PUBLIC_PATHS:
            # Nobody reads a body there; held for a stranger, it would take the room of those who have a token.
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        self._check_length(headers)
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in {"identity", "", *ENCODINGS}:
            raise bad_request(f"content-encoding: expected {', '.join(ENCODINGS)} or none, got {encoding[:40]!r}", 415)
        unpacker = Unpacker(encoding) if encoding in ENCODINGS else None
        with self._held() as held:
            body = await self._read(receive, held, unpacker)
            if scope["path"].startswith(PREFIX):
                check_json(body, self._options.max_json_depth)
            if unpacker is not None:
                scope["headers"] = _without_encoding(scope, len(body))
            await self._app(scope, _once(body, receive), send)

    def _check_length(self, headers: Headers) -> None:
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._options.max_body_bytes:
            raise self._too_large()

    def _too_large(self) -> Exception:
        return bad_request(f"expected a body of at most {self._options.max_body_bytes} bytes", 413)

    @contextmanager
    def _held(self) -> "Generator[_Held, None, None]":
        held = _Held(self._places, self._options.max_buffered_bytes)
        try:
            yield held
        finally:
            self._places.body_bytes -= held.bytes

    async def _read(self, receive: Receive, held: "_Held", unpacker: Unpacker | None) -> bytes:
        body = bytearray()
        received, started = 0, time.monotonic()
        more = True
        while more:
            message = await self._next(receive, started, received)
            packed: bytes = message.get("body", b"")
            more = message.get("more_body", False)
            received += len(packed)
            if received > self._options.max_body_bytes:
                raise self._too_large()
            for piece in _unpacked(packed, unpacker):
                if len(body) + len(piece) > self._options.max_body_bytes:
                    raise self._too_large()
                held.add(len(piece))
                body += piece
        if unpacker is not None:
            _finish(unpacker)
        return bytes(body)

    async def _next(self, receive: Receive, started: float, received: int) -> Message:
        """The next piece, if it comes in time; the more has come, the more time there is."""
        allowed = self._options.body_seconds + received / self._options.body_bytes_per_second
        try:
            async with timeout(max(started + allowed - time.monotonic(), 0)):
                message = await receive()
        except asyncio.TimeoutError:
            raise too_slow(f"the body did not arrive in time, {received} bytes did") from None
        if message["type"] == "http.disconnect":
            raise bad_request("the client went away within the body")
        return message


class _Held:
    """Bytes of one body in memory, counted with those of all."""

    def __init__(self, places: Places, most: int) -> None:
        self._places = places
        self._most = most
        self.bytes = 0

    def add(self, count: int) -> None:
        self.bytes += count
        self._places.body_bytes += count
        if self._places.body_bytes > self._most:
            raise overloaded("bodies under way take as much memory as they may: come again later")


def _unpacked(packed: bytes, unpacker: Unpacker | None) -> Iterator[bytes]:
    """What the next bytes unpack to, piece by piece, so that too much is noticed before all of it is there."""
    if unpacker is None:
        yield packed
        return
    try:
        yield from unpacker.feed(packed)
    except CorruptBodyError as error:
        raise bad_request(str(error)) from None


def _finish(unpacker: Unpacker) -> None:
    try:
        unpacker.finish()
    except CorruptBodyError as error:
        raise bad_request(str(error)) from None


def check_json(body: bytes, most: int) -> None:
    """Refuse a body that nests deeper than `most`, or is not UTF-8 in a way that hides it.

    Levels are counted without a parser and its recursion, in C: strings are dropped, then all but brackets, and what is
    left is added up. What is no JSON at all is left to the parser to report.

    Raises:
        Refused: See above.
    """
    if b"\0" in body:
        raise bad_request("expected JSON in UTF-8, without NUL bytes")
    if body.count(b"[") + body.count(b"{") <= most:
        return
    outside = b"".join(body.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    steps = array("b", outside.translate(_STEPS, _NOT_BRACKETS))
    level = 0
    for start in range(0, len(steps), _CHUNK):  # so that a deep one is found before all of it was looked at
        levels = list(accumulate(steps[start : start + _CHUNK], initial=level))
        if max(levels) > most:
            raise bad_request(f"expected JSON of at most {most} levels")
        level = levels[-1]


def _without_encoding(scope: Scope, length: int) -> list[tuple[bytes, bytes]]:
    gone = {b"content-encoding", b"content-length", b"transfer-encoding"}
    kept = [(name, value) for name, value in scope["headers"] if name not in gone]
    return [*kept, (b"content-length", str(length).encode())]


def _once(body: bytes, receive: Receive) -> Receive:
    """A `receive` that brings the body, and then what the server says of the connection."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return messages.pop() if messages else await receive()

    return next_message
