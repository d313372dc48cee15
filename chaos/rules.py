"""What must hold of rollouts and attempts, each rule a generator of findings."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

from chaos import told
from chaos.evidence import Claim, Evidence, Pair
from chaos.findings import Finding, Findings, Verdict, unexpected
from chaos.history import Call
from chaos.state import StoredAttempt
from chaos.work import KINDS
from lightning_store.status import CANCELLED, FINISHED, ROLLOUT_AFTER_ATTEMPT

ENDS: Final = frozenset({"succeeded", "failed"})
"""What agents report at the end of an attempt."""

_GIVEN_UP: Final = frozenset({"released", "worker_lost"})
_HELD: Final = frozenset({"current", "revived"})


# -- enqueued ---------------------------------------------------------------------------------------------------------


def what_was_enqueued_is_there_and_finished(evidence: Evidence) -> Findings:
    for enqueues in evidence.enqueues.values():
        for enqueue in enqueues:
            id = enqueue.rollout_id
            if evidence.binds(enqueue.call) and id not in evidence.state.rollouts:
                yield Finding(Verdict.LOST, str(id), f"acknowledged to {enqueue.call.name} and not there")
    for rollout in evidence.state.rollouts.values():
        if rollout.status not in FINISHED:
            yield Finding(Verdict.LOST, rollout.rollout_id, f"never finished: {rollout.status} at the end")


def nothing_is_there_that_nobody_enqueued(evidence: Evidence) -> Findings:
    for task, stored in evidence.by_task.items():
        enqueues = evidence.enqueues.get(task, [])
        effective = [each for each in enqueues if evidence.may_have_acted(each.call)]
        known = {each.rollout_id for each in effective}
        for rollout in stored:
            if not effective:
                why = "was refused" if enqueues else "nobody enqueued"
                yield unexpected(rollout.rollout_id, f"is there for task {task}, which {why}")
            elif None not in known and rollout.rollout_id not in known:
                yield unexpected(
                    rollout.rollout_id, f"is not the id that task {task} was given: {sorted(map(str, known))}"
                )
        without_id = sum(each.rollout_id is None for each in effective)
        if len(stored) > max(without_id, 0) + len(known - {None}):
            yield unexpected(stored[-1].rollout_id, f"is one of {len(stored)} rollouts of task {task}")


# -- claimed ----------------------------------------------------------------------------------------------------------


def each_number_is_claimed_once(evidence: Evidence) -> Findings:
    claims: dict[tuple[str, int], list[Claim]] = defaultdict(list)
    for claim in evidence.claims:
        if evidence.binds(claim.call):
            claims[claim.rollout_id, claim.sequence].append(claim)
    for (id, sequence), same in claims.items():
        if len(same) > 1:
            who = ", ".join(claim.call.name for claim in same)
            yield Finding(Verdict.CLAIMED_TWICE, id, f"attempt {sequence} was handed to {who}")


def claims_are_stored_as_they_were_answered(evidence: Evidence) -> Findings:
    for claim in evidence.claims:
        rollout = evidence.state.rollouts.get(claim.rollout_id)
        if not evidence.binds(claim.call):
            continue
        if rollout is None:
            yield unexpected(claim.rollout_id, f"was handed to {claim.call.name} and is not there")
            continue
        ids = [attempt.attempt_id for attempt in rollout.attempts]
        if ids[claim.sequence - 1 : claim.sequence] != [claim.attempt_id]:
            yield unexpected(
                claim.rollout_id, f"{claim.call.name} was handed attempt {claim.sequence} as {claim.attempt_id}: {ids}"
            )


def attempts_were_claimed_by_somebody(evidence: Evidence) -> Findings:
    """What no client was told of was claimed by a call without an answer, or by a try that a call has given up.

    A waiting claim that cannot reach the store begins anew, under another token, while it has time. What the try before
    has claimed is given back, or its lease ends; nobody may have worked on it.
    """
    answered = {(claim.rollout_id, claim.attempt_id) for claim in evidence.claims}
    calls = evidence.by_operation["dequeue_rollout"]
    unanswered = Counter(call.asked["worker"] for call in calls if not evidence.binds(call))
    workers = {call.asked["worker"] for call in calls}
    for rollout in evidence.state.rollouts.values():
        for attempt in rollout.attempts:
            pair = (rollout.rollout_id, attempt.attempt_id)
            if pair in answered:
                continue
            given_up = attempt.cause in _GIVEN_UP and not attempt.spans and pair not in evidence.reports
            if given_up and attempt.worker in workers:
                continue
            unanswered[attempt.worker] -= 1
            if unanswered[attempt.worker] < 0:
                yield unexpected(rollout.rollout_id, f"attempt {attempt.attempt_id} was claimed by nobody: {attempt}")


def leases_end_when_the_next_one_claims(evidence: Evidence) -> Findings:
    """Whoever renews after another's claim was acknowledged is told that it holds the rollout no more."""
    claims: dict[str, list[Claim]] = defaultdict(list)
    for claim in evidence.claims:
        if evidence.binds(claim.call):
            claims[claim.rollout_id].append(claim)
    for call in evidence.by_operation["renew"]:
        if call.outcome != "ok":
            continue
        for (id, attempt_id), answer in zip(call.asked["attempts"], call.answer, strict=True):
            mine = [claim.sequence for claim in claims[id] if claim.attempt_id == attempt_id]
            later = [claim for claim in claims[id] if mine and claim.sequence > mine[0]]
            if answer in _HELD and any(claim.call.ended_at < call.invoked_at for claim in later):
                yield unexpected(id, f"{call.name} renewed {attempt_id} ({answer}) after the next attempt was claimed")


