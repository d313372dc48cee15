"""What must hold in the raw keys of a namespace whenever no script runs.

Each rule is a generator of findings about a keyspace; `check` runs them all. No finding means that no work is lost:
every rollout is in exactly one status index, every queued one can be claimed exactly once, every active one is watched
by a deadline, every finish is in the completion log once.

The audit checks the same on a live namespace. This is its oracle, and shares no code with it on purpose: the rules of
the audit are Lua, in part the snippets of the scripts that write, so a fault in these would hide from it. Here
everything is read at once and in full, spans included, which only a namespace that stands still allows.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

from lightning_store.backends.redis.keys import SCHEMA
from lightning_store.records import DEFAULT_QUEUE
from lightning_store.status import ACTIVE, FINISHED, LIVE, QUEUED, ROLLOUT_STATUSES, STAMPS_END_TIME
from tests.support.keyspace import Keyspace, read_keyspace

Finding = str
Rule = Callable[[Keyspace], Iterator[Finding]]

MICROSECOND: Final = 1e-6


def check(client: Any, namespace: str) -> None:
    """Assert that every rule holds; `client` is synchronous and does not decode."""
    found = findings(read_keyspace(client, namespace))
    assert not found, "\n".join(found)


def findings(keys: Keyspace) -> list[Finding]:
    """What is wrong, each with the name of its rule."""
    return [f"{rule.__name__}: {finding}" for rule in RULES for finding in rule(keys)]


def queue_of(rollout: dict[str, str]) -> str:
    return rollout.get("queue", DEFAULT_QUEUE)


def ids_of_attempts(keys: Keyspace, rollout_id: str) -> list[str]:
    """The attempts that a rollout says it has, in order: those of its list, without one the latest is the only one."""
    latest = keys.of("rollout").get(rollout_id, {}).get("latest")
    return keys.one("attempts", rollout_id) or ([] if latest is None else [latest])


def attempts_of(keys: Keyspace, rollout_id: str) -> dict[str, dict[str, str]]:
    """The attempts of a rollout in order, by id; those without a record are missing."""
    names = {id: f"{rollout_id}:{id}" for id in ids_of_attempts(keys, rollout_id)}
    return {id: keys.of("attempt")[name] for id, name in names.items() if name in keys.of("attempt")}


def latest_of(keys: Keyspace, rollout_id: str) -> dict[str, str] | None:
    rollout = keys.of("rollout")[rollout_id]
    return keys.of("attempt").get(f"{rollout_id}:{rollout.get('latest')}")


def differences(what: str, found: Any, expected: Any) -> Iterator[Finding]:
    """What two collections of hashable items do not share."""
    wanted, there = Counter(iter(expected)), Counter(iter(found))
    missing, extra = wanted - there, there - wanted
    if missing:
        yield f"{what}: missing {sorted(missing.elements(), key=str)[:5]}"
    if extra:
        yield f"{what}: too many {sorted(extra.elements(), key=str)[:5]}"


# -- rules -----------------------------------------------------------------------------------------------------------


def only_documented_keys(keys: Keyspace) -> Iterator[Finding]:
    yield from (f"{name} is a {type_}" for name, type_ in keys.strangers.items())


def meta_is_complete(keys: Keyspace) -> Iterator[Finding]:
    meta = keys.one("meta")
    if keys.kinds and meta.get("schema") != SCHEMA:
        yield f"schema is {meta.get('schema')}"
    numbers = [number for index in ("rollouts", "workers", "resources") for number in keys.one(index).values()]
    yield from differences("creation numbers are unique", numbers, set(numbers))
    if numbers and max(numbers) > float(meta.get("number", "0")):
        yield f"number {meta.get('number')} is below {max(numbers)}"
    latest = meta.get("resources")
    if latest is not None and latest not in keys.of("resources"):
        yield f"latest resources {latest} do not exist"


def every_rollout_is_in_its_indexes_once(keys: Keyspace) -> Iterator[Finding]:
    rollouts = keys.of("rollout")
    numbered = {(id, float(rollout["number"])) for id, rollout in rollouts.items()}
    yield from differences("rollouts", keys.one("rollouts").items(), numbered)
    for status in {*ROLLOUT_STATUSES, *keys.of("status")}:
        mine = {(id, number) for id, number in numbered if rollouts[id]["status"] == status}
        yield from differences(f"status {status}", keys.one("status", status).items(), mine)
    for group in {*keys.of("group"), *(rollout["group"] for rollout in rollouts.values() if "group" in rollout)}:
        mine = {(id, number) for id, number in numbered if rollouts[id].get("group") == group}
        yield from differences(f"group {group}", keys.one("group", group).items(), mine)


def flagged_rollouts_are_those_in_the_lists_once(keys: Keyspace) -> Iterator[Finding]:
    flagged = [(queue_of(rollout), id) for id, rollout in keys.of("rollout").items() if "queued" in rollout]
    yield from differences("queues", [(name, id) for name, ids in keys.of("queue").items() for id in ids], flagged)


def queued_rollouts_can_be_claimed_once(keys: Keyspace) -> Iterator[Finding]:
    rollouts, delayed = keys.of("rollout"), keys.one("delayed")
    waiting = [id for id, rollout in rollouts.items() if rollout["status"] in QUEUED and "queued" not in rollout]
    yield from differences("delayed", delayed, waiting)
    for id, ready in delayed.items():
        if id in rollouts and float(rollouts[id].get("since", "nan")) != ready:
            yield f"delayed {id} is ready at {ready}, its record says {rollouts[id].get('since')}"


def live_counters_are_true(keys: Keyspace) -> Iterator[Finding]:
    true: Counter[str] = Counter()
    for id, rollout in keys.of("rollout").items():
        if rollout["status"] in QUEUED:
            true[f"{'delayed' if id in keys.one('delayed') else 'queue'}:{queue_of(rollout)}"] += 1
    stats = {name: int(value) for name, value in keys.one("stats").items() if ":" in name}
    yield from (f"{name} is {stats.get(name, 0)}, in truth {true[name]}" for name in {*true, *stats}
                if stats.get(name, 0) != true[name])  # fmt: skip


def tokens_never_exceed_live_entries(keys: Keyspace) -> Iterator[Finding]:
    waiting = [rollout for rollout in keys.of("rollout").values() if rollout["status"] in QUEUED]
    live = Counter(queue_of(rollout) for rollout in waiting if "queued" in rollout)
    delayed = {queue_of(rollout) for rollout in waiting if "queued" not in rollout}
    for name, tokens in keys.of("wake").items():
        if len(tokens) > max(live[name], name in delayed):
            yield f"{len(tokens)} tokens for {live[name]} entries of {name}"


def whoever_works_is_watched_by_a_deadline(keys: Keyspace) -> Iterator[Finding]:
    expected = {}
    for id, rollout in keys.of("rollout").items():
        attempt = latest_of(keys, id)
        if attempt is not None and attempt["status"] in LIVE:
            expected[id] = deadline_of(rollout, attempt)
        elif rollout["status"] in ACTIVE:
            expected[id] = math.inf
    deadlines = keys.one("deadlines")
    yield from differences("deadlines", deadlines, expected)
    for id, at in deadlines.items():
        true = expected.get(id, at)
        # Lazy deadlines may lie before the true one, never behind it; without limits there is nothing to be lazy about.
        if at > true + MICROSECOND or (math.isinf(true) and at != true):
            yield f"deadline of {id} is {at}, in truth {true}"


def deadline_of(rollout: dict[str, str], attempt: dict[str, str]) -> float:
    """When a live attempt is late: rule 2.4 of the contract, leases and grace included."""
    start = float(attempt["start"])
    overdue = start + float(rollout.get("timeout", "inf"))
    silence = min(float(rollout.get("unresponsive", "inf")), float(attempt.get("lease", "inf")))
    silent = float(attempt.get("beat", start)) + silence
    return min(overdue, max(silent, float(attempt.get("grace_end", "-inf"))))


def every_finish_is_in_the_log_once(keys: Keyspace) -> Iterator[Finding]:
    rollouts, log = keys.of("rollout"), dict(keys.one("completed"))
    noted = [(entry, id) for id, rollout in rollouts.items() for entry in rollout.get("done", "").split(",") if entry]
    yield from differences("log", [(entry, fields["rollout"].decode()) for entry, fields in log.items()], noted)
    for id, rollout in rollouts.items():
        finished = rollout["status"] in FINISHED
        if finished != ("end" in rollout):
            yield f"{id} is {rollout['status']} with end {rollout.get('end')}"
        last = log.get(rollout.get("done", "").rpartition(",")[2])
        if finished and (last is None or last["status"].decode() != rollout["status"]):
            yield f"the last finish of {id} is {last}, its status {rollout['status']}"


def attempts_are_counted_and_ordered(keys: Keyspace) -> Iterator[Finding]:
    owners = {*keys.of("rollout"), *keys.of("attempts")}
    listed = [f"{id}:{attempt}" for id in owners for attempt in ids_of_attempts(keys, id)]
    yield from differences("attempts", keys.of("attempt"), listed)
    yield from differences("stats", {"attempts": int(keys.one("stats").get("attempts", "0"))}.items(),
                           {"attempts": len(listed)}.items())  # fmt: skip
    for id, rollout in keys.of("rollout").items():
        attempts = attempts_of(keys, id)
        numbers = [int(attempt["number"]) for attempt in attempts.values()]
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"attempts of {id} are numbered {numbers}"
        if rollout.get("latest") != (list(attempts)[-1] if attempts else None):
            yield f"latest attempt of {id} is {rollout.get('latest')}"
        kinds = [attempt["uncounted"] for attempt in attempts.values() if "uncounted" in attempt]
        counted = (int(rollout.get("uncounted", "0")), int(rollout.get("losses", "0")))
        if counted != (len(kinds), kinds.count("lost")):
            yield f"{id} counts {counted} uncounted and lost attempts, in truth {kinds}"
        for attempt_id, attempt in attempts.items():
            yield from _attempt_is_sound(f"{id}:{attempt_id}", attempt)


def _attempt_is_sound(name: str, attempt: dict[str, str]) -> Iterator[Finding]:
    if (attempt["status"] in LIVE) == ("cause" in attempt):
        yield f"{name} is {attempt['status']} with cause {attempt.get('cause')}"
    if attempt["status"] in STAMPS_END_TIME and "end" not in attempt:
        yield f"{name} is {attempt['status']} without end"
    if ("reward" in attempt) != ("reward_number" in attempt):
        yield f"{name} has half a reward"


def spans_are_counted_and_known(keys: Keyspace) -> Iterator[Finding]:
    stored: Counter[str] = Counter()
    for name, entries in keys.of("spans").items():
        id = name.strip("{}")
        numbers = [int(fields["s"]) for _, fields in entries]
        if numbers and max(numbers) > int(keys.of("rollout").get(id, {}).get("spans", "0")):
            yield f"{id} has span {max(numbers)} and counts to {keys.of('rollout').get(id, {}).get('spans')}"
        stored.update(f"{name}:{fields['a'].decode()}" for _, fields in entries)
    known: Counter[str] = Counter()
    for name, ids in keys.of("spanids").items():
        rollout_id, attempt_id, *_ = name.split(":")
        known[f"{rollout_id}:{attempt_id}"] += len(ids)
    yield from differences("span ids", known.elements(), stored.elements())
    for id, rollout in keys.of("rollout").items():
        mine = [count for name, count in stored.items() if name.startswith(f"{{{id}}}:")]
        if sum(mine) != int(rollout.get("stored", "0")):
            yield f"{id} has {sum(mine)} spans and counts {rollout.get('stored')}"
        evicted = list(attempts_of(keys, id))[: int(rollout.get("evicted", "0"))]
        yield from differences("spans of evicted attempts", {f"{{{id}}}:{each}" for each in evicted} & set(stored), ())
    attempts = {f"{{{id}}}:{attempt}" for id in keys.of("rollout") for attempt in ids_of_attempts(keys, id)}
    yield from differences("attempts of spans", set(stored) - attempts, ())
    if int(keys.one("stats").get("spans", "0")) != stored.total():
        yield f"counter is {keys.one('stats').get('spans')}, in truth {stored.total()}"


def workers_are_listed_and_hold_what_they_say(keys: Keyspace) -> Iterator[Finding]:
    workers = keys.of("worker")
    yield from differences("workers", keys.one("workers"), workers)
    yield from differences("stats of unknown workers", set(keys.of("worker_stats")) - set(workers), ())
    for id, worker in workers.items():
        held = ("rollout" in worker, "attempt" in worker)
        allowed = {"busy": {(True, True)}, "idle": {(False, False)}}.get(
            worker["status"], {(True, True), (False, False)}
        )
        if held not in allowed:
            yield f"{id} is {worker}"


def nothing_belongs_to_nobody(keys: Keyspace) -> Iterator[Finding]:
    rollouts = set(keys.of("rollout"))
    yield from differences("tasks", keys.of("task"), rollouts)
    for kind in ("metadata", "attempts"):
        yield from differences(f"{kind} of nobody", set(keys.of(kind)) - rollouts, ())
    yield from differences("metadata of no attempt", set(keys.of("attempt_metadata")) - set(keys.of("attempt")), ())
    for kind in ("spans", "spanids", "rewards"):
        owners = {name.partition("}")[0].lstrip("{") for name in keys.of(kind)}
        yield from differences(f"{kind} of nobody", owners - rollouts, ())
    yield from differences("resources", keys.one("resources"), set(keys.of("resources")) - {""})


RULES: Final[tuple[Rule, ...]] = (
    only_documented_keys,
    meta_is_complete,
    every_rollout_is_in_its_indexes_once,
    flagged_rollouts_are_those_in_the_lists_once,
    queued_rollouts_can_be_claimed_once,
    live_counters_are_true,
    tokens_never_exceed_live_entries,
    whoever_works_is_watched_by_a_deadline,
    every_finish_is_in_the_log_once,
    attempts_are_counted_and_ordered,
    spans_are_counted_and_known,
    workers_are_listed_and_hold_what_they_say,
    nothing_belongs_to_nobody,
)
