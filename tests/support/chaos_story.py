"""Histories and final states for the checker of the chaos report: one that is sound, to be damaged."""

import math
from dataclasses import replace
from typing import Any

from chaos.checker import judge
from chaos.evidence import Window
from chaos.findings import Judgement
from chaos.history import Call, Outcome
from chaos.state import FinalState, StoredAttempt, StoredRollout

START = 1_000.0


class Story:
    """What clients and store tell; every call takes a second, one after the other, server times alike.

    Attributes:
        calls: The histories.
        rollouts: The store's rollouts by id.
        completions: Its completion log.
        resources: Its resources' versions.
        windows: When power was cut.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.rollouts: dict[str, StoredRollout] = {}
        self.completions: list[tuple[str, str, str]] = []
        self.resources: dict[str, int] = {}
        self.windows: list[Window] = []
        self.now = START

    def call(
        self, operation: str, asked: dict[str, Any], answer: Any = None, *, process: str = "runner-0.1",
        outcome: Outcome = "ok",
    ) -> Call:  # fmt: skip
        """One call; without an answer it never ends for its client."""
        self.now += 2.0
        ended = math.inf if outcome == "unknown" else self.now - 1.0
        told = answer if outcome == "ok" else None
        call = Call(process, len(self.calls) + 1, operation, asked, self.now - 2.0, outcome, ended, told)
        self.calls.append(call)
        return call

    def enqueue(
        self, task: int, kind: str = "plain", *, outcome: Outcome = "ok", own_id: bool = True, stored: bool = True
    ) -> str:
        """One rollout; its id."""
        id = f"ro-{task}"
        asked = {"tasks": [[task, id if own_id else None]]}
        self.call("enqueue_many_rollouts", asked, [id], process="algorithm.1", outcome=outcome)
        if stored:
            self.rollouts[id] = StoredRollout(id, {"task": task, "kind": kind}, "queuing")
        return id

    def claim(
        self, id: str, *, process: str = "runner-0.1", outcome: Outcome = "ok", attempt_id: str | None = None
    ) -> str:
        """The next attempt of a rollout; its id."""
        rollout = self.rollouts[id]
        sequence = len(rollout.attempts) + 1
        attempt_id = attempt_id or f"at-{sequence}"
        answer = {"rollout": id, "task": rollout.task["task"], "attempt": attempt_id, "sequence": sequence}
        self.call("dequeue_rollout", {"worker": process}, answer, process=process, outcome=outcome)
        attempt = StoredAttempt(attempt_id, "running", self.now - 1.5, worker=process)
        self.rollouts[id] = replace(rollout, status="running", attempts=[*rollout.attempts, attempt])
        return attempt_id

    def renew(self, id: str, attempt_id: str, state: str = "current") -> None:
        """A heartbeat and its answer."""
        self.call("renew", {"worker": "runner-0.1", "attempts": [[id, attempt_id]]}, [state])

    def add_span(self, id: str, attempt_id: str, span_id: str, *, outcome: Outcome = "ok") -> None:
        """One span."""
        span = [id, attempt_id, span_id]
        self.call("add_many_spans", {"spans": [span]}, [span], outcome=outcome)
        self.change_attempt(id, attempt_id, spans=(*self.attempt(id, attempt_id).spans, span_id))

    def report(self, id: str, attempt_id: str, status: Any = "succeeded", *, outcome: Outcome = "ok") -> None:
        """The end of an attempt, and of its rollout, with its completion."""
        asked = {"rollout": id, "attempt": attempt_id, "status": status}
        self.call("update_attempt", asked, {"status": status}, outcome=outcome)
        ended = self.now - 1.5
        self.change_attempt(id, attempt_id, status=status, ended=ended, cause="agent")
        self.change(id, status=status, ended=ended)
        self.completions.append((f"{len(self.completions) + 1}-0", id, status))

    def lose_worker(self, id: str, attempt_id: str) -> None:
        """The store ends an attempt; its rollout waits again."""
        self.change_attempt(id, attempt_id, status="unresponsive", cause="worker_lost")
        self.change(id, status="requeuing")

    def cancel(self, id: str) -> None:
        """A rollout is not wanted any more."""
        self.call("cancel_rollouts", {"rollouts": [id]}, [id], process="algorithm.1")
        self.change(id, status="cancelled", ended=self.now - 1.5)
        self.completions.append((f"{len(self.completions) + 1}-0", id, "cancelled"))

    def publish(self, version: int) -> None:
        """The next version of the resources."""
        self.call("update_resources", {"resources": "rs"}, {"version": version}, process="algorithm.1")
        self.resources["rs"] = version

    def read_completions(self, first: int = 0) -> None:
        """The algorithm reads the log from some entry on."""
        entries = [list(entry) for entry in self.completions[first:]]
        self.call("completions", {"after": None}, entries, process="algorithm.1")

    def wait(self, id: str) -> None:
        """The algorithm is told what has become of a rollout."""
        self.call("wait_for_rollouts", {}, [[id, self.rollouts[id].status]], process="algorithm.1")

    def attempt(self, id: str, attempt_id: str) -> StoredAttempt:
        """An attempt as stored."""
        return next(each for each in self.rollouts[id].attempts if each.attempt_id == attempt_id)

    def change(self, id: str, **fields: Any) -> None:
        """Change a stored rollout."""
        self.rollouts[id] = replace(self.rollouts[id], **fields)

    def change_attempt(self, id: str, attempt_id: str, **fields: Any) -> None:
        """Change a stored attempt."""
        changed = [
            replace(each, **fields) if each.attempt_id == attempt_id else each for each in self.rollouts[id].attempts
        ]
        self.change(id, attempts=changed)

    def judged(self) -> Judgement:
        """What the checker says."""
        return judge(self.calls, FinalState(self.rollouts, self.completions, self.resources), self.windows)


def sound_story() -> Story:
    """A run with all that may happen to a rollout: done at once, after a lost worker, failed, without answers."""
    story = Story()
    story.publish(1)
    first = story.enqueue(1, "rewarded")
    attempt = story.claim(first)
    story.renew(first, attempt)
    story.add_span(first, attempt, "aa")
    story.report(first, attempt)
    story.change(first, reward=1.0)

    second = story.enqueue(2)
    lost = story.claim(second)
    story.lose_worker(second, lost)
    story.renew(second, lost, "revived")
    story.lose_worker(second, lost)
    taken = story.claim(second, process="runner-1.1")
    story.renew(second, lost, "replaced")
    story.add_span(second, taken, "bb", outcome="unknown")
    story.report(second, taken, outcome="unknown")

    third = story.enqueue(3, "failing", outcome="unknown", own_id=False)
    unheard = story.claim(third, outcome="unknown")
    story.report(third, unheard, "failed")
    unwanted = story.enqueue(6)
    running = story.claim(unwanted)
    story.cancel(unwanted)
    story.call("update_attempt", {"rollout": unwanted, "attempt": running, "status": "failed"}, {"status": "failed"})
    story.change_attempt(unwanted, running, status="failed", ended=story.now, cause="agent")
    story.publish(2)
    story.read_completions()
    story.wait(first)

    story.enqueue(4, outcome="failed", stored=False)
    story.enqueue(5, outcome="unknown", own_id=False, stored=False)
    return story
