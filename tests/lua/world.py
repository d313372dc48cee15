"""A namespace of raw keys to run one script on: seed, call, compare everything that changed."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from redis.exceptions import ResponseError

from lightning_store.backends.redis.keys import SCHEMA, Keys
from lightning_store.backends.redis.scripts import Settings, load_script
from lightning_store.status import ACTIVE, FINISHED, LIVE, QUEUED
from tests.support.keyspace import Keyspace, read_keyspace

NOW: Final = "1000.000000"
"""The time of the scripts unless a call says otherwise; it is noted already, so that it is no change."""
GONE: Final = None
"""What a key, field or member that was removed changed to."""

Reply = Any


def text(reply: Any) -> Reply:
    """A reply with text instead of bytes, and hashes given as flat lists left as they are."""
    if isinstance(reply, bytes):
        return reply.decode()
    return [text(item) for item in reply] if isinstance(reply, list) else reply


class World:
    """Raw keys of one namespace and the scripts on them."""

    def __init__(self, client: Any, namespace: str, settings: Settings | None = None) -> None:
        self.keys = Keys(namespace)
        self.client = client
        self.settings = settings or Settings()
        self._numbers = 0
        self._before: Keyspace | None = None
        self.client.hset(self.keys.meta, mapping={"schema": SCHEMA, "now": NOW})

    # -- seeding -----------------------------------------------------------------------------------------------------

    def number(self) -> int:
        """The next creation number."""
        self._numbers += 1
        self.client.hset(self.keys.meta, "number", self._numbers)
        return self._numbers

    def rollout(self, id: str, status: str = "queuing", *, task: str = '"task"', **fields: Any) -> None:
        """A rollout with its index entries; a queued one lies in its list and has a token."""
        number = self.number()
        control, client = self.keys.control, self.client
        record = {"number": number, "status": status, "start": "900.000000"} | fields
        queue = record.get("queue", "default")
        if status in QUEUED and "since" not in record:
            record = {"queued": "1"} | record
            client.rpush(control("queue", queue), id)
            client.rpush(control("wake", queue), "1")
            client.hincrby(control("stats"), f"queue:{queue}", 1)
        elif status in QUEUED:
            client.zadd(control("delayed"), {id: float(record["since"])})
            client.hincrby(control("stats"), f"delayed:{queue}", 1)
        elif "queued" in record:  # void
            client.rpush(control("queue", queue), id)
        if status in FINISHED:
            record = {"end": "950.000000", "done": self.completion(id, status)} | record
        if status in ACTIVE:
            client.zadd(control("deadlines"), {id: "+inf"})
        client.hset(control("rollout", id), mapping=record)
        client.set(control("task", id), task)
        client.zadd(control("rollouts"), {id: number})
        client.zadd(control("status", status), {id: number})
        if "group" in record:
            client.zadd(control("group", record["group"]), {id: number})

    def completion(self, id: str, status: str = "succeeded") -> str:
        """An entry of the completion log."""
        fields = {"rollout": id, "status": status, "mode": "", "group": "", "start": "900.000000", "end": "950.000000"}
        return str(text(self.client.xadd(self.keys.control("completed"), fields)))

    def attempt(
        self, rollout_id: str, id: str, status: str = "running", *, due: str | None = None, **fields: Any
    ) -> None:
        """The next attempt of a rollout; `due` is its entry in the index of deadlines."""
        control, client = self.keys.control, self.client
        latest = text(client.hget(control("rollout", rollout_id), "latest"))
        number = 1
        if latest is not None:
            name = control("attempts", rollout_id)
            number = client.rpush(name, *([] if client.exists(name) else [latest]), id)
        client.hset(
            control("attempt", f"{rollout_id}:{id}"),
            mapping={"number": number, "status": status, "start": "960.000000"} | fields,
        )
        client.hset(control("rollout", rollout_id), "latest", id)
        client.hincrby(control("stats"), "attempts", 1)
        if due is not None or status in LIVE:
            client.zadd(control("deadlines"), {rollout_id: due or "+inf"})

    def worker(self, id: str, status: str = "unknown", **fields: Any) -> None:
        """A worker with its index entry."""
        self.client.zadd(self.keys.control("workers"), {id: self.number()})
        self.client.hset(self.keys.control("worker", id), mapping={"status": status} | fields)

    def span(self, rollout_id: str, attempt_id: str, *ids: int) -> None:
        """Spans of an attempt, numbered from 1."""
        for number, id in enumerate(ids, 1):
            self.client.xadd(self.keys.spans(rollout_id), {"a": attempt_id, "s": number, "d": "{}"})
            self.client.sadd(f"{self.keys.span_ids(rollout_id)}{attempt_id}:0", id)
        self.client.hincrby(self.keys.control("stats"), "spans", len(ids))
        self.client.hincrby(self.keys.control("rollout", rollout_id), "stored", len(ids))

    def hash(self, kind: str, id: str | None = None, **fields: Any) -> None:
        """Fields of a hash."""
        self.client.hset(self.keys.control(kind, id), mapping=fields)

    # -- calling -----------------------------------------------------------------------------------------------------

    def call(self, name: str, /, *, now: str = NOW, **values: Any) -> Reply:
        """Run a script; `now` is passed on if it takes one. What was there before is remembered for `changes`."""
        self._before = self.read()
        script = load_script(name, self.settings)
        if "now" in script.arguments:
            values["now"] = now
        return text(self.client.execute_command(*script.call(meta=self.keys.meta, **values).by_text))

    def refusal(self, name: str, /, **values: Any) -> str:
        """The error that a script answers."""
        try:
            reply = self.call(name, **values)
        except ResponseError as error:
            return str(error)
        raise AssertionError(f"not refused but {reply}")

    def read(self) -> Keyspace:
        """Everything that is stored."""
        return read_keyspace(self.client, self.keys.namespace)

    def changes(self) -> dict[str, dict[str, Any]]:
        """What the last call changed, by kind of key and id.

        Of hashes and zsets the fields that changed, `GONE` for removed ones; of streams what was appended and how many
        entries went; of lists, sets and strings the whole new value, `GONE` if the key went.
        """
        before, after = self._before or Keyspace(), self.read()
        changed: dict[str, dict[str, Any]] = {}
        for kind in {*before.kinds, *after.kinds}:
            old, new = before.of(kind), after.of(kind)
            keys = {id: _difference(old.get(id), new.get(id)) for id in {*old, *new} if old.get(id) != new.get(id)}
            if keys:
                changed[kind] = keys
        assert not after.strangers, after.strangers
        return changed


def _difference(old: Any, new: Any) -> Any:
    kind = type(new if old is None else old)
    if kind is dict:
        old, new = old or {}, new or {}
        return {field: new.get(field, GONE) for field in {*old, *new} if old.get(field) != new.get(field)}
    if kind is list and any(isinstance(item, tuple) for item in [*(old or []), *(new or [])]):
        return _appended(old or [], new or [])
    return new


def _appended(old: Sequence[Any], new: Sequence[Any]) -> list[Any]:
    """New entries of a stream without their ids, and one GONE per entry that went."""
    known = {entry for entry, _ in old}
    kept = {entry for entry, _ in new}
    added = [text_fields(fields) for entry, fields in new if entry not in known]
    return [*[GONE for entry in known if entry not in kept], *added]


def text_fields(fields: dict[str, bytes]) -> dict[str, str]:
    """Fields of a stream entry as text."""
    return {name: value.decode() for name, value in fields.items()}


def new_rollout(
    id: str, *, digest: str = "", task: str = '"task"', metadata: str = "", group: str = "", **fields: str
) -> list[str]:
    """The run of arguments of one new rollout, see lua/shared/requests.lua."""
    if group:
        fields["group"] = group
    flat = [part for pair in fields.items() for part in pair]
    return [id, digest, task, metadata, group, str(len(fields)), *flat]


def event(rollout: str, status: str, cause: str, attempt: str = "", attempt_status: str = "", now: str = NOW) -> Any:
    """What is logged of a transition."""
    return {
        "time": now, "rollout": rollout, "attempt": attempt, "status": status, "attempt_status": attempt_status,
        "cause": cause,
    }  # fmt: skip


def fields_of(flat: Iterable[str]) -> dict[str, str]:
    """A hash from a flat reply."""
    items = list(flat)
    return dict(zip(items[::2], items[1::2], strict=True))
