"""The client processes of a run: started again when a fault has ended them, each life with a journal of its own."""

import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from chaos.clocks import set_shift
from lightning_store.demo.processes import Child, Children

RUNNERS: Final = 8
CONCURRENCY: Final = 2
HOUR: Final = 3600.0
CLIENT: Final = "chaos.client"
DAEMON: Final = "daemon"
ALGORITHM: Final = "algorithm"
IMPATIENT: Final = frozenset({ALGORITHM, *(f"runner-{number}" for number in range(RUNNERS) if number % 4 in {1, 2})})
"""Of the runners, as many with agents on threads as with coroutines."""


@dataclass(frozen=True)
class Common:
    """What all clients are told."""

    namespace: str
    lease_seconds: float
    seed: int
    wrapper: str | None
    concurrency: int = CONCURRENCY


@dataclass
class Member:
    """One place in the fleet, and who has it now.

    Attributes:
        life: The name of the process in the journals.
    """

    name: str
    child: Child
    life: str

    def last_words(self) -> str:
        """How it ended."""
        return f"{self.life} ended with {self.child.exit_code}: {self.child.last_words() or 'no word'}"


class Fleet:
    """All clients; they end with this process."""

    def __init__(self, folder: Path, url: str, common: Common) -> None:
        """Set up; nothing is started.

        Args:
            folder: For journals, logs and clocks.
            url: Where they find the store.
            common: What all are told.
        """
        self.journals = folder / "journals"
        self._clocks = folder / "clocks"
        for each in (self.journals, self._clocks):
            each.mkdir()
        root = str(Path(__file__).parents[1])
        self._children = Children(folder / "logs", {"LIGHTNING_STORE_URL": url, "PYTHONPATH": root})
        self._common = common
        self._lives: Counter[str] = Counter()
        self.members: dict[str, Member] = {}

    @property
    def runners(self) -> list[str]:
        """Names of the runners."""
        return [name for name in self.members if name.startswith("runner")]

    def start(self) -> None:
        """Start everybody, the algorithm last."""
        for name in (DAEMON, *(f"runner-{number}" for number in range(RUNNERS)), ALGORITHM):
            self.start_member(name)

    def start_member(self, name: str) -> Member:
        """Start one, for the first time or again."""
        self._lives[name] += 1
        life = f"{name}.{self._lives[name]}"
        clock = self._clocks / name
        if not clock.exists():
            set_shift(clock, 0.0)
        role, _, number = name.partition("-")
        order: dict[str, Any] = {
            **asdict(self._common),
            "role": role,
            "number": int(number or 0),
            "is_impatient": name in IMPATIENT,
            "journal": str(self.journals / f"{life}.jsonl"),
            "clock": str(clock),
        }
        member = Member(name, self._children.start(life, CLIENT, json.dumps(order)), life)
        self.members[name] = member
        return member

    def kill(self, name: str) -> str:
        """Kill one and start another in its place; the life that was ended."""
        member = self.members[name]
        member.child.kill()
        self.start_member(name)
        return member.life

    def shift_clock(self, name: str, seconds: float) -> None:
        """Set the clock of one wrong by so many seconds; 0 = right again."""
        set_shift(self._clocks / name, seconds)

    def dead(self) -> list[Member]:
        """Members that run no more."""
        return [member for member in self.members.values() if member.child.exit_code is not None]

    def ask_to_stop(self, *names: str) -> None:
        """Tell members to end."""
        for name in names:
            self.members[name].child.ask_to_stop()

    def kill_all(self) -> None:
        """End whoever still runs, at once."""
        for member in self.members.values():
            member.child.kill()
        self._children.stop()

    def is_over(self, *names: str) -> bool:
        """Whether these have ended."""
        return all(self.members[name].child.exit_code is not None for name in names)


def log_line(text: str, began: float) -> str:
    """A line of the run's log, with the seconds since its beginning."""
    return f"{time.monotonic() - began:7.1f} s  {text}"
