"""Damage to the raw keys of a namespace: each breaks one rule of conservation, as no operation of a store ever does."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from lightning_store.backends.redis.keys import Keys
from lightning_store.contract import LightningStore
from lightning_store.records import AuditRule, RolloutConfig
from tests.support.factories import some_resources, span_of

QUEUED, RUNNING, FINISHED, DELAYED, TWICE = (f"ro-{number:024x}" for number in (1, 2, 3, 4, 5))
RUNNING_ATTEMPT, FINISHED_ATTEMPT = f"at-{1:012x}", f"at-{2:012x}"
TWICE_FIRST, TWICE_SECOND = f"at-{4:012x}", f"at-{5:012x}"


async def set_sound_scene(store: LightningStore) -> None:
    """A queued, a running, a finished and a delayed rollout, and one with two attempts.

    The store counts its ids, and its time is set.
    """
    await store.enqueue_rollout("queued", metadata={"a": 1}, group_id="g")
    running = await store.start_rollout("running", worker_id="w", config=RolloutConfig(timeout_seconds=9))
    await store.add_many_spans([span_of(running, sequence_id=5), span_of(running, span_id="text", sequence_id=6)])
    finished = await store.start_rollout("finished")
    await store.update_attempt(finished.rollout_id, finished.attempt.attempt_id, status="succeeded", metadata={"b": 2})
    config = RolloutConfig(max_attempts=2, retry_condition=["failed"], retry_delay_seconds=5)
    delayed = await store.start_rollout("delayed", config=config)
    await store.update_attempt(delayed.rollout_id, delayed.attempt.attempt_id, status="failed")
    await store.update_worker("idle", {"load": 1})
    await store.add_resources(some_resources())
    twice = await store.start_rollout("twice")
    await store.start_attempt(twice.rollout_id)


class Names:
    """Names of the control keys of a namespace."""

    def __init__(self, namespace: str) -> None:
        self.keys = Keys(namespace)

    def __call__(self, kind: str, id: str | None = None) -> str:
        return self.keys.control(kind, id)


Plant = Callable[[Any, Names], object]


@dataclass(frozen=True)
class Damage:
    """One damage to the sound scene.

    Attributes:
        name: What is done.
        invariant: The rule of tests/support/invariants.py that it breaks; "" if that knows none.
        rule: The rule of the audit that it breaks; None where the audit does not look so deep, or says so otherwise.
        mends: What is left tells how it was, so that repair mends it.
        plant: Does it, to a synchronous client.
    """

    name: str
    invariant: str
    rule: AuditRule | None
    mends: bool
    plant: Plant

    def __str__(self) -> str:
        return self.name


def _attempt(rollout_id: str, attempt_id: str) -> str:
    return f"{rollout_id}:{attempt_id}"


_UNKNOWN, _META, _INDEX = "only_documented_keys", "meta_is_complete", "every_rollout_is_in_its_indexes_once"
_LISTS, _CLAIMS = "flagged_rollouts_are_those_in_the_lists_once", "queued_rollouts_can_be_claimed_once"
_LIVE, _TOKENS = "live_counters_are_true", "tokens_never_exceed_live_entries"
_DEADLINE, _FINISH = "whoever_works_is_watched_by_a_deadline", "every_finish_is_in_the_log_once"
_ATTEMPTS, _SPANS = "attempts_are_counted_and_ordered", "spans_are_counted_and_known"
_WORKERS, _NOBODY = "workers_are_listed_and_hold_what_they_say", "nothing_belongs_to_nobody"

DAMAGES: Final = tuple(
    Damage(*row)
    for row in (
        ("a key of another kind", _UNKNOWN, "orphan", False, lambda r, k: r.set(k("surprise"), "x")),
        ("a status that is none", _INDEX, "orphan", False,
         lambda r, k: r.zadd(k("status", "lost"), {QUEUED: 1})),
        ("a key of another type", _UNKNOWN, "orphan", False, lambda r, k: r.set(k("group", "h"), "no zset")),
        ("number too low", _META, "counter", True, lambda r, k: r.hset(k("meta"), "number", "2")),
        ("latest resources unknown", _META, "resources", False, lambda r, k: r.hset(k("meta"), "resources", "rs-none")),
        ("two of one number", _META, "record", False, lambda r, k: (
            r.hset(k("rollout", QUEUED), "number", 2),
            r.zadd(k("rollouts"), {QUEUED: 2}), r.zadd(k("status", "queuing"), {QUEUED: 2}),
            r.zadd(k("group", "g"), {QUEUED: 2}))),
        ("not in the index of all", _INDEX, "status_index", True, lambda r, k: r.zrem(k("rollouts"), QUEUED)),
        ("in no status", _INDEX, "status_index", True, lambda r, k: r.zrem(k("status", "queuing"), QUEUED)),
        ("in two statuses", _INDEX, "status_index", True, lambda r, k: r.zadd(k("status", "running"), {QUEUED: 1})),
        ("wrong place", _INDEX, "status_index", True, lambda r, k: r.zadd(k("status", "queuing"), {QUEUED: 7})),
        ("nobody in a status", _INDEX, "status_index", True,
         lambda r, k: r.zadd(k("status", "failed"), {"ro-none": 7})),
        ("nobody in the index of all", _INDEX, "status_index", True,
         lambda r, k: r.zadd(k("rollouts"), {"ro-none": 1})),
        ("not in its group", _INDEX, "status_index", True, lambda r, k: r.zrem(k("group", "g"), QUEUED)),
        ("in another group", _INDEX, "status_index", True, lambda r, k: r.zadd(k("group", "h"), {QUEUED: 1})),
        ("new in a group", _INDEX, "status_index", True, lambda r, k: r.hset(k("rollout", RUNNING), "group", "g")),
        ("record says running", _INDEX, "status_index", True,
         lambda r, k: r.hset(k("rollout", QUEUED), "status", "running")),
        ("entry lost", _LISTS, "queue", True, lambda r, k: r.lpop(k("queue", "default"))),
        ("entry twice", _LISTS, "queue", True, lambda r, k: r.rpush(k("queue", "default"), QUEUED)),
        ("entry of one that runs", _LISTS, "queue", True, lambda r, k: r.rpush(k("queue", "default"), RUNNING)),
        ("entry of nobody", _LISTS, "queue", True, lambda r, k: r.rpush(k("queue", "default"), "ro-none")),
        ("list renamed", _LISTS, "queue", True, lambda r, k: r.rename(k("queue", "default"), k("queue", "other"))),
        ("flag lost", _LISTS, "queue", True, lambda r, k: r.hdel(k("rollout", QUEUED), "queued")),
        ("flag of one that runs", _LISTS, "queue", True, lambda r, k: r.hset(k("rollout", RUNNING), "queued", "1")),
        ("delay lost", _CLAIMS, "queue", True, lambda r, k: r.zrem(k("delayed"), DELAYED)),
        ("delayed and listed", _CLAIMS, "queue", True, lambda r, k: r.zadd(k("delayed"), {QUEUED: 7})),
        ("delayed and running", _CLAIMS, "queue", True, lambda r, k: r.zadd(k("delayed"), {RUNNING: 7})),
        ("nobody delayed", _CLAIMS, "queue", True, lambda r, k: r.zadd(k("delayed"), {"ro-none": 7})),
        ("other delay", _CLAIMS, "queue", True, lambda r, k: r.zadd(k("delayed"), {DELAYED: 7})),
        ("queue counter", _LIVE, "counter", True, lambda r, k: r.hincrby(k("stats"), "queue:default", 1)),
        ("delay counter", _LIVE, "counter", True, lambda r, k: r.hincrby(k("stats"), "delayed:default", -1)),
        ("counter of no queue", _LIVE, "counter", True, lambda r, k: r.hset(k("stats"), "queue:other", 1)),
        ("counters lost", _LIVE, "counter", True, lambda r, k: r.delete(k("stats"))),
        ("too many tokens", _TOKENS, "counter", True, lambda r, k: r.rpush(k("wake", "default"), "1", "1")),
        ("tokens for nothing", _TOKENS, "counter", True, lambda r, k: r.rpush(k("wake", "other"), "1")),
        ("no deadline", _DEADLINE, "deadline", True, lambda r, k: r.zrem(k("deadlines"), RUNNING)),
        ("late deadline", _DEADLINE, "deadline", True, lambda r, k: r.zadd(k("deadlines"), {RUNNING: 1_700_000_010})),
        ("deadline of a finished one", _DEADLINE, "deadline", True, lambda r, k: r.zadd(k("deadlines"), {FINISHED: 1})),
        ("deadline of nobody", _DEADLINE, "deadline", True, lambda r, k: r.zadd(k("deadlines"), {"ro-none": 1})),
        ("log lost", _FINISH, "completion", True, lambda r, k: r.delete(k("completed"))),
        ("finished twice", _FINISH, "completion", True,
         lambda r, k: r.xadd(k("completed"), {"rollout": FINISHED, "status": "succeeded"})),
        ("finish of nobody", _FINISH, "completion", True,
         lambda r, k: r.xadd(k("completed"), {"rollout": "ro-none", "status": "succeeded"})),
        ("end lost", _FINISH, "completion", True, lambda r, k: r.hdel(k("rollout", FINISHED), "end")),
        ("end of one that runs", _FINISH, "completion", True, lambda r, k: r.hset(k("rollout", RUNNING), "end", "1.0")),
        ("note of the finish lost", _FINISH, "completion", True, lambda r, k: r.hdel(k("rollout", FINISHED), "done")),
        ("note of no finish", _FINISH, "completion", True, lambda r, k: r.hset(k("rollout", RUNNING), "done", "1-1")),
        ("finished otherwise", _FINISH, "completion", True,
         lambda r, k: r.hset(k("rollout", FINISHED), "status", "failed")),
        ("attempt lost", _ATTEMPTS, "attempts", False,
         lambda r, k: r.delete(k("attempt", _attempt(RUNNING, RUNNING_ATTEMPT)))),
        ("attempt of a list only", _ATTEMPTS, "attempts", False,
         lambda r, k: r.rpush(k("attempts", TWICE), "at-none")),
        ("attempt of a list of one only", _ATTEMPTS, "attempts", False,
         lambda r, k: r.rpush(k("attempts", RUNNING), "at-none")),
        ("list of attempts lost", _ATTEMPTS, "attempts", True, lambda r, k: r.delete(k("attempts", TWICE))),
        ("list of attempts and the first one lost", _ATTEMPTS, "attempts", False,
         lambda r, k: r.delete(k("attempts", TWICE), k("attempt", _attempt(TWICE, TWICE_FIRST)))),
        ("list of attempts and the latest one lost", _ATTEMPTS, "attempts", True, lambda r, k: (
            r.delete(k("attempts", TWICE)), r.hdel(k("rollout", TWICE), "latest"))),
        ("list of attempts lost, the first one the latest", _ATTEMPTS, "attempts", True, lambda r, k: (
            r.delete(k("attempts", TWICE)), r.hset(k("rollout", TWICE), "latest", TWICE_FIRST))),
        ("attempt missing in the list", _ATTEMPTS, "attempts", True,
         lambda r, k: r.lrem(k("attempts", TWICE), 1, TWICE_SECOND)),
        ("other number of an attempt", _ATTEMPTS, "attempts", True,
         lambda r, k: r.hset(k("attempt", _attempt(TWICE, TWICE_SECOND)), "number", "3")),
        ("other number of the only attempt", _ATTEMPTS, "attempts", False,
         lambda r, k: r.hset(k("attempt", _attempt(RUNNING, RUNNING_ATTEMPT)), "number", "2")),
        ("no latest attempt", _ATTEMPTS, "attempts", True, lambda r, k: r.hdel(k("rollout", RUNNING), "latest")),
        ("other latest attempt", _ATTEMPTS, "attempts", True,
         lambda r, k: r.hset(k("rollout", RUNNING), "latest", "at-none")),
        ("counter of attempts", _ATTEMPTS, "counter", True, lambda r, k: r.hincrby(k("stats"), "attempts", 1)),
        ("uncounted attempt", _ATTEMPTS, "attempts", True,
         lambda r, k: r.hset(k("rollout", RUNNING), "uncounted", "1")),
        ("cause of no end", _ATTEMPTS, "attempts", True,
         lambda r, k: r.hset(k("attempt", _attempt(RUNNING, RUNNING_ATTEMPT)), "cause", "agent")),
        ("cause lost", _ATTEMPTS, "attempts", True,
         lambda r, k: r.hdel(k("attempt", _attempt(FINISHED, FINISHED_ATTEMPT)), "cause")),
        ("end of an attempt lost", _ATTEMPTS, "record", False,
         lambda r, k: r.hdel(k("attempt", _attempt(FINISHED, FINISHED_ATTEMPT)), "end")),
        ("half a reward", _ATTEMPTS, "record", False,
         lambda r, k: r.hset(k("attempt", _attempt(RUNNING, RUNNING_ATTEMPT)), "reward", "1.0")),
        ("counter of spans", _SPANS, "counter", True, lambda r, k: r.hincrby(k("stats"), "spans", 1)),
        ("number of spans", _SPANS, "spans", True, lambda r, k: r.hset(k("rollout", RUNNING), "spans", "5")),
        ("count of spans", _SPANS, "spans", True, lambda r, k: r.hset(k("rollout", RUNNING), "stored", "1")),
        ("count of no spans", _SPANS, "spans", True, lambda r, k: r.hset(k("rollout", FINISHED), "stored", "2")),
        ("ids of spans lost", _SPANS, "spans", False,
         lambda r, k: r.delete(k.keys.span_ids(RUNNING) + f"{RUNNING_ATTEMPT}:0")),
        ("id of no span", _SPANS, "spans", False,
         lambda r, k: r.sadd(k.keys.span_ids(RUNNING) + f"{RUNNING_ATTEMPT}:text:0", ":more")),
        ("span of no attempt", _SPANS, "spans", False,
         lambda r, k: r.xadd(k.keys.spans(RUNNING), {"a": "at-none", "s": "1", "d": "{}"})),
        ("worker not listed", _WORKERS, "worker", True, lambda r, k: r.zrem(k("workers"), "w")),
        ("worker of a list only", _WORKERS, "worker", True, lambda r, k: r.delete(k("worker", "idle"))),
        ("busy with half an attempt", _WORKERS, "worker", True, lambda r, k: r.hdel(k("worker", "w"), "rollout")),
        ("busy with nothing", _WORKERS, "worker", True, lambda r, k: r.hset(k("worker", "idle"), "status", "busy")),
        ("no task", _NOBODY, "record", False, lambda r, k: r.delete(k("task", QUEUED))),
        ("task of nobody", _NOBODY, "orphan", True, lambda r, k: r.set(k("task", "ro-none"), "1")),
        ("metadata of nobody", _NOBODY, "orphan", True, lambda r, k: r.set(k("metadata", "ro-none"), "1")),
        ("attempts of nobody", _NOBODY, "orphan", True, lambda r, k: r.rpush(k("attempts", "ro-none"), "at-1")),
        ("attempt of nobody", _ATTEMPTS, "orphan", True,
         lambda r, k: r.hset(k("attempt", "ro-none:at-1"),
                              mapping={"status": "running", "start": "1.0", "number": "1"})),
        ("metadata of no attempt", _NOBODY, "orphan", True,
         lambda r, k: r.set(k("attempt_metadata", f"{QUEUED}:at-none"), "1")),
        ("stats of no worker", _WORKERS, "orphan", True, lambda r, k: r.set(k("worker_stats", "nobody"), "{}")),
        ("spans of nobody", _NOBODY, "orphan", True,
         lambda r, k: r.xadd(k.keys.spans("ro-none"), {"a": "at", "s": "1", "d": "{}"})),
        ("span ids of nobody", _NOBODY, "orphan", True, lambda r, k: r.sadd(k.keys.span_ids("ro-none") + "at:0", "1")),
        ("resources not listed", _NOBODY, "resources", True, lambda r, k: r.zrem(k("resources"), f"rs-{1:012x}")),
        ("resources of a list only", _NOBODY, "resources", True, lambda r, k: r.zadd(k("resources"), {"rs-none": 9})),
        ("record lost", "", "record", False, lambda r, k: r.delete(k("rollout", RUNNING))),
        ("record lost without a task", "", "orphan", True,
         lambda r, k: r.delete(k("rollout", RUNNING), k("task", RUNNING))),
        ("status lost", "", "record", False, lambda r, k: r.hdel(k("rollout", RUNNING), "status")),
        ("status of an attempt lost", "", "record", False,
         lambda r, k: r.hdel(k("attempt", _attempt(RUNNING, RUNNING_ATTEMPT)), "status")),
    )
)  # fmt: skip


class Vandal:
    """Damages a namespace at random; everything that it does can be mended from what is left.

    Attributes:
        done: What was done, for messages.
    """

    def __init__(self, client: Any, namespace: str, seed: int) -> None:
        self.done: list[str] = []
        self._client = client
        self._name = Names(namespace)
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._ways: list[Callable[[], object]] = [
            self.drop_member,
            self.add_member,
            self.drop_entry,
            self.add_entry,
            self.drop_field,
            self.miscount,
            self.drop_completion,
            self.add_completion,
            self.leave_key,
        ]

    def strike(self) -> None:
        """Do one damage; that there is nothing to damage is fine."""
        way = self._random.choice(self._ways)
        self.done.append(f"{way.__name__}: {way()}")

    def _keys(self, *kinds: str) -> list[bytes]:
        return sorted(key for kind in kinds for key in self._client.scan_iter(match=f"{self._name(kind)}*", count=1000))

    def _one_of(self, *kinds: str) -> bytes:
        return self._random.choice(self._keys(*kinds) or [b"none"])

    def _rollout(self) -> bytes:
        ids = self._client.zrange(self._name("rollouts"), 0, -1)
        return bytes(self._random.choice(ids or [b"ro-none"]))

    def drop_member(self) -> object:
        index = self._one_of("status:", "group:", "rollouts", "deadlines", "delayed", "workers")
        members = self._client.zrange(index, 0, -1) or [b"none"]
        return index, self._client.zrem(index, self._random.choice(members))

    def add_member(self) -> object:
        index = self._random.choice(["status:running", "status:queuing", "group:red", "deadlines", "delayed"])
        id = self._random.choice([self._rollout(), b"ro-none"])
        return index, id, self._client.zadd(self._name(index), {id: self._random.randint(1, 9)})

    def drop_entry(self) -> object:
        queue = self._one_of("queue:")
        return queue, self._client.lrem(queue, 1, self._client.lindex(queue, 0) or b"none")

    def add_entry(self) -> object:
        queue, id = self._random.choice(["first", "other"]), self._random.choice([self._rollout(), b"ro-none"])
        return queue, id, self._client.rpush(self._name("queue", queue), id)

    def drop_field(self) -> object:
        rollout = self._rollout()
        field = self._random.choice(["queued", "end", "done", "latest", "uncounted", "losses", "since"])
        return rollout, field, self._client.hdel(self._name("rollout", rollout.decode()), field)

    def miscount(self) -> object:
        field = self._random.choice(["attempts", "spans", "queue:first", "delayed:default", "queue:nothing"])
        return field, self._client.hincrby(self._name("stats"), field, self._random.choice([-1, 1]))

    def drop_completion(self) -> object:
        entries = self._client.xrange(self._name("completed")) or [(b"1-1", {})]
        return self._client.xdel(self._name("completed"), self._random.choice(entries)[0])

    def add_completion(self) -> object:
        fields = {
            "rollout": self._rollout(), "status": "failed", "mode": "", "group": "", "start": "1.000000",
            "end": "1.000000",
        }  # fmt: skip
        return self._client.xadd(self._name("completed"), fields)

    def leave_key(self) -> object:
        name = self._random.choice([self._name("task", "ro-gone"), self._name("metadata", "ro-gone")])
        return name, self._client.set(name, "1")
