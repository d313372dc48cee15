"""What must hold of all else that clients were told: spans, rewards, resources and what they read."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import pairwise
from typing import Final

from chaos.evidence import Evidence, Pair
from chaos.findings import Findings, unexpected
from chaos.history import Call
from chaos.work import reward_of


def spans_are_there_once(evidence: Evidence) -> Findings:
    stored: dict[Pair, Counter[str]] = {
        (id, attempt.attempt_id): Counter(attempt.spans)
        for id, rollout in evidence.state.rollouts.items()
        for attempt in rollout.attempts
    }
    sent: set[tuple[str, str, str]] = set()
    for call in evidence.by_operation["add_many_spans"]:
        sent.update(tuple(span) for span in call.asked["spans"])
        for id, attempt_id, span_id in call.answer if evidence.binds(call) else ():
            if not stored.get((id, attempt_id), Counter())[span_id]:
                yield unexpected(id, f"span {span_id} was acknowledged to {call.name} and is not there")
    for (id, attempt_id), spans in stored.items():
        for span_id, count in spans.items():
            if count > 1:
                yield unexpected(id, f"span {span_id} is stored {count} times")
            if (id, attempt_id, span_id) not in sent:
                yield unexpected(id, f"span {span_id} was sent by nobody")


def rewards_are_those_of_the_work(evidence: Evidence) -> Findings:
    doubtful = {
        tuple(span[:2])
        for call in evidence.by_operation["add_many_spans"]
        if call.outcome == "ok" and not evidence.binds(call)
        for span in call.asked["spans"]
    }
    for id, rollout in evidence.state.rollouts.items():
        if rollout.status != "succeeded" or not rollout.attempts:
            continue
        latest = rollout.attempts[-1]
        is_known = not latest.lost_spans and (id, latest.attempt_id) not in doubtful
        if is_known and rollout.reward != reward_of(rollout.task):
            yield unexpected(id, f"has the reward {rollout.reward}, its work gives {reward_of(rollout.task)}")


def versions_count_updates(evidence: Evidence) -> Findings:
    calls: dict[str, list[Call]] = defaultdict(list)
    for call in evidence.by_operation["update_resources"]:
        calls[call.asked["resources"]].append(call)
    for id, updates in calls.items():
        versions = [call.answer["version"] for call in updates if evidence.binds(call)]
        if any(earlier >= later for earlier, later in pairwise(versions)):
            yield unexpected(id, f"versions do not grow with each update: {versions}")
        there = evidence.state.resources.get(id, 0)
        most = sum(map(evidence.may_have_acted, updates))
        if not max(versions, default=0) <= there <= most:
            yield unexpected(id, f"is at version {there} after {versions[-1:]} was acknowledged and {most} were sent")


def readers_of_completions_miss_nothing(evidence: Evidence) -> Findings:
    """Each entry of the log, as far as it was read, was read once."""
    told: Counter[tuple[str, str]] = Counter()
    for_good: set[tuple[str, str]] = set()
    last: dict[str, tuple[float, ...]] = {}
    for call in evidence.by_operation["completions"]:
        for cursor, id, _ in call.answer or ():
            told[cursor, id] += 1
            last[call.process] = max(last.get(call.process, (-math.inf,)), _place(cursor))
            if evidence.binds(call):
                for_good.add((cursor, id))
    reached = max(last.values(), default=(-math.inf,))
    for cursor, id, _ in evidence.state.completions:
        count = told.pop((cursor, id), 0)
        if count != 1 and _place(cursor) <= reached:
            yield unexpected(id, f"its completion {cursor} was read {count} times")
    for cursor, id in told:
        if (cursor, id) in for_good:
            yield unexpected(id, f"its completion {cursor} was read and is not in the log")


def reads_tell_what_stays(evidence: Evidence) -> Findings:
    """Who was told that a rollout has finished finds it finished in the same way at the end."""
    for call in evidence.by_operation["wait_for_rollouts"]:
        for id, status in call.answer if evidence.binds(call) else ():
            rollout = evidence.state.rollouts.get(id)
            if rollout is None or rollout.status != status:
                yield unexpected(id, f"{call.name} was told that it is {status}, it is {rollout and rollout.status}")


def _place(cursor: str) -> tuple[float, ...]:
    return tuple(map(float, cursor.split("-")))


RULES: Final[tuple[Callable[[Evidence], Findings], ...]] = (
    spans_are_there_once,
    rewards_are_those_of_the_work,
    versions_count_updates,
    readers_of_completions_miss_nothing,
    reads_tell_what_stays,
)
