"""Bodies that come packed, unpacked in slices, so that too much is noticed before all of it is there."""

import zlib
from collections.abc import Iterator
from typing import Final

_SLICE_BYTES: Final = 1 << 20
_WINDOW_BITS: Final = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
ENCODINGS: Final = tuple(_WINDOW_BITS)
"""Values of `Content-Encoding` that are read."""


class CorruptBodyError(Exception):
    """The body is not packed as its header says."""


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
