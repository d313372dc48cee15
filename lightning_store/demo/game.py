"""The numbers game: combine given numbers with + - * / to come near a target. Pure rules, no chance.

A state is the multiset of numbers at hand, as an ascending tuple. A move takes two of them and puts back their sum,
difference, product or quotient. Numbers stay positive integers: differences are never 0 or less, divisions are exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

Numbers: TypeAlias = tuple[int, ...]

OPERATORS: Final = ("+", "-", "*", "/")

HALF_REWARD_DISTANCE: Final = 10
"""A result this far from the target earns half of the reward."""


@dataclass(frozen=True)
class Move:
    """Two numbers, the larger one on the left, and what they make."""

    left: int
    operator: str
    right: int
    result: int

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right} = {self.result}"


def starting_numbers(numbers: Sequence[int]) -> Numbers:
    """The state in which a game with these numbers begins."""
    return tuple(sorted(numbers))


def legal_moves(numbers: Numbers) -> list[Move]:
    """Every move that is possible, each once, always in the same order; none when one number is left.

    Multiplying and dividing by 1 is left out: it changes nothing but loses the 1.
    """
    moves: list[Move] = []
    for left, right in _pairs(numbers):
        moves.append(Move(left, "+", right, left + right))
        if left > right:
            moves.append(Move(left, "-", right, left - right))
        if right > 1:
            moves.append(Move(left, "*", right, left * right))
            if left % right == 0:
                moves.append(Move(left, "/", right, left // right))
    return moves


def play(numbers: Numbers, move: Move) -> Numbers:
    """The state after a move.

    Raises:
        ValueError: The move takes a number that is not at hand.
    """
    return tuple(sorted([*without(numbers, move), move.result]))


def without(numbers: Numbers, move: Move) -> list[int]:
    """The numbers that a move leaves untouched.

    Raises:
        ValueError: The move takes a number that is not at hand.
    """
    rest = list(numbers)
    rest.remove(move.left)
    rest.remove(move.right)
    return rest


def nearness(value: int, target: int) -> float:
    """How near a value is to the target: 1 = equal, falling towards 0 with the distance."""
    return 1.0 / (1.0 + abs(value - target) / HALF_REWARD_DISTANCE)


def reward(results: Sequence[int], target: int) -> float:
    """The reward of a game: nearness of the best of its results, 0 without any."""
    return max((nearness(result, target) for result in results), default=0.0)


def _pairs(numbers: Numbers) -> list[tuple[int, int]]:
    """Unordered pairs of the numbers, larger one first, equal pairs once."""
    return list(dict.fromkeys((larger, smaller) for at, smaller in enumerate(numbers) for larger in numbers[at + 1 :]))
