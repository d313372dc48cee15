"""The judgements of the doctor, each on facts made up for it."""

import re

import pytest

from lightning_store.backends.redis.scripts import Settings, load_script, lua_folder
from lightning_store.doctor import NEEDED_COMMANDS
from lightning_store.doctor_checks import (
    CHECKS,
    Facts,
    Trials,
    check_clock,
    check_eviction,
    check_fork,
    check_latency,
    check_memory,
    check_permissions,
    check_persistence,
    check_role,
    check_schema,
    check_version,
)

MEBI = 1024 * 1024
AOF = {"aof_enabled": 1, "aof_last_write_status": "ok"}


def memory(used: int, limit: int, host: int = 1000) -> Facts:
    """Facts with figures in MiB."""
    return Facts(info={"used_memory": used * MEBI, "maxmemory": limit * MEBI, "total_system_memory": host * MEBI})


@pytest.mark.parametrize("check", CHECKS)
def test_a_server_that_tells_nothing_is_unknown_and_no_check_crashes(check):
    finding = check(Facts(is_schema_known=False))

    assert finding.level == ("ok" if check is check_permissions else "unknown")


@pytest.mark.parametrize(
    ("info", "level"),
    [
        ({"redis_version": "6.2.14"}, "ok"),
        ({"redis_version": "8.0.0"}, "ok"),
        ({"redis_version": "6.0.16"}, "problem"),
        ({"redis_version": "5.0.7"}, "problem"),
        ({"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "8.0.1"}, "ok"),
        ({"redis_version": "unstable"}, "unknown"),
    ],
)
def test_version(info, level):
    assert check_version(Facts(info=info)).level == level


def test_role():
    assert check_role(Facts(info={"role": "master"})).level == "ok"
    finding = check_role(Facts(info={"role": "slave", "master_host": "db-1", "master_port": 6379}))
    assert (finding.level, finding.what) == ("problem", "this server is a replica of db-1:6379")


@pytest.mark.parametrize(
    ("info", "config", "level"),
    [
        ({"maxmemory_policy": "noeviction"}, {}, "ok"),
        ({"maxmemory_policy": "volatile-ttl"}, {}, "problem"),
        ({}, {"maxmemory-policy": "noeviction"}, "ok"),
        ({"maxmemory_policy": "noeviction"}, {"maxmemory-policy": "allkeys-lru"}, "problem"),
    ],
)
def test_eviction(info, config, level):
    assert check_eviction(Facts(info=info, config=config)).level == level


@pytest.mark.parametrize(
    ("info", "config", "level"),
    [
        (AOF, {"appendfsync": "everysec"}, "ok"),
        (AOF, {"appendfsync": "always"}, "ok"),
        (AOF, {"appendfsync": "no"}, "problem"),
        (AOF, {}, "ok"),
        ({**AOF, "aof_last_write_status": "err"}, {"appendfsync": "always"}, "problem"),
        ({"aof_enabled": 0}, {"save": "3600 1", "appendfsync": "everysec"}, "warning"),
        ({"aof_enabled": 0}, {"save": "", "appendfsync": "everysec"}, "problem"),
        ({"aof_enabled": 0}, {}, "problem"),
    ],
)
def test_persistence(info, config, level):
    assert check_persistence(Facts(info=info, config=config)).level == level


@pytest.mark.parametrize(
    ("used", "limit", "level"),
    [(100, 500, "ok"), (400, 500, "warning"), (460, 500, "problem"), (1, 12, "problem"), (100, 0, "warning")],
)
def test_memory(used, limit, level):
    assert check_memory(memory(used, limit)).level == level


def test_the_size_that_mends_a_full_memory_is_larger():
    (size,) = re.findall(r"maxmemory (\d+)mb", check_memory(memory(495, 500)).mend)

    assert int(size) > 500


@pytest.mark.parametrize(
    ("used", "limit", "level"), [(100, 500, "ok"), (100, 800, "warning"), (800, 0, "warning"), (100, 0, "ok")]
)
def test_fork_headroom(used, limit, level):
    assert check_fork(memory(used, limit)).level == level


@pytest.mark.parametrize("name", ["rdb_last_bgsave_status", "aof_last_bgrewrite_status"])
def test_a_fork_that_failed_is_a_warning(name):
    facts = memory(100, 500)

    assert check_fork(Facts(info={**facts.info, name: "err"})).level == "warning"


def test_latency_goes_by_the_median():
    assert check_latency(Facts(pings=(0.0001, 0.0002, 0.5))).level == "ok"
    assert check_latency(Facts(pings=(0.0001, 0.02, 0.03))).level == "warning"


@pytest.mark.parametrize(
    ("difference", "uncertainty", "level"),
    [(0.2, 0.001, "ok"), (-5.0, 0.001, "warning"), (5.0, 0.001, "warning"), (1.5, 1.0, "ok")],
)
def test_clock_allows_for_the_round_trip(difference, uncertainty, level):
    assert check_clock(Facts(clock_difference=difference, clock_uncertainty=uncertainty)).level == level


@pytest.mark.parametrize(("schema", "level"), [(None, "ok"), ("3", "ok"), ("2", "problem"), ("4", "problem")])
def test_schema(schema, level):
    assert check_schema(Facts(schema=schema, expected_schema="3")).level == level


def test_permissions_name_what_is_missing_and_the_line_that_grants_it():
    trials = Trials(user="runner", denied=("EVAL", "XADD"), denied_keys=("ls:default:*",), grant="ACL SETUSER runner")

    finding = check_permissions(Facts(trials=trials))

    assert finding.level == "problem"
    assert finding.what == "user runner may not run EVAL XADD and may not touch ls:default:*"
    assert finding.mend == "ACL SETUSER runner"


def test_refused_writes_are_a_problem():
    assert check_permissions(Facts(trials=Trials(refusal="MISCONF ..."))).level == "problem"


def test_every_problem_says_why_it_matters():
    spoilt = Facts(
        info={"redis_version": "5.0.0", "role": "slave", "maxmemory_policy": "allkeys-lru", "aof_enabled": 0}
        | memory(99, 100, 100).info,
        pings=(1.0,),
        clock_difference=60.0,
        schema="0",
        expected_schema="1",
        trials=Trials(denied=("GET",), grant="ACL SETUSER"),
    )

    findings = [check(spoilt) for check in CHECKS]

    assert all(finding.level in {"problem", "warning"} for finding in findings)
    assert all(finding.why and finding.mend for finding in findings)


def test_the_commands_that_are_tried_are_those_of_the_scripts():
    """But for the audit, which says itself what it may not look at."""
    names = [file.stem for file in lua_folder().glob("*.lua") if not file.stem.startswith("audit")]
    text = "".join(load_script(name, Settings()).text for name in names)

    used = set(re.findall(r"redis\.p?call\(\s*\"(\w+)\"", text))

    assert used <= set(NEEDED_COMMANDS)
    assert "ZADD" in used
