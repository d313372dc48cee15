"""The rules of the numbers game, and the instances that come with the project."""

import json
import runpy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_store.demo.game import Move, legal_moves, nearness, play, reward, starting_numbers
from lightning_store.demo.tasks import HELD_OUT, bundled_tasks, load_tasks

EXAMPLES = Path(__file__).parents[2] / "examples"
SYMBOLS = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": int.__floordiv__}

hands = st.lists(st.integers(1, 200), min_size=1, max_size=6).map(starting_numbers)


def instances() -> list[dict]:
    return [json.loads(line) for line in (EXAMPLES / "numbers_game.jsonl").read_text().splitlines()]


@given(hands)
def test_every_legal_move_makes_a_positive_integer_exactly(numbers):
    for move in legal_moves(numbers):
        assert move.left >= move.right
        assert move.result == SYMBOLS[move.operator](move.left, move.right) >= 1
        assert move.operator != "/" or move.result * move.right == move.left


@given(hands)
def test_a_move_takes_two_numbers_and_puts_back_one(numbers):
    for move in legal_moves(numbers):
        after = play(numbers, move)
        assert len(after) == len(numbers) - 1
        assert move.result in after
        assert list(after) == sorted(after)


@given(hands)
def test_moves_are_listed_once_and_whenever_two_numbers_are_left(numbers):
    moves = legal_moves(numbers)
    assert len(set(moves)) == len(moves)
    assert bool(moves) == (len(numbers) > 1)


def test_a_move_with_a_number_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="not in list"):
        play((2, 3), Move(5, "+", 3, 8))


def test_the_best_result_is_rewarded():
    assert reward([7, 100, 30], target=100) == 1.0
    assert reward([7, 110], target=100) == nearness(110, 100) == 0.5
    assert reward([], target=100) == 0.0


def test_every_instance_is_solved_by_its_solution():
    for instance in instances():
        numbers = starting_numbers(instance["numbers"])
        by_text = {}
        for step in instance["solution"]:
            by_text = {str(move): move for move in legal_moves(numbers)}
            numbers = play(numbers, by_text[step])
        assert by_text[step].result == instance["target"]


def test_there_are_enough_instances_and_none_twice():
    found = {(tuple(instance["numbers"]), instance["target"]) for instance in instances()}
    assert len(found) == len(instances()) >= 500
    assert all(len(instance["numbers"]) == 6 for instance in instances())


def test_the_generator_makes_the_committed_file(tmp_path):
    script = runpy.run_path(str(EXAMPLES / "make_numbers_game.py"))
    script["main"](tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == (EXAMPLES / "numbers_game.jsonl").read_bytes()


def test_tasks_are_split_into_those_for_training_and_those_held_out():
    tasks = load_tasks()
    assert len(tasks.held_out) == HELD_OUT
    assert len(tasks.training) + HELD_OUT == len(instances())
    assert not set(tasks.training) & set(tasks.held_out)


def test_tasks_are_read_from_any_file(tmp_path):
    path = tmp_path / "tasks.jsonl"
    path.write_text('{"numbers": [3, 1, 2], "target": 6}\n\n' * 70)
    task = load_tasks(path).training[0]
    assert task.as_input(7) == {"numbers": [1, 2, 3], "target": 6, "seed": 7}


def test_bundled_tasks_are_found():
    assert bundled_tasks().name == "numbers_game.jsonl"
