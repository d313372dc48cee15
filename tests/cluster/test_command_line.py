"""The commands on a Cluster: they need what every node tells, and the nodes are asked apart from the store."""

import time

import pytest

from tests.support.command_line import CommandLine, start_process
from tests.support.factories import span_of
from tests.support.redis_cluster import address_of
from tests.support.until import wait_until

NOT_HERE = {"persistence", "memory", "fork headroom"}
"""What the servers of the tests do without."""


@pytest.fixture
def command(redis_cluster, namespace, monkeypatch, capsys):
    return CommandLine(redis_cluster.url, namespace, monkeypatch, capsys)


def findings(command):
    return {each["check"]: each for each in command("doctor", "--json").json["findings"]}


def test_doctor_examines_every_primary(command, redis_cluster):
    found = findings(command)

    assert found["cluster"]["what"] == "3 primaries serve 16384 of 16384 slots, each with a replica or more"
    assert {name for name, each in found.items() if each["level"] == "problem"} <= NOT_HERE
    assert found["schema"]["what"].endswith("is new")
    assert found["permissions"]["level"] == "ok"
    with redis_cluster.client() as client:
        assert list(client.scan_iter(match=f"*{command.namespace}*")) == []


def test_doctor_tells_which_node_is_unfit(command, redis_cluster):
    node = redis_cluster.primaries()[1]
    with node.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        found = findings(command)["eviction"]
        client.config_set("maxmemory-policy", "noeviction")

    assert (found["level"], found["what"]) == ("problem", f"{address_of(node)}: maxmemory-policy is allkeys-lru")
    assert f"-p {node.port} " in found["mend"]


def test_work_is_enqueued_shown_and_audited(command):
    assert command("enqueue", "-", stdin=b'{"n": 1}\n{"n": 2}\n').code == 0
    status = command("status", "--json").json
    audit = command("audit", "--json")

    assert status["rollouts_by_status"]["queuing"] == 2
    assert status["memory"]["used_bytes"] > 0
    assert (audit.code, audit.json["unchecked"]) == (0, [])


def test_audit_finds_and_removes_what_belongs_to_nothing_on_any_node(command, redis_cluster):
    async def live(store):
        started = [await store.start_rollout("task") for _ in range(3)]
        await store.add_many_spans([span_of(each) for each in started])

    command.on_store(live)
    with redis_cluster.client() as client:
        strays = [f"ls:{command.namespace}:spans:{{stray-{number}}}" for number in range(9)]
        for name in strays:
            client.xadd(name, {"a": "a", "s": "1", "d": "{}"})
        client.sadd(f"ls:{command.namespace}:spanids:{{stray-0}}:a:0", 1)
        client.set(f"ls:{command.namespace}:spans:{{stray-9}}", "no stream")

        found = command("audit", "--json").json
        repaired = command("audit", "--repair", "--json").json
        left = command("audit", "--json").json

        assert sum(client.exists(name) for name in strays) == 0
    assert [each["count"] for each in found["findings"] if each["rule"] == "orphan"] == [11]
    assert [each["repaired"] for each in repaired["findings"]] == [10]
    assert [each["count"] for each in left["findings"]] == [1]


def test_daemon_works(command):
    async def leave(store):
        await store.start_rollout("task", lease_seconds=0.2)

    async def is_settled(store):
        return (await store.query_rollouts()).items[0].status == "failed"

    command.on_store(leave)
    daemon = start_process(
        ["healthcheck", "--interval", "0.2"],
        environment={"LIGHTNING_STORE_URL": command.url, "LIGHTNING_STORE_NAMESPACE": command.namespace},
    )
    try:
        began = time.monotonic()
        wait_until(lambda: command.on_store(lambda store: store.query_events())[-1].cause == "worker_lost")
        assert time.monotonic() - began < 20
    finally:
        daemon.terminate()
        daemon.communicate(timeout=10)
    assert command.on_store(is_settled)
