"""Examines where a store is, above all a Redis server: is it fit? Plain commands; a missing right is no failure."""

import secrets
import time
from dataclasses import asdict, dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from redis import exceptions as redis_errors

from lightning_store.addresses import is_cluster, node_url, shown
from lightning_store.backends.redis.keys import SCHEMA, SCRATCH, Keys
from lightning_store.backends.redis.urls import SENTINEL_SCHEMES, StoreUrl, read_url
from lightning_store.connect import check_url, kind_of, redact
from lightning_store.doctor_checks import (
    CHECKS,
    NAMESPACE_CHECKS,
    REDIS_CLI,
    Facts,
    Finding,
    Trials,
    check_cluster,
    worst_of,
)
from lightning_store.doctor_others import examine_file, examine_server
from lightning_store.reachable import check_reachable
from lightning_store.serverinfo import Client, plain_client, read_info, read_layout, read_time

SECTIONS: Final = ("server", "memory", "persistence", "replication")
CONFIG_NAMES: Final = ("maxmemory-policy", "save", "appendfsync")
PINGS: Final = 21

CLEAN_UP: Final = "DEL"
_TRIALS: Final[tuple[tuple[str, ...], ...]] = (
    ("TIME",),
    ("EVAL", "return 1", "1", "{key}"),
    ("EVALSHA", "0" * 40, "1", "{key}"),
    ("EXISTS", "{key}"),
    ("SET", "{key}:text", "1"),
    ("GET", "{key}:text"),
    ("MGET", "{key}:text"),
    ("HSET", "{key}:hash", "a", "1"),
    ("HGET", "{key}:hash", "a"),
    ("HMGET", "{key}:hash", "a"),
    ("HGETALL", "{key}:hash"),
    ("HINCRBY", "{key}:hash", "a", "1"),
    ("HDEL", "{key}:hash", "b"),
    ("LPUSH", "{key}:list", "a"),
    ("RPUSH", "{key}:list", "b", "c"),
    ("LLEN", "{key}:list"),
    ("LINDEX", "{key}:list", "0"),
    ("LRANGE", "{key}:list", "0", "-1"),
    ("LREM", "{key}:list", "1", "x"),
    ("LTRIM", "{key}:list", "0", "9"),
    ("LPOP", "{key}:list"),
    ("BLPOP", "{key}:list", "0.01"),
    ("SADD", "{key}:set", "1"),
    ("SCARD", "{key}:set"),
    ("SMISMEMBER", "{key}:set", "1"),
    ("ZADD", "{key}:zset", "1", "a"),
    ("ZCARD", "{key}:zset"),
    ("ZCOUNT", "{key}:zset", "0", "1"),
    ("ZRANGE", "{key}:zset", "0", "-1"),
    ("ZRANGEBYSCORE", "{key}:zset", "0", "1"),
    ("ZSCORE", "{key}:zset", "a"),
    ("ZREM", "{key}:zset", "b"),
    ("XADD", "{key}:stream", "1-1", "a", "1"),
    ("XLEN", "{key}:stream"),
    ("XRANGE", "{key}:stream", "-", "+"),
    ("XREVRANGE", "{key}:stream", "+", "-"),
    ("XREAD", "COUNT", "1", "STREAMS", "{key}:stream", "0"),
    ("XINFO", "STREAM", "{key}:stream"),
    ("XDEL", "{key}:stream", "1-1"),
    ("XADD", "{spans}", "1-1", "a", "1"),
)
"""The commands of the scripts and of the client, on keys of our own; a test compares them with the scripts."""

_TRIAL_OF_SENTINELS: Final = ("HELLO",)
_TRIAL_OF_REPLICAS: Final = ("WAIT", "0", "1")

NEEDED_COMMANDS: Final = tuple(dict.fromkeys((CLEAN_UP, "PING", "INFO", *(trial[0] for trial in _TRIALS))))


