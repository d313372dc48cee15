"""Packed bodies are unpacked in slices, in whatever pieces they arrive."""

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_store.http.unpacking import CorruptBodyError, Unpacker

MIB = 1 << 20


def unpacked(*chunks, encoding="gzip"):
    unpacker = Unpacker(encoding)
    data = b"".join(piece for chunk in chunks for piece in unpacker.feed(chunk))
    unpacker.finish()
    return data


@given(data=st.binary(max_size=3000), cut=st.integers(0, 100), encoding=st.sampled_from(["gzip", "deflate"]))
def test_bodies_in_pieces(data, cut, encoding):
    body = gzip.compress(data) if encoding == "gzip" else zlib.compress(data)

    assert unpacked(body[:cut], body[cut:], encoding=encoding) == data


def test_several_members_of_gzip_one_after_the_other():
    body = gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(b"two")

    assert unpacked(body) == b"one two"
    assert unpacked(*(bytes([each]) for each in body)) == b"one two"


@pytest.mark.parametrize("size", [MIB - 1, MIB, MIB + 1, 3 * MIB, 3 * MIB + 17])
def test_bodies_longer_than_a_slice(size):
    """Of which a full slice may be the last one, and leave nothing to be fed."""
    data = bytes(size)

    assert unpacked(gzip.compress(data)) == data


def test_bomb_takes_no_more_memory_than_is_asked_for():
    bomb = gzip.compress(bytes(512 * MIB), 9)
    assert len(bomb) < MIB
    tracemalloc.start()
    assert len(next(Unpacker("gzip").feed(bomb))) == MIB
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 4 * MIB


@pytest.mark.parametrize("cut", [1, 5, 12, -1])
def test_body_that_ends_too_early_is_corrupt(cut):
    with pytest.raises(CorruptBodyError, match="ends before"):
        unpacked(gzip.compress(b"some text")[:cut])


@pytest.mark.parametrize(
    "body",
    [b"text", gzip.compress(b"x") + b"rest", b"\x1f\x8b" + b"\xff" * 20, zlib.compress(b"x")],
    ids=["text", "more", "cut", "deflate"],
)
def test_body_that_is_not_packed_as_it_says_is_corrupt(body):
    with pytest.raises(CorruptBodyError, match="not gzip"):
        unpacked(body)


def test_checksum_is_checked():
    body = bytearray(gzip.compress(b"some text"))
    body[-8] ^= 1
    with pytest.raises(CorruptBodyError):
        unpacked(bytes(body))


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_nothing_is_empty_whatever_the_encoding(encoding):
    assert unpacked(encoding=encoding) == unpacked(b"", encoding=encoding) == b""
