"""What makes a Redis server fit for a store: pure judgements of facts that `doctor.py` has gathered."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Final, Literal, TypeAlias

from lightning_store.serverinfo import memory_of

Level: TypeAlias = Literal["ok", "warning", "problem", "unknown"]

OLDEST_REDIS: Final = (6, 2)
SAFE_FSYNC: Final = frozenset({"everysec", "always"})
SLOW_PING_SECONDS: Final = 0.005
CLOCK_SECONDS: Final = 1.0
FULL_SHARE: Final = 0.9
FILLING_SHARE: Final = 0.7
"""From here on spans of finished rollouts are dropped."""

LEAST_ROOM_BYTES: Final = 16 * 1024 * 1024
FORK_SHARE: Final = 0.75
MEBI: Final = 1024 * 1024

REDIS_CLI: Final = 'redis-cli -u "$LIGHTNING_STORE_URL"'


@dataclass(frozen=True)
class Finding:
    """What one check says.

    Attributes:
        check: Its name.
        level: `problem`: the store's promises do not hold; `warning`: they may come not to; `unknown`: not visible.
        what: What was found.
        why: Why that matters; empty when all is well.
        mend: The command that mends it; empty when there is nothing to mend or no single command does.
    """

    check: str
    level: Level
    what: str
    why: str = ""
    mend: str = ""


@dataclass(frozen=True)
class Trials:
    """What came of trying the commands that a store needs.

    Attributes:
        user: The user that we are to the server.
        denied: Commands that it may not run.
        untried: Commands that were not tried, because what they leave could not have been removed.
        denied_keys: Patterns of keys that it may not touch.
        refusal: Why the server refuses all writes; empty when it does not.
        grant: The `ACL SETUSER` line that would allow all.
    """

    user: str = "default"
    denied: tuple[str, ...] = ()
    untried: tuple[str, ...] = ()
    denied_keys: tuple[str, ...] = ()
    refusal: str = ""
    grant: str = ""


@dataclass(frozen=True)
class Facts:
    """What a server told about itself; what it does not tell is absent.

    Attributes:
        info: Fields of INFO's sections `server`, `memory`, `persistence` and `replication`.
        config: Values of CONFIG GET.
        pings: Round trips in seconds.
        clock_difference: The server's time less ours, in seconds; None when unknown.
        clock_uncertainty: Half the round trip in which that was measured.
        namespace: The namespace.
        schema: Its schema version; None when it is new.
        is_schema_known: Whether it could be read.
        expected_schema: The version that this program reads and writes.
        redis_cli: How a person reaches the server, for commands that mend.
        min_replicas: How many replicas the URL wants to have confirmed every write.
        trials: What came of trying the commands.
    """

    info: dict[str, Any] = field(default_factory=dict[str, Any])
    config: dict[str, str] = field(default_factory=dict[str, str])
    pings: tuple[float, ...] = ()
    clock_difference: float | None = None
    clock_uncertainty: float = 0.0
    namespace: str = "default"
    schema: str | None = None
    is_schema_known: bool = True
    expected_schema: str = ""
    redis_cli: str = REDIS_CLI
    min_replicas: int = 0
    trials: Trials = field(default_factory=Trials)


def check_version(facts: Facts) -> Finding:
    """Redis 6.2 or newer, or Valkey."""
    valkey = facts.info.get("valkey_version")
    if valkey:
        return Finding("version", "ok", f"Valkey {valkey}")
    version = str(facts.info.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if not numbers:
        return Finding("version", "unknown", "the server does not tell its version", "Redis 6.2 or newer is needed.")
    if numbers < OLDEST_REDIS:
        why = "The scripts use commands that came with Redis 6.2; they fail on older servers."
        return Finding("version", "problem", f"Redis {version}", why, "apt install redis-server  # 6.2 or newer")
    return Finding("version", "ok", f"Redis {version}")


def check_role(facts: Facts) -> Finding:
    """A server that takes writes, with as many replicas as have to confirm them."""
    role = facts.info.get("role")
    if role is None:
        return Finding("role", "unknown", "the server does not tell whether it is a replica")
    if role not in ("master", "primary"):
        host = f"{facts.info.get('master_host', 'HOST')}:{facts.info.get('master_port', 'PORT')}"
        why = "A replica takes no writes; a store on it cannot enqueue or claim."
        mend = f"export LIGHTNING_STORE_URL=redis://...@{host}/0  # the primary"
        return Finding("role", "problem", f"this server is a replica of {host}", why, mend)
    replicas = int(facts.info.get("connected_slaves", 0))
    told = "primary" + (f" with {replicas} replica{'s' if replicas > 1 else ''}" if replicas else "")
    if replicas < facts.min_replicas:
        why = f"The URL says min_replicas={facts.min_replicas}: no write is acknowledged before so many have it."
        return Finding("role", "problem", told, why, f"{facts.redis_cli} INFO replication")
    return Finding("role", "ok", told)


def check_eviction(facts: Facts) -> Finding:
    """No key may be dropped when memory is full."""
    policy = facts.config.get("maxmemory-policy") or facts.info.get("maxmemory_policy")
    if policy is None:
        return Finding("eviction", "unknown", "maxmemory-policy is not visible", "It must be noeviction.")
    if policy != "noeviction":
        why = "When memory is full, Redis would drop records of rollouts: work would be lost without a word."
        mend = f"{facts.redis_cli} CONFIG SET maxmemory-policy noeviction"
        return Finding("eviction", "problem", f"maxmemory-policy is {policy}", why, mend)
    return Finding("eviction", "ok", "maxmemory-policy is noeviction")


def check_persistence(facts: Facts) -> Finding:
    """The append-only file is on, and works."""
    info, config = facts.info, facts.config
    if "aof_enabled" not in info:
        return Finding("persistence", "unknown", "INFO does not show it", "A restart may lose all rollouts.")
    if info.get("aof_last_write_status", "ok") != "ok":
        why = "The disk refuses what is appended, so writes are refused or lost. Make room on it, then look again."
        return Finding("persistence", "problem", "the last write to the append-only file failed", why)
    if not int(info["aof_enabled"]):
        return _without_aof(facts)
    fsync = config.get("appendfsync")
    if fsync is None:
        return Finding("persistence", "ok", "append-only file is on (appendfsync is not visible)")
    if fsync not in SAFE_FSYNC:
        why = "The operating system decides when writes reach the disk; half a minute of them can be lost."
        return Finding(
            "persistence",
            "problem",
            f"appendfsync is {fsync}",
            why,
            f"{facts.redis_cli} CONFIG SET appendfsync everysec",
        )
    return Finding("persistence", "ok", f"append-only file is on, appendfsync {fsync}")


def _without_aof(facts: Facts) -> Finding:
    config = facts.config
    mend = f"{facts.redis_cli} CONFIG SET appendonly yes"
    if "save" not in config:
        why = "A restart loses everything since the last snapshot, or everything if there are none."
        return Finding("persistence", "problem", "the append-only file is off", why, mend)
    if config["save"]:
        why = "A restart loses what was written since the last snapshot: minutes of finished work."
        return Finding("persistence", "warning", f"snapshots only (save {config['save']})", why, mend)
    why = "A restart of Redis loses every rollout, span and resource."
    return Finding("persistence", "problem", "nothing is written to disk", why, mend)


def check_memory(facts: Facts) -> Finding:
    """Room for more work."""
    memory = memory_of(facts.info)
    if memory is None or memory.capacity_bytes is None:
        why = "Where INFO is refused, spans are not evicted and new work is not refused before memory is full."
        return Finding("memory", "unknown", "the server does not tell how much memory it has", why)
    used, capacity = memory.used_bytes, memory.capacity_bytes
    told = f"{used / MEBI:.0f} of {capacity / MEBI:.0f} MiB used ({used / capacity:.0%})"
    larger = f"{facts.redis_cli} CONFIG SET maxmemory {max(2 * capacity, used + 64 * LEAST_ROOM_BYTES) // MEBI}mb"
    if memory.limit_bytes and (used > FULL_SHARE * capacity or capacity - used < LEAST_ROOM_BYTES):
        why = "From 90 % on, enqueuing and spans are refused; heartbeats and ends of attempts still pass."
        return Finding("memory", "problem", told, why, larger)
    if memory.limit_bytes is None:
        why = "Without a limit the kernel kills Redis when the machine's memory is gone, instead of a clear refusal."
        mend = f"{facts.redis_cli} CONFIG SET maxmemory {max(capacity * 6 // 10, used + LEAST_ROOM_BYTES) // MEBI}mb"
        return Finding("memory", "warning", f"no maxmemory; {told} of the machine", why, mend)
    if used > FILLING_SHARE * capacity:
        why = (
            "Spans of finished rollouts are evicted from 70 % on, new work is refused from 90 % on (docs/retention.md)."
        )
        return Finding("memory", "warning", told, why, larger)
    return Finding("memory", "ok", told)


def check_fork(facts: Facts) -> Finding:
    """Room for the copy that a rewrite of the append-only file, or a snapshot, may need."""
    memory = memory_of(facts.info)
    if memory is None or memory.host_bytes is None:
        return Finding("fork headroom", "unknown", "the server does not tell its machine's memory")
    largest = max(memory.limit_bytes or 0, memory.used_bytes)
    told = f"Redis may fill {largest / memory.host_bytes:.0%} of its machine"
    for name in ("rdb_last_bgsave_status", "aof_last_bgrewrite_status"):
        if facts.info.get(name, "ok") != "ok":
            why = "The last snapshot or rewrite failed, often because there was no memory for the fork."
            return Finding("fork headroom", "warning", f"{name} is {facts.info[name]}; {told}", why)
    if largest > FORK_SHARE * memory.host_bytes:
        why = "Rewriting the append-only file forks Redis; pages that change meanwhile are copied and need room beside."
        mend = f"{facts.redis_cli} CONFIG SET maxmemory {memory.host_bytes * 6 // 10 // MEBI}mb"
        return Finding("fork headroom", "warning", told, why, mend)
    return Finding("fork headroom", "ok", told)


def check_latency(facts: Facts) -> Finding:
    """A round trip that does not slow the loop down."""
    if not facts.pings:
        return Finding("latency", "unknown", "PING is not allowed")
    middle = median(facts.pings)
    told = f"median round trip {middle * 1000:.2f} ms, longest {max(facts.pings) * 1000:.2f} ms"
    if middle > SLOW_PING_SECONDS:
        why = (
            "Each claim, heartbeat and report waits this long; run the workers nearer to Redis, or find what blocks it."
        )
        return Finding("latency", "warning", told, why, f"{facts.redis_cli} SLOWLOG GET 10")
    return Finding("latency", "ok", told)


def check_clock(facts: Facts) -> Finding:
    """The server's clock and ours agree."""
    if facts.clock_difference is None:
        return Finding("clock", "unknown", "TIME is not allowed")
    told = f"the server is {facts.clock_difference:+.3f} s from this host (± {facts.clock_uncertainty:.3f} s)"
    if abs(facts.clock_difference) - facts.clock_uncertainty > CLOCK_SECONDS:
        why = "Deadlines go by the server's clock and are safe; spans and logs made on this host are off by this."
        return Finding("clock", "warning", told, why, "timedatectl set-ntp true  # on the host whose clock is wrong")
    return Finding("clock", "ok", told)


