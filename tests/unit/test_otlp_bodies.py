"""Bodies are read as they arrive, unpacked in slices, and never beyond the limit."""

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_store.http.otlp_bodies import BodyTooLargeError, CorruptBodyError, UnknownEncodingError, read_body

MIB = 1 << 20


async def read(*chunks, limit=MIB, **headers):
    async def arriving():
        for chunk in chunks:
            yield chunk

    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await read_body(arriving(), named, limit)


async def test_plain_bodies_in_pieces():
    assert await read() == b""
    assert await read(b"a", b"", b"b", content_encoding="identity") == b"ab"


@given(data=st.binary(max_size=3000), cut=st.integers(0, 100), packed=st.sampled_from(["gzip", "deflate"]))
async def test_packed_bodies_in_pieces(data, cut, packed):
    body = gzip.compress(data) if packed == "gzip" else zlib.compress(data)

    assert await read(body[:cut], body[cut:], content_encoding=packed.upper()) == data


async def test_several_members_of_gzip_one_after_the_other():
    body = gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(b"two")

    assert await read(body, content_encoding="gzip") == b"one two"
    assert await read(*(bytes([each]) for each in body), content_encoding="gzip") == b"one two"


@pytest.mark.parametrize("size", [MIB - 1, MIB, MIB + 1, 3 * MIB, 3 * MIB + 17])
async def test_bodies_longer_than_a_slice(size):
    """Of which a full slice may be the last one, and leave nothing to be fed."""
    data = bytes(size)

    assert await read(gzip.compress(data), limit=4 * MIB, content_encoding="gzip") == data


async def test_limit_holds_packed_and_unpacked():
    assert await read(b"x" * 10, limit=10) == b"x" * 10
    with pytest.raises(BodyTooLargeError, match="more than 10 bytes"):
        await read(b"x" * 10, b"x", limit=10)
    with pytest.raises(BodyTooLargeError, match="more than 10 bytes when unpacked"):
        await read(gzip.compress(b"x" * 11), limit=10, content_encoding="gzip")


async def test_length_that_is_too_much_is_refused_before_anything_is_read():
    async def never():
        raise AssertionError("read")
        yield b""

    with pytest.raises(BodyTooLargeError):
        await read_body(never(), {"content-length": "11"}, 10)


async def test_bomb_takes_no_more_memory_than_the_limit_allows():
    bomb = gzip.compress(bytes(512 * MIB), 9)
    assert len(bomb) < MIB
    tracemalloc.start()
    with pytest.raises(BodyTooLargeError):
        await read(bomb, limit=4 * MIB, content_encoding="gzip")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 16 * MIB


@pytest.mark.parametrize("cut", [1, 5, 12, -1])
async def test_body_that_ends_too_early_is_corrupt(cut):
    body = gzip.compress(b"some text")[:cut]
    with pytest.raises(CorruptBodyError, match="ends before"):
        await read(body, content_encoding="gzip")


@pytest.mark.parametrize(
    "body",
    [b"text", gzip.compress(b"x") + b"rest", b"\x1f\x8b" + b"\xff" * 20, zlib.compress(b"x")],
    ids=["text", "more", "cut", "deflate"],
)
async def test_body_that_is_not_packed_as_it_says_is_corrupt(body):
    with pytest.raises(CorruptBodyError, match="not gzip"):
        await read(body, content_encoding="gzip")


async def test_checksum_is_checked():
    body = bytearray(gzip.compress(b"some text"))
    body[-8] ^= 1
    with pytest.raises(CorruptBodyError):
        await read(bytes(body), content_encoding="gzip")


@pytest.mark.parametrize("packed", ["gzip", "deflate", "identity", ""])
async def test_nothing_is_empty_whatever_the_encoding(packed):
    assert await read(content_encoding=packed) == b""


@pytest.mark.parametrize("packed", ["br", "gzip, gzip", "x"])
async def test_other_encodings_are_named(packed):
    with pytest.raises(UnknownEncodingError, match="expected gzip, deflate or none, got"):
        await read(b"x", content_encoding=packed)
