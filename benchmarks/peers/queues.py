"""Queues on Redis beside the store: jobs per second, pickup by an idle worker, and enqueuing one at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from operator import attrgetter
from pathlib import Path

from benchmarks.measuring import Figure, Goal, NotMeasuredError, Part, Sample, in_turns, percentile
from benchmarks.peers.environments import QUEUES, python_of, version_of
from benchmarks.peers.outcomes import Outcome
from benchmarks.peers.rounds import Contender, run_round
from benchmarks.peers.sides import SideError
from benchmarks.setting import Bench
from lightning_store.embedded import EmbeddedRedis

STORED = "results stored"
DROPPED = "no results"

CALLS = "the store's calls"
RUNNER = "a `Runner`"
OURS = {CALLS: "with_store", RUNNER: "with_runner"}
_OUR_SPEED = {CALLS: 2500, RUNNER: 1200}

Rounds = Mapping[str, Sequence[Outcome]]

_HOW = (
    "One worker process on an empty server of its own, started when all jobs are enqueued; jobs do nothing and note "
    "that they ran, so each round knows that every job ran once. The first tenth of the jobs of each round warms up. "
    "Each peer has its fastest settings that lose no job when a worker dies; `benchmarks/peers/inside` has them, with "
    "the reasons. "
)


class _Failing:
    """A peer's rounds, until one fails; then the peer counts as not measured, and the others go on."""

    def __init__(self, name: str, contender: Contender, url: str) -> None:
        self.name = name
        self.failure = ""
        self._run = partial(asyncio.to_thread, run_round, contender, url)

    async def run(self) -> Outcome | None:
        if self.failure:
            return None
        try:
            return await self._run()
        except (SideError, AssertionError) as error:
            self.failure = str(error)
            return None


async def measure_queues(bench: Bench) -> list[Part]:
    """All peers that are wanted, beside our calls and our Runner, in turns."""
    wanted = [name for name in QUEUES if name in bench.peers]
    if not wanted:
        return []
    missing: list[str] = []
    versions: list[str] = []
    peers: dict[str, Contender] = {}
    for name in wanted:
        try:
            python = await asyncio.to_thread(python_of, name)
            versions.append(await asyncio.to_thread(version_of, name, python))
        except NotMeasuredError as error:
            missing.append(f"{name}: {error}")
        else:
            peers |= _settings_of(bench, name, python)
    rounds, failures = await _measured(bench, peers)
    text = f"Medians of {bench.sizes.peer_rounds} rounds. Versions: {', '.join(versions) or 'none'}."
    missing += failures
    return [_jobs(rounds, text, missing), _pickups(rounds, missing), _enqueues(rounds, missing)]


async def _measured(bench: Bench, peers: Mapping[str, Contender]) -> tuple[Rounds, list[str]]:
    """The rounds of all that did not fail, and why others did."""
    with EmbeddedRedis(settings={"auto-aof-rewrite-percentage": "0"}) as server:
        contenders: dict[str, Callable[[], Awaitable[Outcome | None]]] = {
            name: partial(asyncio.to_thread, run_round, _ours(bench, name), server.url) for name in OURS
        }
        theirs = [_Failing(name, contender, server.url) for name, contender in peers.items()]
        contenders |= {each.name: each.run for each in theirs}
        measured = await in_turns(bench.sizes.peer_rounds, warm_up=0, **contenders)
    rounds = {name: [each for each in all_of_it if each] for name, all_of_it in measured.items() if all(all_of_it)}
    return rounds, [f"{each.name}: {each.failure}" for each in theirs if each.failure]


def _settings_of(bench: Bench, name: str, python: Path) -> dict[str, Contender]:
    jobs = _jobs_for(bench, QUEUES[name].speed)
    module = f"with_{name}"
    return {
        f"{name}, {STORED}": Contender(module, jobs, bench.sizes.peer_pickups, python),
        f"{name}, {DROPPED}": Contender(module, jobs, 0, python, stored=False),
    }


def _ours(bench: Bench, name: str) -> Contender:
    return Contender(OURS[name], _jobs_for(bench, _OUR_SPEED[name]), bench.sizes.peer_pickups)


def _jobs_for(bench: Bench, speed: int) -> int:
    return max(10, int(speed * bench.sizes.peer_seconds))


def _jobs(rounds: Rounds, text: str, missing: Sequence[str]) -> Part:
    figures: list[Figure] = []
    for ours in OURS:
        for peer in _peers(rounds):
            least = 1.5 if peer.endswith(STORED) else 1.0
            goal = Goal("ratio", least=least)
            figures.append(
                _figure(f"{ours} beside {peer}", "per second", attrgetter("rate"), rounds[ours], rounds[peer], goal)
            )
    for peer in _peers(rounds):
        figures += [
            _figure(
                f"... Redis CPU each, {CALLS} beside {peer}",
                "µs",
                attrgetter("redis_micros"),
                rounds[CALLS],
                rounds[peer],
            ),
            _figure(
                f"... worker CPU each, {CALLS} beside {peer}",
                "µs",
                attrgetter("worker_micros"),
                rounds[CALLS],
                rounds[peer],
            ),
        ]
    return Part(
        "Whole lives beside the jobs of other queues",
        "the peer's no-op jobs",
        f"{_HOW}Ours are whole lives of rollouts: a claim with a lease, a span of 1 kB, a success. {text}",
        figures,
        beside="peer",
        missing=missing,
    )


def _pickups(rounds: Rounds, missing: Sequence[str]) -> Part:
    figures: list[Figure] = []
    for ours in OURS:
        for peer in _peers(rounds):
            if not rounds[peer][0].latencies:
                continue
            name = f"{ours} beside {peer}"
            figures += [
                _figure(
                    f"{name}, p50", "ms", attrgetter("pickup_millis"), rounds[ours], rounds[peer], Goal("ratio", 1.0)
                ),
                Figure(f"{name}, p99", "ms", _p99(rounds[ours]), _p99(rounds[peer])),
            ]
    return Part(
        "Pickup beside other queues",
        "the same with the peer",
        "After the jobs above the worker is idle for a second; then another process enqueues a job every 20 ms. The "
        "time runs from just before the enqueuing call to the start of the job. p99 is taken over all rounds together.",
        figures,
        beside="peer",
        missing=missing,
    )


def _enqueues(rounds: Rounds, missing: Sequence[str]) -> Part:
    figures = [
        _figure(
            f"enqueued one at a time, beside {peer}",
            "per second",
            attrgetter("enqueue_rate"),
            rounds[CALLS],
            rounds[peer],
            goal,
        )
        for peer in _peers(rounds)
        for goal in [Goal("ratio", least=1.0)]
    ]
    return Part(
        "Enqueue beside other queues",
        "the peer's client, which enqueues one job after the other",
        "",
        figures,
        beside="peer",
        missing=missing,
    )


def _peers(rounds: Rounds) -> list[str]:
    return [name for name in rounds if name not in OURS]


def _figure(
    name: str,
    unit: str,
    value: Callable[[Outcome], float],
    ours: Sequence[Outcome],
    theirs: Sequence[Outcome],
    goal: Goal | None = None,
) -> Figure:
    return Figure(name, unit, Sample(tuple(map(value, ours))), Sample(tuple(map(value, theirs))), goal)


def _p99(rounds: Sequence[Outcome]) -> Sample:
    return Sample((1e3 * percentile([*chain.from_iterable(each.latencies for each in rounds)], 99),))
