"""The sorted structures of the memory store against plain Python."""

import math
import random

import pytest

from lightning_store.backends.memory.index import CreationIndex, TimeIndex, merged


def test_creation_index_stays_sorted_under_any_changes():
    index, expected, dice = CreationIndex(), set(), random.Random(1)  # noqa: S311 - repeatable, no secret
    for number in dice.sample(range(10_000), 5_000):
        index.add(number)
        expected.add(number)
    for number in dice.sample(sorted(expected), 4_000):
        index.remove(number)
        expected.remove(number)
    for number in range(10_000, 12_000):
        index.add(number)
        expected.add(number)
    assert list(index) == sorted(expected)
    assert len(index) == len(expected)
    for offset in (0, 1, 511, 512, 1_500, len(expected) - 1, len(expected), 99_999):
        assert list(index.since(offset)) == sorted(expected)[offset:]


def test_emptied_creation_index_can_be_filled_again():
    index = CreationIndex()
    for number in range(2_000):
        index.add(number)
    for number in range(2_000):
        index.remove(number)
    assert (list(index), len(index)) == ([], 0)
    index.add(5)
    assert list(index) == [5]


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_merged_indexes_are_cut_at_any_offset(count):
    dice = random.Random(count)  # noqa: S311 - repeatable, no secret
    indexes = [CreationIndex() for _ in range(count)]
    expected = sorted(dice.sample(range(1, 9_000), 3_000)) if indexes else []
    for number in expected:
        dice.choice(indexes).add(number)
    for offset in (0, 1, 700, 1_500, 2_999, 3_000, 3_001, 99_999):
        assert list(merged(indexes, offset)) == expected[offset:]


def test_time_index_gives_what_is_due_earliest_first_then_by_id():
    index = TimeIndex()
    for id, time in (("b", 2.0), ("a", 2.0), ("c", 1.0), ("d", 3.0), ("e", math.inf)):
        index.set(id, time)
    assert index.before(3.0, 10) == ["c", "a", "b"]
    assert index.before(3.0, 2, {"c"}) == ["a", "b"]
    assert index.before(4.0, 10) == ["c", "a", "b", "d"]
    assert (index.soonest(), index.get("e"), "e" in index) == (1.0, math.inf, False)


def test_time_index_follows_changes():
    index = TimeIndex()
    index.set("a", 1.0)
    index.set("a", 5.0)
    index.set("b", 2.0)
    assert index.before(9.0, 10) == ["b", "a"]
    index.set("a", 1.0)
    assert index.before(9.0, 10) == ["a", "b"]
    index.set("a", math.inf)
    assert index.discard("b")
    assert not index.discard("b")
    assert (index.before(9.0, 10), index.soonest()) == ([], math.inf)


def test_time_index_does_not_grow_with_changes():
    index = TimeIndex()
    for time in range(20_000):
        index.set("a", 1e9 + time)
    assert len(index._heap) < 2_000
    assert index.soonest() == 1e9 + 19_999
