"""How long it took after each fault until work went on."""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from chaos.history import Call
from chaos.plan import Fault, Strike
from chaos.rules import ENDS


@dataclass(frozen=True)
class Struck:
    """A strike as it happened; times by `time.monotonic`.

    Attributes:
        began: When it struck.
        ended: When it was over: the server answered again, the process was let go on, the limit was lifted.
        process: Who was hit, if it was one process: its name in the journals.
        alone: No other strike overlapped it.
        detail: What else was noted, for the log of the run.
    """

    strike: Strike
    began: float
    ended: float
    process: str | None = None
    alone: bool = True
    detail: str = ""


@dataclass(frozen=True)
class Recovery:
    """Times in seconds since the end of a fault; None where the question does not arise, or until then never.

    Attributes:
        flows: Until the first claim and the first report of an end had been acknowledged.
        all_back: Until every client that lived on had had an acknowledged call.
        taken_over: For a runner that was killed or suspended: since the strike, until each rollout that it held had
            been claimed by another, or had ended.
    """

    flows: float | None
    all_back: float | None
    taken_over: float | None = None


SINCE_STRIKE: Final = frozenset({Fault.KILL_RUNNER, Fault.SUSPEND_RUNNER})


def recoveries(calls: Sequence[Call], struck: Sequence[Struck]) -> dict[Fault, list[Recovery]]:
    """Recoveries by fault, of strikes that no other overlapped."""
    acknowledged = sorted((call for call in calls if call.outcome == "ok"), key=lambda call: call.ended_at)
    lives = _lives(calls)
    found: dict[Fault, list[Recovery]] = defaultdict(list)
    for each in struck:
        if each.alone:
            found[each.strike.fault].append(_recovery(calls, acknowledged, lives, each))
    return found


def _lives(calls: Sequence[Call]) -> dict[str, tuple[float, float]]:
    """When each process sent its first call and its last one."""
    lives: dict[str, tuple[float, float]] = {}
    for call in calls:
        first, last = lives.get(call.process, (math.inf, -math.inf))
        lives[call.process] = (min(first, call.invoked_at), max(last, call.invoked_at))
    return lives


def _recovery(
    calls: Sequence[Call], acknowledged: Sequence[Call], lives: Mapping[str, tuple[float, float]], struck: Struck
) -> Recovery:
    since = struck.ended
    after = acknowledged[bisect_right(acknowledged, since, key=_ended_at) :]
    claim = next((call.ended_at for call in after if call.operation == "dequeue_rollout" and call.answer), None)
    end = next((call.ended_at for call in after if _is_end(call)), None)
    first: dict[str, float] = {}
    for call in after:
        first.setdefault(call.process, call.ended_at)
    back = [first.get(process) for process, (born, last) in lives.items() if born < struck.began and last > since]
    return Recovery(
        flows=None if claim is None or end is None else max(claim, end) - since,
        all_back=max(filter(None, back)) - since if any(back) and None not in back else None,
        taken_over=_taken_over(calls, acknowledged, struck) if struck.strike.fault in SINCE_STRIKE else None,
    )


def _ended_at(call: Call) -> float:
    return call.ended_at


def _is_end(call: Call) -> bool:
    return call.operation == "update_attempt" and call.asked["status"] in ENDS


def _taken_over(calls: Sequence[Call], acknowledged: Sequence[Call], struck: Struck) -> float | None:
    """How long the rollouts that a process held stayed without another; None when it held none.

    Those with a report of whose effect nobody knows are left out: they may have ended with it.
    """
    held: set[str] = set()
    for call in acknowledged:
        if call.ended_at > struck.began:
            break
        if call.operation == "cancel_rollouts":
            held.difference_update(call.answer)
        elif _is_end(call) or call.operation == "release_attempt":
            held.discard(call.asked["rollout"])
        elif call.operation == "dequeue_rollout" and call.answer:
            (held.add if call.process == struck.process else held.discard)(call.answer["rollout"])
    held -= {call.asked["rollout"] for call in calls if _is_end(call) and call.outcome == "unknown"}
    taken = [_next_event(acknowledged, id, struck.began) for id in held]
    return None if not taken else max(taken) - struck.began


def _next_event(acknowledged: Sequence[Call], rollout_id: str, since: float) -> float:
    """When a rollout was claimed, reported or cancelled next; infinite if never."""
    after = acknowledged[bisect_right(acknowledged, since, key=_ended_at) :]
    return next((call.ended_at for call in after if _concerns(call, rollout_id)), math.inf)


def _concerns(call: Call, rollout_id: str) -> bool:
    if call.operation == "dequeue_rollout":
        return bool(call.answer) and call.answer["rollout"] == rollout_id
    if call.operation == "cancel_rollouts":
        return rollout_id in call.answer
    return _is_end(call) and call.asked["rollout"] == rollout_id
