"""What a checker says: what is wrong with which rollout, and what became of all of them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from chaos.plan import Fault


class Verdict(Enum):
    """Kinds of what may never be."""

    LOST = "lost"
    COMPLETED_TWICE = "completed twice"
    CLAIMED_TWICE = "claimed twice"
    UNEXPECTED = "unexpected"


class Fate(Enum):
    """What became of a task, in the report; those that are wrong have the name of their verdict."""

    FINISHED = "enqueued and acknowledged, finished once"
    UNANSWERED_FINISHED = "enqueued without an answer, there, finished once"
    UNANSWERED_ABSENT = "enqueued without an answer, not there"
    REFUSED = "refused, not there"
    EXCUSED = "acknowledged in the last second before a power cut, not there"
    LOST = "lost"
    COMPLETED_TWICE = "completed twice"
    CLAIMED_TWICE = "claimed twice"
    UNEXPECTED = "unexpected"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        subject: Id of the rollout, or of what else is concerned; empty if it concerns no single one.
    """

    verdict: Verdict
    subject: str
    problem: str

    def __str__(self) -> str:
        return f"{self.verdict.value}: {self.subject}: {self.problem}"


Findings: TypeAlias = Iterator[Finding]


def unexpected(subject: str, problem: str) -> Finding:
    """A finding that is neither a loss nor a double."""
    return Finding(Verdict.UNEXPECTED, subject, problem)


@dataclass
class Judgement:
    """The outcome of a check.

    Attributes:
        fates: How many tasks met which fate.
        excused: What was acknowledged and is gone, within a window in which that may be: by cause and kind, how many.
        longest_excused_seconds: How long before the end of its window the oldest of these was acknowledged.
    """

    findings: list[Finding] = field(default_factory=list)
    fates: Counter[Fate] = field(default_factory=Counter)
    excused: Counter[tuple[Fault, str]] = field(default_factory=Counter)
    longest_excused_seconds: float = 0.0

    def counts(self) -> dict[Verdict, int]:
        """How many subjects each verdict concerns."""
        subjects = {(finding.verdict, finding.subject) for finding in self.findings}
        return {verdict: sum(each is verdict for each, _ in subjects) for verdict in Verdict}