@dataclass(frozen=True)
class Report:
    """What the doctor found.

    Attributes:
        url: The server, without secrets.
    """

    url: str
    namespace: str
    findings: tuple[Finding, ...]

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is wrong; warnings and unknown things do not count."""
        return all(finding.level != "problem" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "url": self.url,
            "namespace": self.namespace,
            "healthy": self.is_healthy,
            "findings": [asdict(finding) for finding in self.findings],
        }


def examine(url: str, namespace: str) -> Report:
    """Examine what a URL names. On Redis, writes scratch keys inside the namespace's tag and removes them.

    Args:
        url: As a store takes it.
        namespace: The namespace that is to be used there.

    Raises:
        InvalidRequestError: The URL cannot be used, or the namespace is no name.
        StoreUnavailableError: The server cannot be reached.
        AccessDeniedError: It does not let us in.
    """
    check_url(url)
    if kind_of(url) != "redis":
        check_reachable(url)
        return Report(redact(url), namespace, examine_file(url) if kind_of(url) == "sqlite" else examine_server(url))
    if is_cluster(url):
        return Report(redact(url), namespace, _examine_cluster(url, Keys(namespace)))
    facts = gather(url, namespace)
    return Report(redact(url), namespace, tuple(check(facts) for check in CHECKS))


def _examine_cluster(url: str, keys: Keys) -> tuple[Finding, ...]:
    """Examine every primary; the namespace on the one that has its control slot."""
    layout = read_layout(url)
    control = layout.primary_of(keys.meta)
    by_node = {
        shown(node): gather(node_url(url, node), keys.namespace, f"redis-cli -h {node[0]} -p {node[1]} --askpass")
        for node in sorted(layout.primaries, key=lambda node: node != control)
    }
    replicas = {shown(node): len(replicas) for node, replicas in layout.primaries.items()}
    findings = [check_cluster(replicas, layout.slots_served)]
    for check in CHECKS:
        is_of_server = check not in NAMESPACE_CHECKS
        findings.append(worst_of({node: check(facts) for node, facts in by_node.items()}, all_nodes=is_of_server))
    return tuple(findings)


def gather(url: str, namespace: str, redis_cli: str = "") -> Facts:
    """Ask the server for everything that the checks need.

    Args:
        url: Of a single server.
        namespace: The namespace.
        redis_cli: How a person reaches the server; "" = as the URL says.

    Raises:
        InvalidRequestError: The URL cannot be used, or the namespace is no name.
        StoreUnavailableError: The server cannot be reached.
        AccessDeniedError: It does not let us in.
    """
    keys = Keys(namespace)
    said = read_url(url)
    with plain_client(url) as client:
        redis_cli = redis_cli or _redis_cli(url, client)
        info: dict[str, Any] = {}
        for section in SECTIONS:
            info.update(read_info(client, section))
        schema, is_schema_known = _read_schema(client, keys)
        difference, uncertainty = _compare_clocks(client)
        return Facts(
            info=info,
            config=_read_config(client),
            pings=_ping(client),
            clock_difference=difference,
            clock_uncertainty=uncertainty,
            namespace=namespace,
            schema=schema,
            is_schema_known=is_schema_known,
            expected_schema=SCHEMA,
            redis_cli=redis_cli,
            min_replicas=said.min_replicas or 0,
            trials=_try_commands(client, keys, url, redis_cli),
        )


def _read_config(client: Client) -> dict[str, str]:
    """What CONFIG GET tells; managed servers forbid it."""
    answers = _send(client, [("CONFIG GET", name) for name in CONFIG_NAMES])
    return {name: answer[name] for name, answer in zip(CONFIG_NAMES, answers, strict=True) if _has(answer, name)}


def _has(answer: Any, name: str) -> bool:
    return isinstance(answer, dict) and name in answer


def _read_schema(client: Client, keys: Keys) -> tuple[str | None, bool]:
    try:
        return client.hget(keys.meta, "schema"), True
    except redis_errors.ResponseError:
        return None, False


def _ping(client: Client) -> tuple[float, ...]:
    pings: list[float] = []
    for _ in range(PINGS):
        start = time.perf_counter()
        try:
            client.ping()
        except redis_errors.ResponseError:
            return ()
        pings.append(time.perf_counter() - start)
    return tuple(pings)


def _compare_clocks(client: Client) -> tuple[float | None, float]:
    before = time.time()
    server = read_time(client)
    after = time.time()
    return (None if server is None else server - (before + after) / 2), (after - before) / 2


def _try_commands(client: Client, keys: Keys, url: str, redis_cli: str) -> Trials:
    """Try every command for real. If even removing is not allowed, nothing is tried that would leave something."""
    scratch = keys.control(SCRATCH, secrets.token_hex(8))
    spans = keys.spans(f"ls:{keys.namespace}")  # no rollout has this name; in the same slot as the others
    further = _further_trials(read_url(url))
    trials = [tuple(part.format(key=scratch, spans=spans) for part in trial) for trial in (*_TRIALS, *further)]
    names = sorted({part for trial in trials for part in trial if part.startswith(scratch) or part == spans})
    clean_up = (CLEAN_UP, *names)
    user = _user(client)
    patterns = (keys.control("*"), keys.spans("*").partition(":spans:")[0] + ":*")
    grant = _grant(redis_cli, user, patterns, (*NEEDED_COMMANDS, *(trial[0] for trial in further)))
    first = _send(client, [clean_up])
    if _is_denied(first[0], "command"):
        untried = tuple(name for name in NEEDED_COMMANDS if name != CLEAN_UP)
        return Trials(user, (CLEAN_UP,), untried, (), "", grant)
    answers = _send(client, [*trials, clean_up])
    denied = [trial[0] for trial, answer in zip(trials, answers, strict=False) if _is_denied(answer, "command")]
    without_keys = {
        patterns[spans in trial]
        for trial, answer in zip(trials, answers, strict=False)
        if _is_denied(answer, "key")
    }  # fmt: skip
    return Trials(
        user=user,
        denied=tuple(dict.fromkeys(denied)),
        denied_keys=tuple(sorted(without_keys, reverse=True)),
        refusal=next((redact(str(answer), url) for answer in answers if _refuses_writes(answer)), ""),
        grant=grant,
    )


def _further_trials(url: StoreUrl) -> list[tuple[str, ...]]:
    """Trials of what not every store needs."""
    return [
        *([_TRIAL_OF_SENTINELS] if url.sentinels else []),
        *([_TRIAL_OF_REPLICAS] if url.min_replicas else []),
    ]


def _send(client: Client, commands: list[tuple[str, ...]]) -> list[Any]:
    """Answers in one round trip, errors in their places."""
    with client.pipeline(transaction=False) as pipe:
        for command in commands:
            pipe.execute_command(*command)
        return list(pipe.execute(raise_on_error=False))


def _is_denied(answer: object, by: str) -> bool:
    """Whether we lack the right to the command, or to its key."""
    if not isinstance(answer, redis_errors.NoPermissionError):
        return False
    return ("access" in str(answer)) == (by == "key")


def _refuses_writes(answer: object) -> bool:
    if isinstance(answer, redis_errors.OutOfMemoryError | redis_errors.ReadOnlyError):
        return True
    return isinstance(answer, redis_errors.ResponseError) and str(answer).startswith(("MISCONF", "NOREPLICAS"))


def _user(client: Client) -> str:
    try:
        return str(client.acl_whoami())
    except redis_errors.ResponseError:
        return str(client.connection_pool.connection_kwargs.get("username") or "default")


def _redis_cli(url: str, client: Client) -> str:
    """How a person reaches the server; the password is not shown."""
    parts = urlsplit(url)
    if parts.scheme in SENTINEL_SCHEMES:
        place = client.connection_pool.connection_kwargs
        return f"redis-cli -h {place['host']} -p {place['port']} --askpass"
    return f"redis-cli -s {unquote(parts.path)} --askpass" if parts.scheme == "unix" else REDIS_CLI


def _grant(redis_cli: str, user: str, patterns: tuple[str, ...], names: tuple[str, ...]) -> str:
    allowed = " ".join(f"'~{pattern}'" for pattern in patterns)
    commands = " ".join(f"+{name.lower()}" for name in sorted(names))
    return f"{redis_cli} ACL SETUSER {user} {allowed} {commands}"
