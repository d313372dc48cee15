"""`lightning-store doctor` against real servers made wrong on purpose."""

import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from lightning_store.backends.redis.keys import SCHEMA
from lightning_store.doctor import NEEDED_COMMANDS
from tests.support.command_line import CommandLine

Doctor = Callable[..., dict[str, dict[str, str]]]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no fault of the servers here; what the doctor says of a slow one is tested with its checks."""
    monkeypatch.setattr("lightning_store.doctor_checks.SLOW_PING_SECONDS", 5.0)


@pytest.fixture
def examine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], namespace: str) -> Doctor:
    """Findings of the doctor by check, and the exit code under `exit`."""

    def run(url: str) -> dict[str, Any]:
        result = CommandLine(url, namespace, monkeypatch, capsys)("doctor", "--json")
        assert result.err == ""
        findings = {finding["check"]: finding for finding in result.json["findings"]}
        assert result.json["healthy"] == (result.code == 0)
        return {**findings, "exit": result.code}

    return run


@pytest.fixture
def admin(redis_url: str) -> "Iterator[redis.Redis]":
    """A client with all rights on the shared server."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def user(admin: "redis.Redis", redis_url: str) -> Iterator[Callable[..., str]]:
    """Makes a user with these rights and returns the URL of the shared server for it."""
    name = "doctor-test"

    def make(*rules: str) -> str:
        admin.execute_command("ACL", "SETUSER", name, "reset", "on", ">hunter22", *rules)
        return f"redis://{name}:hunter22@{redis_url.partition('@')[2]}"

    yield make
    admin.execute_command("ACL", "DELUSER", name)


def keys_of_doctor(admin: "redis.Redis", namespace: str) -> list[str]:
    return [key for key in admin.scan_iter(count=1000) if "doctor" in key and namespace in key]


def test_a_good_server_is_healthy(private_redis, examine, namespace):
    server = private_redis(settings={"maxmemory": "200mb"})

    found = examine(server.url)

    assert found.pop("exit") == 0
    assert {name: finding["level"] for name, finding in found.items()} == dict.fromkeys(found, "ok")
    with server.client() as client:
        assert client.dbsize() == 0


def test_a_server_that_evicts_is_a_problem(private_redis, examine):
    found = examine(private_redis(settings={"maxmemory": "200mb", "maxmemory-policy": "allkeys-lru"}).url)

    assert (found["exit"], found["eviction"]["level"]) == (1, "problem")
    assert found["eviction"]["what"] == "maxmemory-policy is allkeys-lru"
    assert found["eviction"]["mend"].endswith("CONFIG SET maxmemory-policy noeviction")


def test_a_server_that_writes_nothing_to_disk_is_a_problem(private_redis, examine):
    found = examine(private_redis(settings={"appendonly": "no"}).url)

    assert (found["exit"], found["persistence"]["level"]) == (1, "problem")
    assert found["persistence"]["what"] == "nothing is written to disk"


def test_snapshots_only_are_a_warning(private_redis, examine):
    server = private_redis(settings={"appendonly": "no", "maxmemory": "200mb"})
    with server.client() as client:
        client.config_set("save", "3600 1")

    found = examine(server.url)

    assert (found["exit"], found["persistence"]["level"]) == (0, "warning")


def test_warnings_count_if_asked(private_redis, monkeypatch, capsys, namespace):
    cli = CommandLine(private_redis().url, namespace, monkeypatch, capsys)

    assert (cli("doctor").code, cli("doctor", "--strict").code) == (0, 1)


def test_a_tiny_memory_is_a_problem(private_redis, examine):
    found = examine(private_redis(settings={"maxmemory": "3mb"}).url)

    assert (found["exit"], found["memory"]["level"]) == (1, "problem")


def test_a_full_memory_is_a_problem_that_says_that_writes_are_refused(private_redis, examine):
    server = private_redis(settings={"maxmemory": "3mb"})
    with server.client() as client:
        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory", used - 1)

    found = examine(server.url)

    assert found["exit"] == 1
    assert found["permissions"]["what"].startswith("writes are refused: ")
    assert "memory" in found["permissions"]["what"]


def test_a_replica_is_a_problem(private_redis, examine):
    primary, replica = private_redis(), private_redis()
    with replica.client() as client:
        client.config_set("masterauth", primary.url.partition("@")[0].rpartition(":")[2])
        client.replicaof("127.0.0.1", primary.url.rpartition(":")[2].partition("/")[0])

        found = examine(replica.url)

    assert found["exit"] == 1
    assert found["role"]["level"] == "problem"
    assert found["permissions"]["level"] == "problem"


