"""The tasks of the demo: instances of the numbers game, one JSON object per line."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from lightning_store.demo.game import Numbers, starting_numbers

TaskInput: TypeAlias = dict[str, Any]

FILE_NAME: Final = "numbers_game.jsonl"
HELD_OUT: Final = 64
"""So many tasks, the last of the file, are never trained on: they measure the first and the last policy."""


@dataclass(frozen=True)
class Task:
    """One instance: the numbers given and the number to reach."""

    numbers: Numbers
    target: int

    def as_input(self, seed: int) -> TaskInput:
        """The task as the input of a rollout; the seed decides the chances of its agent, wherever it runs."""
        return {"numbers": list(self.numbers), "target": self.target, "seed": seed}


@dataclass(frozen=True)
class TaskSet:
    """Tasks to train on, and others to measure with."""

    training: Sequence[Task]
    held_out: Sequence[Task]


def load_tasks(path: Path | None = None) -> TaskSet:
    """Read tasks from a file; None = the one that comes with the project."""
    lines = (path or bundled_tasks()).read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines if line.strip()]
    tasks = [Task(starting_numbers(record["numbers"]), record["target"]) for record in records]
    return TaskSet(training=tasks[:-HELD_OUT], held_out=tasks[-HELD_OUT:])


def bundled_tasks() -> Path:
    """The file of tasks inside the installed package, else in the checkout: an editable install has no copy.

    Raises:
        FileNotFoundError: It is in neither place.
    """
    here = Path(__file__).resolve().parent
    places = (here / FILE_NAME, here.parents[1] / "examples" / FILE_NAME)
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(f"{FILE_NAME} is missing: looked in {' and '.join(str(place.parent) for place in places)}")
