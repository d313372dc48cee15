"""The audit of a live namespace in Redis: bounded looks, each of them atomic; the rules and mends are in `lua/audit_*`.

What no single look can tell (an entry of a list without its rollout, a key that belongs to nothing, a counter) is
suspected here, from reads that others may overtake, and told by a script that looks at the suspect again.
"""

import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from lightning_store.backends.redis import codec
from lightning_store.backends.redis.audit_spans import SpanAudit
from lightning_store.backends.redis.connection import Connections
from lightning_store.backends.redis.core import RedisCore, chunks
from lightning_store.backends.redis.keys import SCRATCH, SPAN_KINDS, TYPES, Keys
from lightning_store.backends.redis.scripts import Argument
from lightning_store.errors import AccessDeniedError, InternalStoreError
from lightning_store.findings import Findings
from lightning_store.records import AuditReport, AuditRule
from lightning_store.status import ROLLOUT_STATUSES

ROLLOUTS_AT_ONCE: Final = 10
KEYS_AT_ONCE: Final = 50
WINDOW: Final = 1000
"""Entries of a list, log or index that one command reads."""

COMPARED_AT_ONCE: Final = 200_000
"""Entries of a list that one script may compare while it looks for suspects."""

QUEUES_AT_ONCE: Final = 5
ROUNDS: Final = 3
QUICK_SECONDS: Final = 1.0
"""A walk that took no longer is repeated if its counts were overtaken."""

_OF_SPANS: Final = frozenset(kind.partition(":")[0] for kind in SPAN_KINDS)
_OF_ROLLOUTS: Final[tuple[tuple[AuditRule, str], ...]] = (
    ("status_index", "rollouts"),
    *(("status_index", f"status:{status}") for status in ROLLOUT_STATUSES),
    ("deadline", "deadlines"),
    ("queue", "delayed"),
)

Run = Callable[..., Awaitable[Any]]


class AuditOperations(RedisCore):
    """The audit of the contract."""

    async def audit(self, *, repair: bool = False) -> AuditReport:
        """See the contract.

        Orphan keys can only be found with SCAN, which an ACL may refuse: then they are reported as unchecked. Counters
        of attempts and spans, and of queues with over 1,000 entries, are compared exactly if nothing that they count
        changes during the walk; else only with what can be told at once.
        """

        def run(script: str, **values: Argument | Sequence[Argument]) -> Awaitable[Any]:
            given = {"now": self._now(), "repair": "1" if repair else "", "token": self.ids.token()}
            return self._run(script, **(given | values))

        spans = SpanAudit(self._connections, self._keys, self._scripts, repair=repair)
        return await NamespaceAudit(self._connections, self._keys, run, spans).report()


@dataclass
class Tally:
    """What a walk along all rollouts has counted.

    Attributes:
        listed: By queue, the rollouts that say that they lie in its list, in order of creation.
        counters: True values of the counters.
    """

    rollouts: int = 0
    listed: defaultdict[str, dict[bytes, None]] = field(default_factory=lambda: defaultdict(dict))
    counters: Counter[str] = field(default_factory=Counter)

    def add(self, id: bytes, attempts: int, spans: int, queue: bytes, waits: bytes) -> None:
        """Count one rollout, as audit_rollouts.lua tells of it."""
        name = codec.text(queue)
        self.rollouts += 1
        self.counters["attempts"] += attempts
        self.counters["spans"] += spans
        if waits == b"delayed":
            self.counters[f"delayed:{name}"] += 1
        elif waits:
            self.listed[name][id] = None
            self.counters[f"queue:{name}"] += waits == b"live"


