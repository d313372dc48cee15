"""Bodies of OTLP requests, read as they arrive and never beyond a limit, before and after decompression."""

import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Final

_SLICE_BYTES: Final = 1 << 20
_WINDOW_BITS: Final = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
ENCODINGS: Final = tuple(_WINDOW_BITS)
"""Values of `Content-Encoding` that are read."""


class BodyTooLargeError(Exception):
    """The body, or what it unpacks to, is larger than the limit."""


class UnknownEncodingError(Exception):
    """The body is packed in a way that is not read here."""


class CorruptBodyError(Exception):
    """The body is not packed as its header says."""


async def read_body(chunks: AsyncIterator[bytes], headers: Mapping[str, str], limit: int) -> bytes:
    """The unpacked body.

    Memory stays within about twice the limit whatever the body unpacks to: it is unpacked in slices, and reading ends
    with the first one that is too much.

    Args:
        chunks: The body as it arrives.
        headers: Of the request; names in lower case, or a mapping that does not care.
        limit: Most bytes, packed and unpacked.

    Raises:
        BodyTooLargeError: There is more, or the headers say that there will be.
        UnknownEncodingError: `Content-Encoding` names something else than gzip and deflate.
        CorruptBodyError: It cannot be unpacked, or ends too early.
    """
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise BodyTooLargeError(_too_large(limit))
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding in {"", "identity"}:
        return await _read_plain(chunks, limit)
    if encoding not in _WINDOW_BITS:
        raise UnknownEncodingError(f"Content-Encoding: expected gzip, deflate or none, got {encoding!r:.100}")
    return await _read_packed(chunks, limit, encoding)


async def _read_plain(chunks: AsyncIterator[bytes], limit: int) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > limit:
            raise BodyTooLargeError(_too_large(limit))
    return bytes(body)


async def _read_packed(chunks: AsyncIterator[bytes], limit: int, encoding: str) -> bytes:
    body = bytearray()
    unpacker = Unpacker(encoding)
    async for chunk in chunks:
        for piece in unpacker.feed(chunk):
            body += piece
            if len(body) > limit:
                raise BodyTooLargeError(_too_large(limit) + " when unpacked")
    unpacker.finish()
    return bytes(body)


def _too_large(limit: int) -> str:
    return f"the body has more than {limit} bytes"


class Unpacker:
    """Unpacks what it is fed, in slices; gzip may consist of several members one after the other."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._inflater = zlib.decompressobj(_WINDOW_BITS[encoding])
        self._has_begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What becomes of the next bytes.

        Raises:
            CorruptBodyError: It cannot be unpacked.
        """
        may_hold_more = False
        while data or may_hold_more:
            if self._inflater.eof:
                self._inflater = zlib.decompressobj(_WINDOW_BITS[self._encoding])
            self._has_begun = True
            try:
                piece = self._inflater.decompress(data, _SLICE_BYTES)
            except zlib.error as error:
                raise CorruptBodyError(f"the body is not {self._encoding}: {error}") from error
            yield piece
            data = self._inflater.unconsumed_tail or self._inflater.unused_data
            may_hold_more = len(piece) == _SLICE_BYTES and not self._inflater.eof

    def finish(self) -> None:
        """There is no more; an empty body is empty whatever its encoding.

        Raises:
            CorruptBodyError: It ends too early.
        """
        if self._has_begun and not self._inflater.eof:
            raise CorruptBodyError(f"the body ends before its {self._encoding} does")
