"""Free-form values as JSON."""

import math

import pytest

from lightning_store.errors import InvalidRequestError
from lightning_store.jsonvalue import (
    COMPRESS_ABOVE_BYTES,
    canonical_json,
    copy_json,
    copy_mapping,
    dump_json,
    load_json,
)

VALUES = [
    None, True, 1, 1.0, 2**80, -0.5, "", "\x00", "grüß \U0001f600", "\ud800", [], {}, {"": [[], {}]},
    [1, 1.0, True, None],
    {"a": {"b": [1, {"c": "d"}]}}, math.inf, -math.inf, "x" * (3 * COMPRESS_ABOVE_BYTES),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_values_survive_bytes_with_their_kind(value):
    back = load_json(dump_json(value))
    assert repr(back) == repr(value)


def test_nan_survives():
    assert math.isnan(load_json(dump_json(math.nan)))


def test_long_payloads_are_compressed_and_short_ones_are_readable():
    assert len(dump_json("a" * 10_000)) < 200
    assert dump_json({"a": 1}) == b'{"a":1}'


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_copies_are_equal(value):
    assert repr(copy_json(value, "input")) == repr(value)


def test_copies_share_nothing_that_can_change():
    value = {"a": [1, {"b": []}]}
    copied = copy_json(value, "input")
    value["a"][1]["b"].append(1)
    assert copied == {"a": [1, {"b": []}]}


def test_tuples_become_lists():
    assert copy_json({"a": (1, (2,))}, "input") == {"a": [1, [2]]}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, {2}]}, r"metadata\.a\[1\]: expected a JSON value, got set"),
        ({1: 2}, "metadata: keys must be strings, got int 1"),
        ({"a": b"x"}, r"metadata\.a: .* got bytes"),
        (object(), "metadata: expected a JSON value, got object"),
    ],
)
def test_refusals_name_the_place(value, message):
    with pytest.raises(InvalidRequestError, match=message):
        copy_json(value, "metadata")


def test_deep_nesting_is_refused():
    value: list = []
    for _ in range(300):
        value = [value]
    with pytest.raises(InvalidRequestError, match="nested deeper"):
        copy_json(value, "input")


def test_mapping_is_required():
    with pytest.raises(InvalidRequestError, match="metadata: expected an object, got list"):
        copy_mapping([], "metadata")


def test_canonical_bytes_ignore_the_order_of_keys_only():
    assert canonical_json({"a": 1, "b": 2}) == canonical_json({"b": 2, "a": 1})
    assert canonical_json([1, 2]) != canonical_json([2, 1])
    assert canonical_json(1) != canonical_json(1.0)