# -- completed --------------------------------------------------------------------------------------------------------


def each_finish_is_in_the_log_once(evidence: Evidence) -> Findings:
    entries: dict[str, list[str]] = defaultdict(list)
    for _, id, status in evidence.state.completions:
        entries[id].append(status)
    for id, rollout in evidence.state.rollouts.items():
        noted = entries.pop(id, [])
        if len(noted) > 1:
            yield Finding(Verdict.COMPLETED_TWICE, id, f"is in the completion log {len(noted)} times: {noted}")
        elif rollout.status in FINISHED and noted != [rollout.status]:
            yield unexpected(id, f"is {rollout.status}, the completion log says {noted}")
    for id in entries:
        yield unexpected(id, "is in the completion log and not there")


def nothing_runs_after_its_end(evidence: Evidence) -> Findings:
    for id, rollout in evidence.state.rollouts.items():
        for attempt, next_one in pairwise(rollout.attempts):
            if attempt.status == "succeeded" and attempt.ended is not None and attempt.ended < next_one.started:
                yield Finding(Verdict.COMPLETED_TWICE, id, f"had succeeded before {next_one.attempt_id} was claimed")
        late = [
            attempt for attempt in rollout.attempts if rollout.ended is not None and attempt.started > rollout.ended
        ]
        if late:
            yield unexpected(id, f"attempt {late[0].attempt_id} was claimed after the end")


def what_was_cancelled_stays_so(evidence: Evidence) -> Findings:
    wanted: set[str] = set()
    for call in evidence.by_operation["cancel_rollouts"]:
        if evidence.may_have_acted(call):
            wanted.update(call.asked["rollouts"])
        for id in call.answer if evidence.binds(call) else ():
            rollout = evidence.state.rollouts.get(id)
            if rollout is None or rollout.status != CANCELLED:
                yield unexpected(id, f"{call.name} was told that it is cancelled, it is {rollout and rollout.status}")
    for id, rollout in evidence.state.rollouts.items():
        if rollout.status == CANCELLED and id not in wanted:
            yield unexpected(id, "is cancelled, which nobody asked for")


def rollouts_end_as_their_work_does(evidence: Evidence) -> Findings:
    for id, rollout in evidence.state.rollouts.items():
        if rollout.status not in FINISHED - {CANCELLED}:
            continue
        expected = KINDS[rollout.task["kind"]]
        if rollout.status != expected:
            yield unexpected(id, f"is {rollout.status}, its work is {rollout.task['kind']}")
        latest = rollout.attempts[-1] if rollout.attempts else None
        if latest is None or ROLLOUT_AFTER_ATTEMPT[latest.status] != rollout.status:
            yield unexpected(id, f"is {rollout.status}, its last attempt {latest and latest.status}")


def reports_show_on_their_attempts(evidence: Evidence) -> Findings:
    for (id, attempt_id), calls in evidence.reports.items():
        ends = [call for call in calls if _reported(call) in ENDS and evidence.may_have_acted(call)]
        binding = [call for call in ends if evidence.binds(call)]
        for call in binding:
            if call.answer["status"] != _reported(call):
                yield unexpected(id, f"{call.name} reported {_reported(call)}, the answer is {call.answer['status']}")
        attempt = evidence.attempt(id, attempt_id)
        if attempt is None and binding:
            yield unexpected(id, f"{binding[-1].name} reported the end of {attempt_id}, which is not there")
        elif attempt is not None and binding and attempt.status not in _last_words(ends, binding):
            yield unexpected(
                id, f"{binding[-1].name} reported {_reported(binding[-1])}, {attempt_id} is {attempt.status}"
            )


def ends_were_reported_by_somebody(evidence: Evidence) -> Findings:
    for id, rollout in evidence.state.rollouts.items():
        for attempt in rollout.attempts:
            if attempt.status in ENDS and not _is_reported(evidence, (id, attempt.attempt_id), attempt):
                yield unexpected(id, f"attempt {attempt.attempt_id} is {attempt.status}, which nobody reported")


def _is_reported(evidence: Evidence, pair: Pair, attempt: StoredAttempt) -> bool:
    # A claim that was cancelled or has no answer is taken back by the client itself, which is no call of its own.
    if attempt.cause == "released":
        return True
    calls = evidence.reports.get(pair, [])
    return any(_reported(call) == attempt.status and evidence.may_have_acted(call) for call in calls)


def _reported(call: Call) -> str | None:
    status: str | None = "failed" if call.operation == "release_attempt" else call.asked["status"]
    return status


def _last_words(ends: Sequence[Call], binding: Sequence[Call]) -> set[str | None]:
    """What those report that may have been the last to act; a call without an answer may act at any later time."""
    return {
        _reported(call)
        for call in ends
        if call not in binding or not any(other.invoked_at > call.ended_at for other in binding)
    }


RULES: Final[tuple[Callable[[Evidence], Findings], ...]] = (
    what_was_enqueued_is_there_and_finished,
    nothing_is_there_that_nobody_enqueued,
    each_number_is_claimed_once,
    claims_are_stored_as_they_were_answered,
    attempts_were_claimed_by_somebody,
    leases_end_when_the_next_one_claims,
    each_finish_is_in_the_log_once,
    nothing_runs_after_its_end,
    what_was_cancelled_stays_so,
    rollouts_end_as_their_work_does,
    reports_show_on_their_attempts,
    ends_were_reported_by_somebody,
    *told.RULES,
)
