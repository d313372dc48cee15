"""The raw keys of a namespace, as a test sees them: for comparing whole keyspaces and for checking invariants."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from lightning_store.backends.redis.keys import TYPES

Value = Any
"""A hash or zset as a dict, a list as a list, a set as a set, a string as bytes, a stream as a list of pairs."""

EPHEMERAL: Final = frozenset({"ops", "events", "wake", "spanops", "deleted"})
"""Kinds of keys that hold no truth: answers for repeats, the capped log of events, wake-up tokens."""

_READ: Final[dict[str, Callable[[Any, bytes], object]]] = {
    "hash": lambda pipe, name: pipe.hgetall(name),
    "zset": lambda pipe, name: pipe.zrange(name, 0, -1, withscores=True),
    "list": lambda pipe, name: pipe.lrange(name, 0, -1),
    "set": lambda pipe, name: pipe.smembers(name),
    "string": lambda pipe, name: pipe.get(name),
    "stream": lambda pipe, name: pipe.xrange(name),
}
_DECODE: Final[dict[str, Callable[[Any], Value]]] = {
    "hash": lambda reply: {_text(field): _text(value) for field, value in reply.items()},
    "zset": lambda reply: {_text(id): float(score) for id, score in reply},
    "list": lambda reply: [_text(item) for item in reply],
    "set": lambda reply: {_text(item) for item in reply},
    "string": lambda reply: reply,
    "stream": lambda reply: [
        (_text(entry), {_text(name): value for name, value in fields.items()}) for entry, fields in reply
    ],
}


def _text(value: Any) -> Any:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


@dataclass
class Keyspace:
    """What lies under a namespace.

    Attributes:
        kinds: By kind of key (`rollout`, `status`, ...) and id; keys without id have the id "".
        strangers: Keys of no documented kind, or of another type than documented, with their types.
    """

    kinds: dict[str, dict[str, Value]] = field(default_factory=dict)
    strangers: dict[str, str] = field(default_factory=dict)

    def of(self, kind: str) -> dict[str, Value]:
        """All keys of a kind by id."""
        return self.kinds.get(kind, {})

    def one(self, kind: str, id: str = "") -> Value:
        """One key; an empty container if it does not exist."""
        empty: dict[str, Value] = {"hash": {}, "zset": {}, "list": [], "set": set(), "stream": [], "string": None}
        return self.of(kind).get(id, empty[TYPES[kind][bool(id)]])

    def without(self, *kinds: str) -> dict[str, dict[str, Value]]:
        """All kinds but these, for comparisons."""
        return {kind: keys for kind, keys in self.kinds.items() if kind not in kinds and keys}


def read_keyspace(client: Any, namespace: str) -> Keyspace:
    """Read every key of a namespace, but those that expire meanwhile; `client` is synchronous and does not decode."""
    found = Keyspace()
    for prefix in (f"{{ls:{namespace}}}:", f"ls:{namespace}:"):
        names = sorted(set(client.scan_iter(match=f"{prefix}*", count=1000)))
        types = [_text(type_) for type_ in _pipelined(client, [(_type, name) for name in names])]
        there = [(type_, name) for type_, name in zip(types, names, strict=True) if type_ != "none"]
        replies = _pipelined(client, [(_READ[type_], name) for type_, name in there])
        for (type_, raw_name), reply in zip(there, replies, strict=True):
            if reply is None:
                continue
            name = _text(raw_name)
            kind, _, id = name[len(prefix) :].partition(":")
            if TYPES.get(kind, {}).get(bool(id)) == type_:
                found.kinds.setdefault(kind, {})[id] = _DECODE[type_](reply)
            else:
                found.strangers[name] = type_
    return found


def comparable(keys: Keyspace) -> Keyspace:
    """A keyspace without what differs from run to run: the server's ids of stream entries."""
    order = {entry: f"<finish {number}>" for number, (entry, _) in enumerate(keys.one("completed"))}
    for rollout in keys.of("rollout").values():
        if "done" in rollout:
            rollout["done"] = [order[entry] for entry in rollout["done"].split(",")]
    for streams in (keys.of(kind) for kind in ("completed", "events", "spans")):
        for id, entries in streams.items():
            streams[id] = [fields for _, fields in entries]
    return keys


def _type(pipe: Any, name: bytes) -> object:
    return pipe.type(name)


def _pipelined(client: Any, calls: list[tuple[Callable[[Any, bytes], object], bytes]]) -> list[Any]:
    with client.pipeline(transaction=False) as pipe:
        for call, name in calls:
            call(pipe, name)
        replies: list[Any] = pipe.execute()
        return replies