class NamespaceAudit:
    """One audit."""

    def __init__(self, connections: Connections, keys: Keys, run: Run, spans: SpanAudit) -> None:
        """Begin an audit.

        Args:
            connections: For reading commands.
            keys: Names of the keys.
            run: Runs a script with the time, a token, and whether to repair.
            spans: Looks at spans, on a Cluster.
        """
        self._connections = connections
        self._keys = keys
        self._run = run
        self._spans = spans
        self._findings = Findings()
        self._unchecked: list[str] = []
        self._queues: set[str] = set()
        self._groups: set[bytes] = set()
        self._workers: set[bytes] = set()
        self._unlisted: list[bytes] = []

    async def report(self) -> AuditReport:
        """Look at everything."""
        began = time.monotonic()
        tally = Tally()
        for what, part in (
            ("meta", self._check_meta),
            ("keys", self._check_keys),
            ("completion log", self._check_log),
            ("indexes", self._check_indexes),
            ("workers", self._check_workers),
        ):
            await self._try(what, part)
        await self._try("rollouts, queues and counters", lambda: self._check_rollouts(tally))
        seconds = time.monotonic() - began
        return self._findings.report(rollouts=tally.rollouts, seconds=seconds, unchecked=self._unchecked)

    async def _try(self, what: str, part: Callable[[], Awaitable[None]]) -> None:
        """Do a part of the audit; a key of a wrong type stops only this part."""
        try:
            await part()
        except InternalStoreError as error:
            self._unchecked.append(f"{what}: {error}")

    def _note(self, flat: Sequence[bytes]) -> None:
        """Note the findings of a script."""
        parts = [part.decode("utf-8", "replace") for part in flat]
        for rule, id, problem, repaired in zip(*(iter(parts),) * 4, strict=True):
            self._findings.add(cast("AuditRule", rule), id, problem, repaired=bool(repaired))

    async def _command(self, *parts: Argument) -> Any:
        return await self._connections.command(*parts)

    async def _check_meta(self) -> None:
        """First of all, for what is mended later may need a new creation number."""
        self._note(await self._run("audit_meta"))

    # -- keys --------------------------------------------------------------------------------------------------------

    async def _check_keys(self) -> None:
        """Every key has its type and belongs to something."""
        try:
            async for names in self._connections.scan(f"*ls:{self._keys.namespace}[:}}]*", WINDOW):
                for chunk in chunks(names, KEYS_AT_ONCE):
                    await self._look_at_keys(chunk)
        except AccessDeniedError:
            self._unchecked.append("orphan: this user may not SCAN, which alone finds keys that belong to nothing")
            return
        await self._list_attempts()

    async def _look_at_keys(self, names: Sequence[bytes]) -> None:
        known: list[bytes] = []
        items: list[Argument] = []
        elsewhere: list[tuple[bytes, bytes, str]] = []
        for name in names:
            split = self._keys.split(name)
            if split is None or split[0] == SCRATCH:
                continue
            kind, id = split
            self._remember(kind, id)
            if kind in _OF_SPANS:
                id = id[1:].partition(b"}")[0]
            if kind in _OF_SPANS and self._connections.is_cluster:
                elsewhere.append((name, id, _type_of(kind, id)))
                continue
            known.append(name)
            items += [kind, id, _type_of(kind, id)]
        await self._spans.look_at(elsewhere, self._findings)
        if known:
            flat = await self._run("audit_keys", names=known, items=items)
            self._note(flat)
            unlisted = [flat[at + 1] for at in range(0, len(flat), 4) if flat[at] == b"attempts" and not flat[at + 3]]
            self._unlisted += [self._keys.control("attempt", "").encode() + id for id in unlisted]

    def _remember(self, kind: str, id: bytes) -> None:
        if kind in {"queue", "wake"} and id:
            self._queues.add(id.decode("utf-8", "replace"))
        elif kind == "group" and id:
            self._groups.add(id)
        elif kind == "worker" and id:
            self._workers.add(id)

    async def _list_attempts(self) -> None:
        """Look at attempts that no list has once more, in their order, so that a list that was lost can be mended."""
        numbers = await self._connections.commands([("HGET", name, "number") for name in self._unlisted])
        in_order = sorted(zip(self._unlisted, numbers, strict=True), key=lambda pair: _number(pair[1]))
        for chunk in chunks([name for name, _ in in_order], KEYS_AT_ONCE):
            items = [part for name in chunk for part in ("attempt", _id_of(self._keys, name), "hash")]
            self._note(await self._run("audit_keys", names=chunk, items=items))

    # -- logs and indexes --------------------------------------------------------------------------------------------

    async def _check_log(self) -> None:
        """Every completion is noted by its rollout."""
        name, after = self._keys.control("completed"), "-"
        while entries := [entry for entry, _ in await self._command("XRANGE", name, after, "+", "COUNT", KEYS_AT_ONCE)]:
            self._note(await self._run("audit_completions", entries=entries))
            after = "(" + codec.text(entries[-1])

    async def _check_indexes(self) -> None:
        """Every member of an index has a record."""
        for rule, index in _OF_ROLLOUTS:
            await self._check_index(rule, index, "rollout")
        for group in self._groups:
            await self._check_index("status_index", b"group:" + group, "rollout", group)
        await self._check_index("worker", "workers", "worker")
        await self._check_index("resources", "resources", "resources")

    async def _check_index(self, rule: AuditRule, index: str | bytes, kind: str, group: Argument = "") -> None:
        async for members in self._members(index):
            self._note(await self._run("audit_members", rule=rule, index=index, group=group, kind=kind, ids=members))

    async def _members(self, index: str | bytes) -> AsyncIterator[Sequence[bytes]]:
        """All that is in an index all the time, in bounded pieces."""
        name = self._keys.control("").encode() + (index.encode() if isinstance(index, str) else index)
        cursor = b"0"
        while True:
            cursor, flat = await self._command("ZSCAN", name, cursor, "COUNT", WINDOW)
            for chunk in chunks(flat[::2], KEYS_AT_ONCE):
                yield chunk
            if cursor == b"0":
                return

    async def _check_workers(self) -> None:
        async for members in self._members("workers"):
            self._workers.update(members)
        for chunk in chunks(sorted(self._workers), KEYS_AT_ONCE):
            self._note(await self._run("audit_workers", worker_ids=chunk))

    # -- rollouts, queues, counters ----------------------------------------------------------------------------------

    async def _check_rollouts(self, result: Tally) -> None:
        """Walk along the rollouts, then along the queues; then compare what was counted, if nothing has changed."""
        for number in range(ROUNDS):
            began, mended = time.monotonic(), self._findings.mended
            _, state, _ = await self._run("audit_counters", repair="", seen="", queue_count=0, items=[])
            tally = await self._walk()
            result.rollouts = max(result.rollouts, tally.rollouts)
            for name in sorted(await self._queue_names(tally)):
                await self._check_queue(name, tally.listed[name])
            is_last = number == ROUNDS - 1
            if self._findings.mended > mended and not is_last:
                continue  # what was mended counts otherwise now
            is_still = await self._compare(state, tally)
            if is_still:
                return
            if is_last or time.monotonic() - began > QUICK_SECONDS:
                break
        self._unchecked.append(
            "counter: work went on, so the counters of attempts and spans, and of queues with over 1,000 entries, were "
            "not compared"
        )

    async def _walk(self) -> Tally:
        tally = Tally()
        async for ids in self._rollout_ids():
            left = ids
            while left:
                streams, spans = await self._spans_of(left)
                items = [part for pair in zip(left, spans, strict=True) for part in pair]
                looked, findings, seen = await self._run("audit_rollouts", spans=streams, items=items)
                self._note(findings)
                for each in seen:
                    tally.add(*each)
                left = left[looked:]
        return tally

    async def _spans_of(self, rollout_ids: Sequence[str]) -> tuple[list[str], Sequence[Argument]]:
        """What the script needs of spans: their streams and prefixes; or on a Cluster what was seen of them."""
        if self._connections.is_cluster:
            return [], await self._spans.facts_of(rollout_ids)
        return [self._keys.spans(id) for id in rollout_ids], [self._keys.span_ids(id) for id in rollout_ids]

    async def _rollout_ids(self) -> AsyncIterator[list[str]]:
        """Ids of the rollouts that there are at the beginning, in order of creation."""
        index = self._keys.control("rollouts")
        newest = await self._command("ZREVRANGE", index, 0, 0, "WITHSCORES")
        after: Argument = "-inf"
        while newest:
            flat = await self._command(
                "ZRANGEBYSCORE", index, after, newest[1], "WITHSCORES", "LIMIT", 0, ROLLOUTS_AT_ONCE
            )
            if not flat:
                return
            yield [codec.text(id) for id in flat[::2]]
            after = b"(" + flat[-1]

    async def _queue_names(self, tally: Tally) -> set[str]:
        stats = await self._command("HKEYS", self._keys.control("stats"))
        counted = {name.partition(":")[2] for name in (*map(codec.text, stats), *tally.counters) if ":" in name}
        return counted | self._queues | set(tally.listed)

    async def _check_queue(self, name: str, listed: dict[bytes, None]) -> None:
        """What lies in a list and what says that it does are the same, each once."""
        length, seen = await self._list_entries(name)
        suspects = [(id, count) for id, count in seen.items() if count > 1 or id not in listed]
        suspects += [(id, 0) for id in listed if id not in seen]
        at_once = min(KEYS_AT_ONCE, max(1, COMPARED_AT_ONCE // max(1, length)))
        for chunk in chunks(suspects, at_once):
            items = [part for suspect in chunk for part in suspect]
            self._note(await self._run("audit_queue", name=name, items=items))

    async def _list_entries(self, name: str) -> tuple[int, Counter[bytes]]:
        """The length of a list, and how often each id was seen in it.

        Read from the tail, for entries leave at the head. What moves meanwhile may be seen twice or not at all, and is
        looked at again.
        """
        key, seen, last = self._keys.control("queue", name), Counter[bytes](), -1
        while entries := await self._command("LRANGE", key, last - WINDOW + 1, last):
            seen.update(entries)
            last -= WINDOW
        return seen.total(), seen

    async def _compare(self, state: bytes, tally: Tally) -> bool:
        """Compare counters with what was counted; whether nothing has changed since `state`."""
        names = sorted(await self._queue_names(tally))
        totals = ["attempts", "spans"]
        is_still = True
        for chunk in chunks(names, QUEUES_AT_ONCE) or [[]]:
            fields = [*totals, *(f"{kind}:{name}" for name in chunk for kind in ("queue", "delayed"))]
            true = [part for name in fields for part in (name, tally.counters[name])]
            still, state, findings = await self._run(
                "audit_counters", seen=state, queue_count=len(chunk), items=[*chunk, *true]
            )
            self._note(findings)
            totals, is_still = [], is_still and bool(still)
            if not is_still:
                state = b"moved"  # it may be still again, but what was counted is of an earlier state
        return is_still


def _type_of(kind: str, id: bytes) -> str:
    """The type that a key must have; "" when there is no such kind."""
    if kind == "status" and id.decode("utf-8", "replace") not in ROLLOUT_STATUSES:
        return ""
    type_ = TYPES.get(kind, {}).get(bool(id), "")
    return "" if type_ == "none" else type_


def _id_of(keys: Keys, name: bytes) -> bytes:
    split = keys.split(name)
    return split[1] if split else b""


def _number(value: bytes | None) -> float:
    try:
        return float(value or "inf")
    except ValueError:
        return float("inf")
