"""Which faults strike when: a pure function of a seed."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Fault(Enum):
    """What may happen; the value is its name in the report."""

    KILL_RUNNER = "runner killed (SIGKILL)"
    KILL_DAEMON = "daemon killed (SIGKILL)"
    SUSPEND_RUNNER = "runner suspended for longer than its lease"
    SUSPEND_DAEMON = "daemon suspended for longer than the lease"
    KILL_CLIENTS = "all connections killed (CLIENT KILL)"
    FLUSH_SCRIPTS = "script cache emptied (SCRIPT FLUSH)"
    KILL_REDIS = "Redis killed (SIGKILL) and started again"
    POWER_CUT = "Redis killed, its file cut to a state of up to 1 s before"
    FREEZE_3 = "Redis frozen for 3 s"
    FREEZE_10 = "Redis frozen for 10 s"
    FREEZE_60 = "Redis frozen for 60 s"
    CUT = "connections cut"
    DROP_ANSWERS = "answers dropped"
    SHIFT_CLOCKS = "clocks of clients off by an hour"
    FILL_MEMORY = "memory limit reached"


@dataclass(frozen=True)
class Nature:
    """What is known of a fault before it strikes.

    Attributes:
        victim: Faults with different victims may overlap.
        seconds: Shortest and longest duration; zeros for what happens at an instant.
        weight: How often it is drawn, beside others.
    """

    victim: str
    seconds: tuple[float, float] = (0.0, 0.0)
    weight: float = 1.0


@dataclass(frozen=True)
class Strike:
    """One fault at its time.

    Attributes:
        gap_seconds: Quiet time since the end of the one before; since its beginning if the two overlap.
        seconds: How long it lasts; 0 = an instant.
        overlaps: Begins while the one before may still last.
        chance: Seed of what else is drawn for it, such as who is hit.
    """

    fault: Fault
    gap_seconds: float
    seconds: float
    overlaps: bool
    chance: int


@dataclass(frozen=True)
class Course:
    """What a run is to go through.

    Attributes:
        natures: The faults that strike, each at least once.
        least: How often those strike at least that are drawn at all.
        seconds: How long the strikes take together, at least; more if the faults cannot be had in less.
        gaps: Shortest and longest quiet time between two strikes, in seconds.
        overlap: Share of strikes that overlap the one before, where their victims differ.
        lease_seconds: Of the runners' claims.
    """

    natures: Mapping[Fault, Nature]
    least: int
    seconds: float
    gaps: tuple[float, float]
    overlap: float
    lease_seconds: float


OVERLAP: Final = 0.6
OVERLAP_GAP: Final = (0.1, 1.0)


def natures(lease_seconds: float) -> dict[Fault, Nature]:
    """All faults; who is suspended, is so for longer than the lease."""
    suspended = (1.5 * lease_seconds, 2.5 * lease_seconds)
    return {
        Fault.KILL_RUNNER: Nature("runner", weight=3),
        Fault.KILL_DAEMON: Nature("daemon", weight=1),
        Fault.SUSPEND_RUNNER: Nature("runner", suspended, weight=2),
        Fault.SUSPEND_DAEMON: Nature("daemon", suspended, weight=1),
        Fault.KILL_CLIENTS: Nature("server", weight=3),
        Fault.FLUSH_SCRIPTS: Nature("server", weight=3),
        Fault.KILL_REDIS: Nature("server", weight=3),
        Fault.POWER_CUT: Nature("server", weight=5),
        Fault.FREEZE_3: Nature("server", (3.0, 3.0), weight=1.5),
        Fault.FREEZE_10: Nature("server", (10.0, 10.0), weight=0.7),
        Fault.FREEZE_60: Nature("server", (60.0, 60.0), weight=0),
        Fault.CUT: Nature("network", weight=3),
        Fault.DROP_ANSWERS: Nature("network", (2.0, 5.0), weight=2),
        Fault.SHIFT_CLOCKS: Nature("clocks", (3.0, 6.0), weight=1.5),
        Fault.FILL_MEMORY: Nature("server", (2.0, 5.0), weight=1.5),
    }


def course(fsync: str, seconds: float, *, is_short: bool = False, only: Sequence[Fault] = ()) -> Course:
    """The usual course.

    Args:
        fsync: `always`: all faults but the power cut, which then would take back what was promised to last;
            `everysec`: power cuts, and all faults but the longest freezes.
        seconds: How long the strikes take together.
        is_short: Without the long freezes, in quick succession.
        only: These faults instead; empty = the usual ones.
    """
    lease_seconds = 2.0 if is_short else 3.0
    left_out = {Fault.POWER_CUT} if fsync == "always" else {Fault.FREEZE_10, Fault.FREEZE_60}
    if is_short:
        left_out |= {Fault.FREEZE_10, Fault.FREEZE_60}
    chosen = {
        fault: nature
        for fault, nature in natures(lease_seconds).items()
        if (fault in only if only else fault not in left_out)
    }
    gaps = (0.7, 1.4) if is_short else (2.5, 5.0)
    least = 2 if fsync == "always" and seconds else 1
    return Course(chosen, least, seconds, gaps, OVERLAP, lease_seconds)


def plan(seed: int, course: Course) -> list[Strike]:
    """The strikes: each fault as often as it must, then others by weight until the time is filled, shuffled."""
    dice = random.Random(seed)  # noqa: S311 - repeatable on purpose
    faults = list(course.natures)
    drawn = [fault for fault in faults if course.natures[fault].weight] or list(faults)
    faults += drawn * (course.least - 1)
    weights = [course.natures[fault].weight or 1 for fault in drawn]
    while sum(_usual_seconds(fault, course) for fault in faults) < course.seconds:
        faults += dice.choices(drawn, weights)
    dice.shuffle(faults)
    return _strikes(dice, faults, course)


def _usual_seconds(fault: Fault, course: Course) -> float:
    """How long a strike takes on average, with the gap before it."""
    return (sum(course.natures[fault].seconds) + sum(course.gaps)) / 2


def _strikes(dice: random.Random, faults: Sequence[Fault], course: Course) -> list[Strike]:
    strikes: list[Strike] = []
    alone: Counter[Fault] = Counter()
    """How often faults struck by themselves: each does at least once, so that its recovery is known."""
    for number, fault in enumerate(faults):
        nature = course.natures[fault]
        before = faults[number - 1] if number else None
        overlaps = (
            before is not None
            and dice.random() < course.overlap
            and alone[fault] > 0
            and alone[before] > 1
            and not strikes[-1].overlaps
            and strikes[-1].seconds > 0
            and course.natures[before].victim != nature.victim
        )
        if overlaps and before is not None:
            alone[before] -= 1
        else:
            alone[fault] += 1
        gap = dice.uniform(*(OVERLAP_GAP if overlaps else course.gaps))
        strikes.append(Strike(fault, gap, dice.uniform(*nature.seconds), overlaps, dice.getrandbits(32)))
    return strikes
