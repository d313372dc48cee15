"""Compares what was acknowledged under fire with what a store holds afterwards."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lightning_store.contract import LightningStore
from lightning_store.records import Attempt, Rollout
from lightning_store.spans import Span
from tests.support.fire_journal import Story, own_id

Finding = str


@dataclass(frozen=True)
class Holding:
    """Everything that a store holds of rollouts."""

    rollouts: dict[str, Rollout]
    attempts: dict[str, list[Attempt]]
    spans: dict[str, list[Span]]
    finishes: Counter[str]


async def holding_of(store: LightningStore) -> Holding:
    """Read all of it."""
    rollouts = {rollout.rollout_id: rollout for rollout in await store.query_rollouts()}
    ids = list(rollouts)
    spans = await store.query_many_spans(ids)
    page = await store.completions(limit=1_000_000)
    return Holding(
        rollouts,
        {id: list(await store.query_attempts(id)) for id in ids},
        {id: list(spans[id]) for id in ids},
        Counter(entry.rollout_id for entry in page.items),
    )


def findings(story: Story, held: Holding) -> list[Finding]:
    """Everything that contradicts an acknowledgement; empty when all is well.

    Of an operation that was not acknowledged all is there or nothing.
    """
    rules = (_nothing_crashed, _rollouts, _claims, _spans, _numbers, _ends, _removals)
    return [finding for rule in rules for finding in rule(story, held)]


def _nothing_crashed(story: Story, _held: Holding) -> Iterator[Finding]:
    yield from story.crashes
    for call in story.answered("audit"):
        yield from (f"an audit under fire: {finding}" for finding in call.answer)


def _may_be_gone(story: Story) -> set[str]:
    """Rollouts that somebody has cancelled, which are pruned, or deleted."""
    return {id for what in ("cancel", "delete") for call in story.of(what) for id in call.given}


def _rollouts(story: Story, held: Holding) -> Iterator[Finding]:
    gone = _may_be_gone(story)
    unknown_and_gone = gone - {id for call in story.answered("enqueue") for id in call.answer}
    ids = {rollout.input["task"]: id for id, rollout in held.rollouts.items()}
    if len(ids) != len(held.rollouts):
        yield "a task is there more than once"
    meant: set[str] = set()
    for call in story.of("enqueue"):
        meant |= set(call.given)
        there = [ids.get(task) for task in call.given]
        if call.is_pending:
            missing = {task for task, id in zip(call.given, there, strict=True) if id is None}
            if missing and any(there) and not _may_be_removed(missing, unknown_and_gone):
                yield f"half of an enqueue is there: {call.given}, {there}"
            continue
        for task, id, is_at in zip(call.given, call.answer, there, strict=True):
            if is_at != id and not (is_at is None and id in gone):
                yield f"lost: {task} was acknowledged as {id}, is {is_at}"
    yield from (f"nobody has asked for {task}" for task in set(ids) - meant)


def _may_be_removed(tasks: set[str], ids: set[str]) -> bool:
    """Whether tasks can be those of rollouts that others claimed and removed before their enqueue was told of."""
    generated = [id for id in ids if id.startswith("ro-")]
    return {own_id(task) for task in tasks} <= ids or len(tasks) <= len(generated)


def _claims(story: Story, held: Holding) -> Iterator[Finding]:
    gone = _may_be_gone(story)
    answered = [(call.who, *claim) for call in story.answered("claim") for claim in call.answer]
    for which, claims in (
        ("number", Counter((rollout_id, number) for _, rollout_id, number, _ in answered)),
        ("id", Counter((rollout_id, attempt_id) for _, rollout_id, _, attempt_id in answered)),
    ):
        yield from (f"claimed twice by {which}: {claim}" for claim, count in claims.items() if count > 1)
    for who, rollout_id, number, attempt_id in answered:
        if rollout_id not in held.rollouts:
            if rollout_id not in gone:
                yield f"lost: {rollout_id}, claimed by {who}"
            continue
        tried = held.attempts[rollout_id]
        found = tried[number - 1] if number <= len(tried) else None
        if found is None or (found.attempt_id, found.worker_id) != (attempt_id, who):
            yield f"lost: attempt {number} of {rollout_id} by {who}, is {found}"
    limits = {call.who: call.given for call in story.pending("claim")}
    known = {(rollout_id, attempt_id) for _, rollout_id, _, attempt_id in answered}
    unknown = Counter(
        attempt.worker_id
        for id, tried in held.attempts.items()
        for attempt in tried
        if (id, attempt.attempt_id) not in known
    )
    for who, count in unknown.items():
        if count > limits.get(who or "", 0):
            yield f"{who} has {count} attempts that were not acknowledged, asked for {limits.get(who or '', 0)}"


def _spans(story: Story, held: Holding) -> Iterator[Finding]:
    gone = _may_be_gone(story)
    there = {(id, span.attempt_id, span.span_id) for id, spans in held.spans.items() for span in spans}
    if len(there) != sum(map(len, held.spans.values())):
        yield "a span is there more than once"
    for call in story.of("spans"):
        rollout_id, attempt_id, span_ids = call.given
        missing = [each for each in span_ids if (rollout_id, attempt_id, each) not in there]
        if not missing or (rollout_id not in held.rollouts and rollout_id in gone):
            continue
        if not call.is_pending:
            yield f"lost: spans {missing} of {rollout_id}"
        elif len(missing) < len(span_ids):
            yield f"half of the spans are there: {missing} of {span_ids} are not"


def _numbers(story: Story, _held: Holding) -> Iterator[Finding]:
    handed_out: defaultdict[str, list[int]] = defaultdict(list)
    for call in story.answered("numbers"):
        for rollout_id, number in zip(call.given, call.answer, strict=True):
            handed_out[rollout_id].append(number)
    for call in story.answered("spans"):
        handed_out[call.given[0]] += call.answer
    for rollout_id, numbers in handed_out.items():
        if len(set(numbers)) != len(numbers):
            yield f"a sequence number of {rollout_id} was handed out twice: {sorted(numbers)}"


def _ends(story: Story, held: Holding) -> Iterator[Finding]:
    attempts = {(id, each.attempt_id): each for id, tried in held.attempts.items() for each in tried}
    cancelled = {id for call in story.of("cancel") for id in call.given}
    for call in story.answered("end"):
        rollout_id, attempt_id = call.given
        if rollout_id not in held.rollouts:
            continue  # whether it may be gone is looked at elsewhere
        attempt = attempts[rollout_id, attempt_id]
        if attempt.status != call.answer:
            yield f"lost: {call.answer} of attempt {attempt_id} of {rollout_id}, is {attempt.status}"
        if held.attempts[rollout_id][-1] is attempt and call.answer == "succeeded":
            expected = {"succeeded"} | ({"cancelled"} if rollout_id in cancelled else set())
            if held.rollouts[rollout_id].status not in expected:
                yield f"{rollout_id} has succeeded, is {held.rollouts[rollout_id].status}"
    for id, count in held.finishes.items():
        if count != 1:
            yield f"{id} has finished {count} times"


def _removals(story: Story, held: Holding) -> Iterator[Finding]:
    cancelled = {id for call in story.answered("cancel") for id in call.answer}
    for id in cancelled & set(held.rollouts):
        if held.rollouts[id].status != "cancelled":
            yield f"{id} was cancelled, is {held.rollouts[id].status}"
    deleted = [id for call in story.answered("delete") for id in call.answer]
    yield from (f"{id} was deleted and is there" for id in set(deleted) & set(held.rollouts))
    if len(set(deleted)) != len(deleted):
        yield "a rollout was deleted twice"
    known = {id for call in story.answered("enqueue") for id in call.answer}
    pruned: Any = sum(call.answer for call in story.answered("prune"))
    missing = len(known - set(held.rollouts))
    if pruned + len(deleted) > missing + sum(len(call.given) for call in story.pending("enqueue")):
        yield f"{pruned} pruned and {len(deleted)} deleted, only {missing} are missing"
