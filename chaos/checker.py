"""Judges a run from what its clients were told and what the store holds at the end, as checkers of queue models do.

A call that was acknowledged took effect, and its effect must show. One that was refused had none. One without an
answer may have taken effect once, or not at all, also after its client gave up. Whatever cannot be explained by that is
a finding.
"""

from collections.abc import Iterator, Sequence

from chaos import rules
from chaos.evidence import Evidence, Window
from chaos.findings import Fate, Judgement, Verdict
from chaos.history import Call
from chaos.state import FinalState
from lightning_store.status import CANCELLED


def judge(calls: Sequence[Call], state: FinalState, windows: Sequence[Window] = ()) -> Judgement:
    """Check everything.

    Args:
        calls: Of all clients.
        state: What is stored when all clients have ended.
        windows: When power was cut, and how much the server's file lost; empty: nothing may be lost.
    """
    evidence = Evidence(calls, state, windows)
    judgement = Judgement([finding for rule in rules.RULES for finding in rule(evidence)])
    wrong: dict[str, Verdict] = {}
    for finding in judgement.findings:
        wrong.setdefault(finding.subject, finding.verdict)
    for task in {*evidence.enqueues, *evidence.by_task}:
        judgement.fates[_fate(evidence, task, wrong)] += 1
    for window, kind, seconds in _excused(evidence):
        judgement.excused[window.cause, kind] += 1
        judgement.longest_excused_seconds = max(judgement.longest_excused_seconds, seconds)
    return judgement


def _fate(evidence: Evidence, task: int, wrong: dict[str, Verdict]) -> Fate:
    enqueues, stored = evidence.enqueues[task], evidence.by_task[task]
    ids = {*(each.rollout_id for each in enqueues if each.rollout_id), *(each.rollout_id for each in stored)}
    verdict = next((wrong[each] for each in sorted(ids) if each in wrong), None)
    if verdict is not None:
        return Fate[verdict.name]
    acknowledged = any(each.call.outcome == "ok" for each in enqueues)
    if stored:
        return Fate.FINISHED if acknowledged else Fate.UNANSWERED_FINISHED
    if acknowledged:
        return Fate.EXCUSED
    may_be = any(evidence.may_have_acted(each.call) for each in enqueues)
    return Fate.UNANSWERED_ABSENT if may_be else Fate.REFUSED


def _excused(evidence: Evidence) -> Iterator[tuple[Window, str, float]]:
    """What was acknowledged and is gone, but may be: when, its kind, how long before the end it was acknowledged."""
    for call in evidence.calls:
        window = evidence.window_of(call) if call.outcome == "ok" else None
        if window is not None:
            seconds = max(0.0, window.end - call.ended_at)
            yield from ((window, kind, seconds) for kind in _gone(evidence, call))


def _gone(evidence: Evidence, call: Call) -> Iterator[str]:
    if call.operation == "enqueue_many_rollouts":
        yield from ("enqueued rollouts" for id in call.answer if id not in evidence.state.rollouts)
    elif call.operation == "dequeue_rollout" and call.answer:
        if evidence.attempt(call.answer["rollout"], call.answer["attempt"]) is None:
            yield "claims"
    elif call.operation == "update_attempt" and call.asked["status"] in rules.ENDS:
        attempt = evidence.attempt(call.asked["rollout"], call.asked["attempt"])
        if attempt is None or attempt.status != call.asked["status"]:
            yield "reports of an end"
    elif call.operation == "cancel_rollouts":
        yield from ("cancels" for id in call.answer if not _is_cancelled(evidence, id))
    elif call.operation == "add_many_spans":
        yield from ("spans" for span in call.answer if not _is_stored(evidence, *span))


def _is_cancelled(evidence: Evidence, rollout_id: str) -> bool:
    rollout = evidence.state.rollouts.get(rollout_id)
    return rollout is not None and rollout.status == CANCELLED


def _is_stored(evidence: Evidence, rollout_id: str, attempt_id: str, span_id: str) -> bool:
    attempt = evidence.attempt(rollout_id, attempt_id)
    return attempt is not None and span_id in attempt.spans