def check_schema(facts: Facts) -> Finding:
    """The namespace was written by this version of the data model, or is new."""
    where = f"namespace {facts.namespace}"
    if not facts.is_schema_known:
        return Finding("schema", "unknown", f"the schema version of {where} could not be read")
    if facts.schema is None:
        return Finding("schema", "ok", f"{where} is new")
    if facts.schema != facts.expected_schema:
        why = f"This version of lightning_store reads and writes schema {facts.expected_schema}, and refuses others."
        mend = f"export LIGHTNING_STORE_NAMESPACE={facts.namespace}-{facts.expected_schema}  # or the version that fits"
        return Finding("schema", "problem", f"{where} has schema {facts.schema}", why, mend)
    return Finding("schema", "ok", f"{where} has schema {facts.schema}")


def check_permissions(facts: Facts) -> Finding:
    """All commands that a store needs are allowed, on its keys."""
    trials = facts.trials
    parts: list[str] = []
    if trials.denied:
        parts.append(f"may not run {' '.join(trials.denied)}")
    if trials.denied_keys:
        parts.append(f"may not touch {' '.join(trials.denied_keys)}")
    if parts:
        untried = f" ({len(trials.untried)} other commands were not tried)" if trials.untried else ""
        why = "Operations that need them fail."
        return Finding(
            "permissions", "problem", f"user {trials.user} {' and '.join(parts)}{untried}", why, trials.grant
        )
    if trials.refusal:
        why = "Nothing can be enqueued while the server refuses writes; the other findings may say why."
        return Finding("permissions", "problem", f"writes are refused: {trials.refusal}", why)
    return Finding("permissions", "ok", f"user {trials.user} may do all that a store needs")