def test_the_mending_commands_mend(private_redis, monkeypatch, capsys, namespace):
    settings = {"maxmemory": "3mb", "maxmemory-policy": "volatile-lru", "appendonly": "no", "appendfsync": "no"}
    server = private_redis(settings=settings)
    cli = CommandLine(server.url, namespace, monkeypatch, capsys)

    for _ in range(3):  # what is wrong behind another wrong shows after the first is mended
        for finding in cli("doctor", "--json").json["findings"]:
            words = shlex.split(finding["mend"], comments=True)
            if "CONFIG" in words:
                with server.client() as client:
                    client.execute_command(*words[words.index("CONFIG") :])

    result = cli("doctor")
    assert result.code == 0, result.out


def test_another_schema_is_a_problem(redis_url, examine, admin, namespace):
    admin.hset(f"{{ls:{namespace}}}:meta", "schema", "999")

    found = examine(redis_url)

    assert (found["exit"], found["schema"]["level"]) == (1, "problem")
    assert found["schema"]["what"] == f"namespace {namespace} has schema 999"


def test_a_namespace_in_use_is_fine(redis_url, examine, cli, namespace):
    assert cli("enqueue", "-", stdin=b"1").code == 0

    assert examine(redis_url)["schema"]["what"] == f"namespace {namespace} has schema {SCHEMA}"


def test_a_user_without_rights_is_a_problem_and_nothing_is_left(redis_url, examine, user, admin, namespace):
    found = examine(user("+ping", "+del", f"~{{ls:{namespace}}}:*", f"~ls:{namespace}:*"))

    finding = found["permissions"]
    assert (found["exit"], finding["level"]) == (1, "problem")
    assert finding["what"].startswith("user doctor-test may not run TIME EVAL EVALSHA EXISTS SET")
    assert {found[check]["level"] for check in ("version", "eviction", "memory", "clock")} == {"unknown"}
    assert keys_of_doctor(admin, namespace) == []


def test_a_user_who_may_not_even_remove_tries_nothing(examine, user, admin, namespace):
    found = examine(user("+@all", "-del", "~*"))

    assert found["permissions"]["what"].startswith("user doctor-test may not run DEL (")
    assert keys_of_doctor(admin, namespace) == []


def test_a_user_who_may_do_nothing_at_all_does_not_crash_the_doctor(examine, user):
    found = examine(user())

    assert found["exit"] == 1
    assert found["latency"]["level"] == "unknown"


def test_a_user_without_the_keys_of_spans_is_a_problem(examine, user, namespace):
    found = examine(user("+@all", f"~{{ls:{namespace}}}:*"))

    assert found["exit"] == 1
    assert found["permissions"]["what"] == f"user doctor-test may not touch ls:{namespace}:*"


def test_a_user_without_config_is_judged_by_info(examine, user, namespace):
    found = examine(user("+@all", "-config", "~*"))

    assert found["eviction"]["level"] == "ok"
    assert found["permissions"]["level"] == "ok"


def test_the_line_that_grants_rights_grants_enough_for_the_doctor_and_the_store(
    examine, user, admin, monkeypatch, capsys, namespace
):
    url = user()
    words = shlex.split(examine(url)["permissions"]["mend"])

    admin.execute_command(*words[words.index("ACL") :])

    assert examine(url)["permissions"]["level"] == "ok"
    cli = CommandLine(url, namespace, monkeypatch, capsys)
    assert cli("enqueue", "-", "--group", "g", stdin=b"1").code == 0
    for arguments in (["status"], ["rollouts", "list"], ["rollouts", "cancel", "--group", "g"], ["wait", "--all"]):
        assert cli(*arguments).code in (0, 1), cli(*arguments).err


@pytest.mark.parametrize("missing", [name for name in NEEDED_COMMANDS if name not in ("DEL", "PING", "INFO")])
def test_each_missing_command_is_named(examine, user, missing):
    found = examine(user("+@all", f"-{missing.lower()}", "~*"))

    assert found["permissions"]["what"] == f"user doctor-test may not run {missing}"


def test_the_report_for_people_has_what_why_and_mend(private_redis, monkeypatch, capsys, namespace):
    server = private_redis(settings={"maxmemory": "200mb", "maxmemory-policy": "allkeys-lru"})

    result = CommandLine(server.url, namespace, monkeypatch, capsys)("doctor")

    lines = result.out.splitlines()
    at = next(index for index, line in enumerate(lines) if line.startswith("problem"))
    assert lines[at].split(maxsplit=2) == ["problem", "eviction", "maxmemory-policy is allkeys-lru"]
    assert lines[at + 1].strip().startswith("why: When memory is full, Redis would drop records")
    assert lines[at + 2].strip().startswith('mend: redis-cli -u "$LIGHTNING_STORE_URL" CONFIG SET')
    assert lines[-1] == "9 ok, 1 problem"
    assert server.url.split("@")[0].rpartition(":")[2] not in result.out


def test_a_unix_socket_is_examined_too(private_redis, examine):
    found = examine(private_redis(unix_socket=True, settings={"maxmemory-policy": "allkeys-lru"}).url)

    assert found["eviction"]["mend"].startswith("redis-cli -s /")
