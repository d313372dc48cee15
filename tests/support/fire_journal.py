"""What processes under fire meant to do and what was acknowledged to them, written so that it outlives them."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PENDING: Final = object()
"""In place of an answer: the process was killed before it got, or noted, one."""


def own_id(task: str) -> str:
    """The id of a task's rollout where the caller chooses it."""
    return task.replace("/", ".")


class Journal:
    """One process's journal; each line is with the operating system before anything else happens."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        self._last = 0

    def intend(self, who: str, what: str, given: Any) -> int:
        """Note an operation before it is called."""
        self._last += 1
        self._write({"number": self._last, "who": who, "what": what, "given": given})
        return self._last

    def acknowledge(self, number: int, answer: Any) -> None:
        """Note what it answered."""
        self._write({"number": number, "answer": answer})

    def crash(self, text: str) -> None:
        """Note an error that nobody expects."""
        self._write({"crash": text})

    def _write(self, line: dict[str, Any]) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")


@dataclass
class Call:
    """An operation that a process called.

    Attributes:
        who: The one who called, of whom each makes one call at a time; also the worker id.
        what: Name of the operation.
        answer: `PENDING` if none was noted; an error is its class's name under `error`.
    """

    who: str
    what: str
    given: Any
    answer: Any = PENDING

    @property
    def is_pending(self) -> bool:
        """Whether nobody knows what has become of it."""
        return self.answer is PENDING

    @property
    def error(self) -> str | None:
        """Class of the error that it ended with."""
        return self.answer.get("error") if isinstance(self.answer, dict) else None


@dataclass
class Story:
    """All journals together.

    Attributes:
        calls: Those of each process in their order.
        crashes: What ended processes that were not killed.
    """

    calls: list[Call]
    crashes: list[str]

    def of(self, what: str) -> Iterator[Call]:
        """Calls of an operation that did not end with an error."""
        return (call for call in self.calls if call.what == what and call.error is None)

    def answered(self, what: str) -> Iterator[Call]:
        """Those of them that were acknowledged."""
        return (call for call in self.of(what) if not call.is_pending)

    def pending(self, what: str) -> Iterator[Call]:
        """Those of them that were not."""
        return (call for call in self.of(what) if call.is_pending)


def read_journals(folder: Path) -> Story:
    """All journals of a folder."""
    story = Story([], [])
    for path in sorted(folder.iterdir()):
        calls: dict[int, Call] = {}
        for text in path.read_text().splitlines(keepends=True):
            if not text.endswith("\n"):
                continue  # killed while it wrote
            line = json.loads(text)
            if "crash" in line:
                story.crashes.append(f"{path.name}: {line['crash']}")
            elif "answer" in line:
                calls[line["number"]].answer = line["answer"]
            else:
                calls[line["number"]] = Call(line["who"], line["what"], line["given"])
        story.calls += calls.values()
    return story