CHECKS: Final[tuple[Callable[[Facts], Finding], ...]] = (
    check_version,
    check_role,
    check_eviction,
    check_persistence,
    check_memory,
    check_fork,
    check_latency,
    check_clock,
    check_schema,
    check_permissions,
)
"""All checks, in the order of the report."""

NAMESPACE_CHECKS: Final = frozenset({check_schema, check_permissions})
"""Those that look at the namespace, which on a Cluster one node can tell of."""

SLOTS: Final = 16384
_WORST_FIRST: Final = ("problem", "warning", "unknown", "ok")


def check_cluster(replicas: Mapping[str, int], slots_served: int) -> Finding:
    """A Cluster whose slots are all served, by primaries that have replicas.

    Args:
        replicas: By primary, how many replicas it has.
        slots_served: How many slots have a primary.
    """
    told = f"{len(replicas)} primaries serve {slots_served} of {SLOTS} slots"
    if slots_served < SLOTS:
        why = "Rollouts and spans in the other slots can be neither written nor read."
        return Finding("cluster", "problem", told, why)
    alone = sorted(node for node, count in replicas.items() if not count)
    if alone:
        why = "When a primary without a replica is lost, so is what it holds, and work stops."
        return Finding("cluster", "warning", f"{told}; {' '.join(alone)} without a replica", why)
    return Finding("cluster", "ok", f"{told}, each with a replica or more")


def worst_of(by_node: Mapping[str, Finding], *, all_nodes: bool) -> Finding:
    """The worst of what a check finds on the nodes of a Cluster, or what it finds on the first one alone."""
    if not all_nodes or len({(each.level, each.what) for each in by_node.values()}) == 1:
        return next(iter(by_node.values()))
    node, worst = min(by_node.items(), key=lambda pair: _WORST_FIRST.index(pair[1].level))
    return replace(worst, what=f"{node}: {worst.what}")
