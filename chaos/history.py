"""What clients asked of the store and what they were told, as each wrote it down.

A line is written before a call is sent and another when it has ended, each by one system call: what a killed process
has sent is known, and so is that it never learned of the end.
"""

import itertools
import json
import math
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

Outcome = Literal["ok", "failed", "unknown"]

UNENDED: Final = math.inf


@dataclass(frozen=True)
class Call:
    """One call of one process.

    Attributes:
        process: Which process, with the number of its life: a runner that is started again is another one.
        number: Which of its calls.
        asked: The ids of what was asked for, by operation; see `chaos.logged`.
        invoked_at: By `time.monotonic`, which all processes of a machine share; before the call was sent.
        outcome: `ok`: it took effect. `failed`: refused, without effect. `unknown`: it may have taken effect or not.
        ended_at: After the end was known; infinite when the process never learned of it.
        answer: The ids of what was answered, when ok.
        error: The kind of error, when not ok.
    """

    process: str
    number: int
    operation: str
    asked: dict[str, Any]
    invoked_at: float
    outcome: Outcome = "unknown"
    ended_at: float = UNENDED
    answer: Any = None
    error: str | None = None

    @property
    def name(self) -> str:
        """What a finding calls it."""
        return f"{self.process} call {self.number}"


class Journal:
    """The file of one process."""

    def __init__(self, file: Path) -> None:
        """Open it; only new files are accepted, so that no two lives share one."""
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._numbers = itertools.count(1)

    def invoked(self, operation: str, asked: dict[str, Any]) -> int:
        """Note that a call is about to be sent; its number."""
        number = next(self._numbers)
        self._write({"call": number, "operation": operation, "asked": asked, "invoked_at": time.monotonic()})
        return number

    def ended(self, number: int, outcome: Outcome, answer: Any = None, error: str | None = None) -> None:
        """Note how a call ended."""
        self._write(
            {"call": number, "outcome": outcome, "ended_at": time.monotonic(), "answer": answer, "error": error}
        )

    def _write(self, line: dict[str, Any]) -> None:
        os.write(self._file, json.dumps(line, separators=(",", ":")).encode() + b"\n")


def read_folder(folder: Path) -> list[Call]:
    """The calls of all journals of a folder, in the order in which they were sent."""
    calls = [call for file in sorted(folder.glob("*.jsonl")) for call in read(file.stem, _lines(file))]
    return sorted(calls, key=lambda call: call.invoked_at)


def read(process: str, lines: Iterable[dict[str, Any]]) -> Iterator[Call]:
    """The calls that the lines of one process tell of."""
    sent: dict[int, dict[str, Any]] = {}
    for line in lines:
        known = sent.setdefault(line["call"], {})
        known.update(line)
    for number, fields in sent.items():
        del fields["call"]
        yield Call(process, number, **fields)


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open("rb") as lines:
        for line in lines:
            yield json.loads(line)
