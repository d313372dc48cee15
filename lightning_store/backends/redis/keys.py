"""Names of the keys in Redis, with their types and fields; the only place where Python builds them.

The control plane of a namespace shares the hash tag `{ls:<namespace>}`, so that its scripts are atomic on a Cluster
too. Spans are tagged by their rollout. Scripts derive names of the control plane from its meta key, which is the only
one that they declare besides spans (lua/shared/keys.lua).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from lightning_store.requests import check_name

SCHEMA: Final = "1"
"""Version of the data model; a client that meets another one changes nothing."""

SCRATCH: Final = "doctor"
"""Kind of the keys that `lightning-store doctor` makes and removes; they hold nothing."""

KINDS: Final[dict[str, tuple[str, str]]] = {
    "meta": (
        "hash",
        "`schema`; `now`, the last time of a script; `resumed`, the end of the last outage; `number`, the last creation"
        " number; `resources`, id of the latest snapshot; `evicted`, the completion up to which spans were evicted;"
        " `amended`, how often finished rollouts were changed, reopened or deleted",
    ),
    "queue:<name>": ("list", "ids of queued rollouts, oldest at the head; may hold void entries"),
    "wake:<name>": ("list", "wake-up tokens for waiting dequeues: at most one per live entry, or one for delayed ones"),
    "delayed": ("zset", "rollouts that wait for their retry delay, by the time they are ready"),
    "rollout:<id>": (
        "hash",
        "`number`, `status`, `start`, `end`, `mode`, `resources`, `queue`, `group`, `digest`; config: `timeout`,"
        " `unresponsive`, `max_attempts`, `retry`, `delay`, `max_losses`; `queued` while it lies in its list, `since`"
        " when it began to wait; `latest` attempt; `uncounted` and `losses` of attempts; `spans`, last sequence number;"
        " `stored`, number of its spans; `evicted`, number of attempts that have lost theirs; `done`, its entries in"
        " the completion log. Defaults are left out",
    ),
    "task:<id>": ("string", "the input as JSON, zstd when long"),
    "metadata:<id>": ("string", "the metadata as JSON, only when not `{}`"),
    "attempts:<id>": ("list", "attempt ids in order, from the second one on; until then `latest` of the rollout tells"),
    "attempt:<id>:<attempt>": (
        "hash",
        "`number`, `status`, `start`, `end`, `worker`, `beat`, `cause`, `lease`, `resources`, `version`; `uncounted`,"
        " `grace_end`; `reward` and its `reward_number`",
    ),
    "attempt_metadata:<id>:<attempt>": ("string", "the metadata as JSON, only when there is any"),
    "rollouts": ("zset", "all rollouts by creation number"),
    "status:<status>": ("zset", "rollouts of a status by creation number"),
    "group:<group>": ("zset", "rollouts of a group by creation number"),
    "deadlines": ("zset", "active rollouts, and those whose latest attempt lives, by when that attempt could be late"),
    "workers": ("zset", "workers by first mention"),
    "worker:<id>": ("hash", "`status`, `beat`, `dequeue`, `busy`, `idle`, `rollout`, `attempt`"),
    "worker_stats:<id>": ("string", "heartbeat stats as JSON"),
    "resources": ("zset", "resource snapshots by creation"),
    "resources:<id>": ("hash", "`create`, `update`, `version`, `body` as JSON"),
    "completed": ("stream", "one entry per finish: `rollout`, `status`, `mode`, `group`, `start`, `end`"),
    "consumers": ("hash", "by name, the last completion that a consumer is done with, and when it said so"),
    "events": ("stream", "the latest transitions with their causes, capped"),
    "stats": (
        "hash",
        "counters: `attempts`, `spans`, live entries per queue (`queue:<name>`), delayed ones (`delayed:<name>`)",
    ),
    "steps": (
        "zset",
        "tokens of calls that are between steps of evicting spans, or on a Cluster of storing some, by time",
    ),
    "nothing": (
        "none",
        "never exists: scripts delete it so that Redis lets their later writes pass when memory is full",
    ),
    "ops:<token>": (
        "string",
        "answers of recent operations, for calls that are sent again; by id, those of rollouts deleted young; expire",
    ),
}
"""What lies under `{ls:<namespace>}:`."""

SPAN_KINDS: Final[dict[str, tuple[str, str]]] = {
    "spans:{<rollout>}": (
        "stream",
        "`a` attempt, `s` sequence number, `d` the rest of the span as JSON, zstd when long",
    ),
    "spanids:{<rollout>}:<attempt>:<n>": ("set", "span ids of 16 hex digits as 64-bit integers, at most 512 per set"),
    "spanids:{<rollout>}:<attempt>:text:<n>": ("set", "span ids of any other form"),
    "rewards:{<rollout>}": (
        "hash",
        "on a Cluster, by attempt, number of the span with its last reward, and that reward",
    ),
    "spanops:{<rollout>}:<token>": ("string", "on a Cluster, answers of recent steps that stored spans; expire"),
    "deleted:{<rollout>}": (
        "string",
        "on a Cluster, creation number of a rollout whose spans were removed; expires",
    ),
}
"""What lies under `ls:<namespace>:`."""

TYPES: Final[dict[str, dict[bool, str]]] = {}
"""By kind, the types of its key without an id and of its keys with one."""
for _kind, (_type, _) in {**KINDS, **SPAN_KINDS}.items():
    TYPES.setdefault(_kind.partition(":")[0], {})[":" in _kind] = _type


@dataclass(frozen=True)
class Keys:
    """Names of the keys of one namespace."""

    namespace: str

    def __post_init__(self) -> None:
        check_name(self.namespace, "namespace")

    @cached_property
    def meta(self) -> str:
        """The meta hash, from which scripts derive the rest of the control plane."""
        return self.control("meta")

    def control(self, kind: str, id: str | None = None) -> str:
        """A key of the control plane."""
        name = f"{{ls:{self.namespace}}}:{kind}"
        return name if id is None else f"{name}:{id}"

    def spans(self, rollout_id: str) -> str:
        """The stream of a rollout's spans."""
        return f"ls:{self.namespace}:spans:{{{rollout_id}}}"

    def span_ids(self, rollout_id: str) -> str:
        """Prefix of the sets of a rollout's span ids."""
        return f"ls:{self.namespace}:spanids:{{{rollout_id}}}:"

    def rewards(self, rollout_id: str) -> str:
        """The last rewards of a rollout's attempts, where its spans are."""
        return f"ls:{self.namespace}:rewards:{{{rollout_id}}}"

    def span_answer(self, rollout_id: str, token: str) -> str:
        """Where the answer of a step that stored spans is kept."""
        return f"ls:{self.namespace}:spanops:{{{rollout_id}}}:{token}"

    def deleted(self, rollout_id: str) -> str:
        """What tells that the spans of a rollout were removed."""
        return f"ls:{self.namespace}:deleted:{{{rollout_id}}}"

    def split(self, name: bytes) -> tuple[str, bytes] | None:
        """Kind and id of a key, None if it is not of this namespace; the kind may be one that is not ours."""
        for prefix in (self.control(""), f"ls:{self.namespace}:"):
            if name.startswith(prefix.encode()):
                kind, _, id = name[len(prefix) :].partition(b":")
                return kind.decode("utf-8", "replace"), id
        return None


def render_markdown() -> str:
    """The table of keys for docs/redis.md."""
    rows = ["| key | type | holds |", "|---|---|---|"]
    rows += [f"| `{{ls:<namespace>}}:{kind}` | {type_} | {text} |" for kind, (type_, text) in KINDS.items()]
    rows += [f"| `ls:<namespace>:{kind}` | {type_} | {text} |" for kind, (type_, text) in SPAN_KINDS.items()]
    return "\n".join(rows) + "\n"
