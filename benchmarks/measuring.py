"""What a figure is: samples of several rounds, taken in turns with its limit, and the goal it is held against."""

import math
import statistics
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        rounds: Counted rounds per figure; one more warms up.
        calls: Calls per round, one at a time; four times as many from many coroutines.
        bulks: Calls per round that carry 100 rollouts or spans each.
        pickups: Pickups per round.
        rollouts: Rollouts whose memory is measured.
        few: Rollouts in the small namespace that pages are read from.
        many: Rollouts in the large one.
        few_active: Active attempts that a sweep has to pass over where they are few.
        active: The same where they are many.
        due: Attempts that come due at once.
        waited: Rollouts that are waited for at once.
        claimers: Coroutines that wait for work at once.
        idle_seconds: For how long an idle runner is watched.
        peer_rounds: Counted rounds beside peers.
        peer_seconds: For about so long a peer has jobs in each round.
        peer_pickups: Pickups per round beside peers.
        peer_calls: Calls of each kind per round beside the stores of Agent Lightning.
        peer_many: Rollouts that a page and a health check have to pass over there.
    """

    rounds: int = 5
    calls: int = 500
    bulks: int = 20
    pickups: int = 80
    rollouts: int = 20_000
    few: int = 1_000
    many: int = 1_000_000
    few_active: int = 10_000
    active: int = 100_000
    due: int = 1_000
    waited: int = 10_000
    claimers: int = 10_000
    idle_seconds: float = 20.0
    peer_rounds: int = 5
    peer_seconds: float = 0.8
    peer_pickups: int = 50
    peer_calls: int = 200
    peer_many: int = 1_000


FULL = Sizes()
QUICK = Sizes(many=100_000)
SMOKE = Sizes(
    rounds=2,
    calls=20,
    bulks=2,
    pickups=3,
    rollouts=200,
    few=60,
    many=300,
    few_active=20,
    active=100,
    due=20,
    waited=40,
    claimers=40,
    idle_seconds=1.0,
    peer_rounds=1,
    peer_seconds=0.02,
    peer_pickups=3,
    peer_calls=40,
    peer_many=40,
)


class NotMeasuredError(Exception):
    """Something cannot be measured here; says why."""


@dataclass(frozen=True)
class Sample:
    """One value per round."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The value to quote."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """The lowest value."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The highest value."""
        return max(self.values)

    def over(self, other: "Sample") -> "Sample":
        """The ratio round by round, which holds when the machine's speed drifts."""
        return Sample(tuple(a / b for a, b in zip(self.values, other.values, strict=True)))


@dataclass(frozen=True)
class Goal:
    """What is to be reached: the median of `of` is at most `most` and at least `least`."""

    of: Literal["store", "ratio"]
    most: float = math.inf
    least: float = -math.inf


@dataclass(frozen=True)
class Figure:
    """One line of the results.

    Attributes:
        store: What the store did.
        limit: What stands beside it; None when nothing does.
        goal: None when the figure is for information.
    """

    name: str
    unit: str
    store: Sample
    limit: Sample | None = None
    goal: Goal | None = None

    @property
    def ratio(self) -> Sample | None:
        """Store over limit."""
        return None if self.limit is None else self.store.over(self.limit)

    @property
    def held(self) -> Sample | None:
        """What the goal is held against; None without a goal."""
        if self.goal is None:
            return None
        return self.store if self.goal.of == "store" else self.ratio

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is reached; None without a goal."""
        if self.goal is None:
            return None
        held = self.held
        return held is not None and self.goal.least <= held.median <= self.goal.most


@dataclass(frozen=True)
class Part:
    """Figures that belong together.

    Attributes:
        limit: What the limit of these figures is; "" when they have none.
        text: How they were measured, and what follows from them.
        beside: What stands beside the store: its limit or a peer.
        missing: What could not be measured, and why.
    """

    title: str
    limit: str
    text: str
    figures: Sequence[Figure]
    beside: str = "limit"
    missing: Sequence[str] = ()


async def in_turns(rounds: int, *, warm_up: int = 1, **contenders: Callable[[], Awaitable[T]]) -> Mapping[str, list[T]]:
    """Run the contenders in turns, A B A B ..., rounds that warm up first; what they returned in the counted rounds."""
    results: dict[str, list[T]] = {name: [] for name in contenders}
    for number in range(warm_up + rounds):
        for name, run in contenders.items():
            result = await run()
            if number >= warm_up:
                results[name].append(result)
    return results


def check_once(put_in: Sequence[str], came_out: Sequence[str]) -> None:
    """Fail unless exactly what was put in came out, once."""
    if len(put_in) != len(came_out) or Counter(put_in) != Counter(came_out):
        lost, extra = Counter(put_in) - Counter(came_out), Counter(came_out) - Counter(put_in)
        raise AssertionError(f"{lost.total()} of {len(put_in)} lost, {extra.total()} more than once or never put in")


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
