"""`lightning-store status`."""

import re
import secrets
from pathlib import Path

import redis

from lightning_store.contract import LightningStore
from tests.support.factories import claim, requests_for, span_of
from tests.support.places import ALL_PLACES, on_places


async def some_work(store: LightningStore) -> None:
    await store.enqueue_many_rollouts(requests_for([1, 2, 3]))
    await store.enqueue_rollout(4, queue="eval")
    claimed = await claim(store, "worker-1")
    await store.update_attempt(claimed.rollout_id, "latest", status="succeeded")
    await claim(store, "worker-2")
    await store.update_worker("worker-3")


def test_status_counts_queues_rollouts_and_workers(cli):
    cli.on_store(some_work)

    out = cli("status").out

    sections = {part.splitlines()[0]: part.splitlines()[1:] for part in out.split("\n\n")}
    queues = [row.split() for row in sections["queues:"][1:]]
    assert [(name, depth, delayed) for name, depth, _, delayed in queues] == [("default", "1", "0"), ("eval", "1", "0")]
    assert all(oldest.endswith("s") for _, _, oldest, _ in queues)
    assert [row.split() for row in sections["rollouts:"][1:5]] == [
        ["queuing", "2"], ["preparing", "1"], ["running", "0"], ["succeeded", "1"],
    ]  # fmt: skip
    assert [row.split() for row in sections["workers:"][1:]] == [["idle", "1"], ["busy", "1"], ["unknown", "1"]]
    assert {row.split()[0] for row in sections["workers heard of last:"][1:]} == {"worker-1", "worker-2", "worker-3"}
    assert any(row.startswith("memory of the server") and " of " in row for row in sections["totals:"])


def test_status_as_json_has_no_secrets(cli):
    cli.on_store(some_work)

    result = cli("status", "--json", "--workers", "1")

    shown = result.json
    assert {queue["queue"]: queue["depth"] for queue in shown["queues"]} == {"default": 1, "eval": 1}
    assert all(queue["oldest_seconds"] >= 0 for queue in shown["queues"])
    assert shown["rollouts_by_status"]["preparing"] == 1
    assert shown["workers_by_status"] == {"idle": 1, "busy": 1, "unknown": 1}
    assert [worker["worker_id"] for worker in shown["workers"]] == ["worker-3"]
    assert shown["memory"]["used_bytes"] > 0
    assert shown["namespace"] == cli.namespace
    assert shown["url"].startswith("redis://***@127.0.0.1:")
    assert cli.url.split("@")[0].split(":")[-1] not in result.out


@on_places(*ALL_PLACES)
def test_status_of_a_new_namespace_is_all_zero(cli):
    result = cli("status", "--json")

    assert result.code == 0
    assert set(result.json["rollouts_by_status"].values()) == {0}


@on_places("sqlite")
def test_status_of_a_file_has_its_size_and_that_of_its_log(cli, place):
    cli.on_store(some_work)
    cli.on_store(spans_of_a_kilobyte)

    totals = totals_of(cli("status").out)

    assert list(totals) == ["attempts", "spans", "bytes of spans", "size of the database", "size of the log"]
    assert totals["bytes of spans"].endswith("KiB")
    shown = cli("status", "--json").json
    assert 4096 < shown["files"]["database"] <= Path(place.url.removeprefix("sqlite:///")).stat().st_size
    assert shown["files"]["log"] >= 0
    assert (shown["memory"], shown["span_bytes"] > 1000) == (None, True)


@on_places("http")
def test_status_of_a_server_has_what_its_store_counts_and_no_more(cli):
    cli.on_store(some_work)

    assert totals_of(cli("status").out) == {"attempts": "2", "spans": "0", "bytes of spans": "0 B"}
    shown = cli("status", "--json").json
    assert (shown["memory"], shown["files"], shown["span_bytes"]) == (None, {}, 0)


async def spans_of_a_kilobyte(store: LightningStore) -> None:
    claimed = await claim(store, "worker-4")
    await store.add_span(span_of(claimed, attributes={"noise": secrets.token_hex(1000)}))


def totals_of(out: str) -> dict[str, str]:
    lines = out.partition("totals:\n")[2].splitlines()
    return dict(re.split(r"  +", line, maxsplit=1) for line in lines)


def test_status_of_a_server_that_tells_no_figures(cli):
    with redis.Redis.from_url(cli.url) as admin:
        admin.execute_command("ACL", "SETUSER", "figures", "reset", "on", ">hunter22", "+@all", "-info", "~*")
    url = f"redis://figures:hunter22@{cli.url.partition('@')[2]}"

    assert "memory of the server  unknown" in cli("status", "--store", url).out
    assert cli("status", "--store", url, "--json").json["memory"] is None


def test_a_right_that_is_missing_is_told(cli):
    with redis.Redis.from_url(cli.url) as admin:
        admin.execute_command("ACL", "SETUSER", "timeless", "reset", "on", ">hunter22", "+@all", "-time", "~*")
    url = f"redis://timeless:hunter22@{cli.url.partition('@')[2]}"

    result = cli("status", "--store", url)

    assert result.code == 3
    assert result.err.startswith("error: Redis refused access")
