"""Makes numbers_game.jsonl: instances of the numbers game, each with a solution, the same ones at every run.

    python examples/make_numbers_game.py examples/numbers_game.jsonl

Every instance is solvable because its target was reached by playing; `solution` tells how.
"""

import json
import random
import sys
from pathlib import Path
from typing import Any

from lightning_store.demo.game import Move, Numbers, legal_moves, play, starting_numbers

SEED = 6174
COUNT = 576
LARGE = (25, 50, 75, 100)
SMALL = tuple(range(1, 11)) * 2
FEWEST_MOVES = 3
LOWEST_TARGET, HIGHEST_TARGET = 101, 999


def main(path: Path) -> None:
    """Write all instances to the file, one JSON object per line."""
    chance = random.Random(SEED)  # noqa: S311 - repeatable on purpose
    instances: dict[tuple[Numbers, int], dict[str, Any]] = {}
    while len(instances) < COUNT:
        numbers = draw_numbers(chance)
        moves = play_at_random(numbers, chance)
        ends = [count for count, move in enumerate(moves, 1) if count >= FEWEST_MOVES and is_target(move.result)]
        if ends:
            solution = moves[: chance.choice(ends)]
            target = solution[-1].result
            instance = {"numbers": list(numbers), "target": target, "solution": [str(move) for move in solution]}
            instances.setdefault((numbers, target), instance)
    path.write_text("".join(json.dumps(instance) + "\n" for instance in instances.values()), encoding="utf-8")


def draw_numbers(chance: random.Random) -> Numbers:
    """Six numbers: one to three large ones, the rest small."""
    large = chance.randint(1, 3)
    return starting_numbers(chance.sample(LARGE, large) + chance.sample(SMALL, 6 - large))


def play_at_random(numbers: Numbers, chance: random.Random) -> list[Move]:
    """Moves until one number is left."""
    moves: list[Move] = []
    while legal := legal_moves(numbers):
        moves.append(chance.choice(legal))
        numbers = play(numbers, moves[-1])
    return moves


def is_target(value: int) -> bool:
    """Whether the value is fit to be asked for."""
    return LOWEST_TARGET <= value <= HIGHEST_TARGET


if __name__ == "__main__":
    main(Path(sys.argv[1]))
