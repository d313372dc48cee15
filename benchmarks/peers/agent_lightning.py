"""The stores of Agent Lightning 0.3.0 beside ours: in memory, and over HTTP."""

import asyncio
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.measuring import Figure, Goal, NotMeasuredError, Part, Sample, in_turns
from benchmarks.peers.environments import AGENT_LIGHTNING, python_of, version_of
from benchmarks.peers.sides import Side, SideError
from benchmarks.setting import Bench

CLIENTS = (1, 32)

Rates = Mapping[str, float]

_TITLE = "Beside Agent Lightning"


class _Stores:
    """One implementation: a process that calls, and one that serves."""

    def __init__(self, bench: Bench, caller: Side, server: Side) -> None:
        self._sizes = bench.sizes
        self._caller = caller
        self._server = server

    def in_memory(self) -> Rates:
        """Calls per second on a new store."""
        sizes = self._sizes
        return self._caller.ask("memory", sizes.peer_calls, sizes.bulks, sizes.peer_many)  # type: ignore[no-any-return]

    def over_http(self, clients: int) -> Rates:
        """Calls per second of all clients together, on a new store."""
        sizes, url = self._sizes, self._server.ask("serve")
        # Their client sends the spans of a call one by one.
        bulks = max(clients, sizes.bulks // 5)
        return self._caller.ask("http", sizes.peer_calls, bulks, sizes.peer_many, url, clients)  # type: ignore[no-any-return]


async def measure_agent_lightning(bench: Bench) -> list[Part]:
    """Each operation, in turns."""
    if AGENT_LIGHTNING not in bench.peers:
        return []
    try:
        python = await asyncio.to_thread(python_of, AGENT_LIGHTNING)
        version = await asyncio.to_thread(version_of, AGENT_LIGHTNING, python)
        rounds = await _measured(bench, python)
    except NotMeasuredError as error:
        return [Part(_TITLE, "", "", [], beside="peer", missing=[f"{AGENT_LIGHTNING}: {error}"])]
    return [
        _part(
            bench,
            f"{_TITLE}: in memory",
            f"its InMemoryLightningStore, {version}",
            "A health scan passes over all active attempts, none of which is due.",
            [("", rounds["memory"])],
            least=3.0,
            least_in_bulk=2.0,
        ),
        _part(
            bench,
            f"{_TITLE}: over HTTP",
            f"its LightningStoreServer and LightningStoreClient, {version}",
            "One server process with a store in memory; the clients are in one other process.",
            [(f", {count} client{'s' * (count > 1)}", rounds[f"{count}"]) for count in CLIENTS],
            least=2.0,
            least_in_bulk=30.0,
        ),
    ]


async def _measured(bench: Bench, python: Path) -> Mapping[str, tuple[Sequence[Rates], Sequence[Rates]]]:
    """For each setting our rounds and theirs."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        def stores(name: str, python: Path) -> _Stores:
            caller, server = (
                stack.enter_context(Side(python, f"stores_{name}", role, folder / f"{name}-{role}.log", {}))
                for role in ("calls", "serves")
            )
            return _Stores(bench, caller, server)

        ours, theirs = stores("ours", Path(sys.executable)), stores("agent_lightning", python)
        settings: dict[str, Callable[[_Stores], Rates]] = {"memory": _Stores.in_memory}
        settings |= {str(count): partial(_over_http, count) for count in CLIENTS}
        contenders = {
            f"{who} {setting}": partial(asyncio.to_thread, call, each)
            for setting, measure in settings.items()
            for who, each, call in (("ours", ours, measure), ("theirs", theirs, partial(_theirs, measure)))
        }
        measured = await in_turns(bench.sizes.peer_rounds, warm_up=1, **contenders)
    return {each: (measured[f"ours {each}"], measured[f"theirs {each}"]) for each in settings}


def _over_http(clients: int, stores: _Stores) -> Rates:
    return stores.over_http(clients)


def _theirs(measure: Callable[[_Stores], Rates], stores: _Stores) -> Rates:
    """Their failures are told in the results; ours end the run."""
    try:
        return measure(stores)
    except SideError as error:
        raise NotMeasuredError(str(error)) from error


def _part(
    bench: Bench,
    title: str,
    peer: str,
    text: str,
    settings: Sequence[tuple[str, tuple[Sequence[Rates], Sequence[Rates]]]],
    *,
    least: float,
    least_in_bulk: float,
) -> Part:
    figures = [
        Figure(
            f"{_NAMES[operation]}{setting}",
            "per second",
            Sample(tuple(each[operation] for each in ours)),
            Sample(tuple(each[operation] for each in theirs)),
            Goal("ratio", least=least_in_bulk if operation == "add_many_spans" else least),
        )
        for setting, (ours, theirs) in settings
        for operation in ours[0]
    ]
    sizes = f"Pages and scans are taken with {bench.sizes.peer_many:,} rollouts of the kind that they look for. "
    return Part(title, peer, f"{text} {sizes}Medians of {bench.sizes.peer_rounds} rounds.", figures, beside="peer")


_NAMES = {
    "enqueue": "rollouts enqueued, one at a time",
    "dequeue": "claims, one at a time",
    "add_span": "spans, one at a time",
    "add_many_spans": "spans, 100 a call",
    "update_attempt": "attempts ended, one at a time",
    "page": "pages of 10 by status",
    "health_scan": "health scans",
}
