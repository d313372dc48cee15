"""The histories and the final state of a run, sorted so that rules can ask about a rollout or attempt."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chaos.history import Call
from chaos.plan import Fault
from chaos.state import FinalState, StoredAttempt, StoredRollout

Pair = tuple[str, str]


@dataclass(frozen=True)
class Window:
    """A time in which what was acknowledged may be lost: power was cut at its end.

    Attributes:
        start: By `time.monotonic`: the server's file keeps all that was acknowledged before.
        end: When the server was ended.
        cause: What ended it.
    """

    start: float
    end: float
    cause: Fault = Fault.POWER_CUT

    def excuses(self, call: Call) -> bool:
        """Whether the server may have carried out a call within; its client may have read the answer later."""
        return call.invoked_at <= self.end and call.ended_at >= self.start


@dataclass(frozen=True)
class Claim:
    """One rollout that one call was handed."""

    call: Call
    rollout_id: str
    attempt_id: str
    sequence: int


@dataclass(frozen=True)
class Enqueue:
    """One task of one call; `rollout_id` is the caller's or the answered one, None when neither is known."""

    call: Call
    task: int
    rollout_id: str | None


class Evidence:
    """Everything by what it concerns.

    A call that took effect within a window binds nobody: it counts as one whose outcome is unknown.
    """

    def __init__(self, calls: Sequence[Call], state: FinalState, windows: Sequence[Window] = ()) -> None:
        self.calls = calls
        self.state = state
        self.windows = windows
        self.by_operation: dict[str, list[Call]] = defaultdict(list)
        for call in calls:
            self.by_operation[call.operation].append(call)
        self.enqueues: dict[int, list[Enqueue]] = defaultdict(list)
        for enqueue in self._enqueues():
            self.enqueues[enqueue.task].append(enqueue)
        self.claims = [
            Claim(call, call.answer["rollout"], call.answer["attempt"], call.answer["sequence"])
            for call in self.by_operation["dequeue_rollout"]
            if call.outcome == "ok" and call.answer
        ]
        self.reports: dict[Pair, list[Call]] = defaultdict(list)
        for call in self.by_operation["update_attempt"] + self.by_operation["release_attempt"]:
            self.reports[call.asked["rollout"], call.asked["attempt"]].append(call)
        self.by_task: dict[int, list[StoredRollout]] = defaultdict(list)
        for rollout in state.rollouts.values():
            self.by_task[rollout.task["task"]].append(rollout)

    def binds(self, call: Call) -> bool:
        """Whether the call was acknowledged for good."""
        return call.outcome == "ok" and self.window_of(call) is None

    def may_have_acted(self, call: Call) -> bool:
        """Whether the call took effect, or may have."""
        return call.outcome != "failed"

    def window_of(self, call: Call) -> Window | None:
        """The window in which the call may have taken effect."""
        return next((window for window in self.windows if window.excuses(call)), None)

    def attempt(self, rollout_id: str, attempt_id: str) -> StoredAttempt | None:
        """An attempt as stored."""
        rollout = self.state.rollouts.get(rollout_id)
        tried = rollout.attempts if rollout else ()
        return next((attempt for attempt in tried if attempt.attempt_id == attempt_id), None)

    def _enqueues(self) -> Iterator[Enqueue]:
        for call in self.by_operation["enqueue_many_rollouts"]:
            answered = call.answer if call.outcome == "ok" else [None] * len(call.asked["tasks"])
            for (task, own_id), rollout_id in zip(call.asked["tasks"], answered, strict=True):
                yield Enqueue(call, task, rollout_id or own_id)
