"""`lightning-store audit`."""

import redis

from lightning_store.backends.redis.keys import Keys
from lightning_store.contract import LightningStore
from tests.support.factories import claim, requests_for
from tests.support.places import ALL_PLACES, on_places


async def some_work(store: LightningStore) -> None:
    await store.enqueue_many_rollouts(requests_for([1, 2, 3]))
    await claim(store, "worker-1")


def damage(cli, *, for_good=False):
    keys = Keys(cli.namespace)
    with redis.Redis.from_url(cli.url, decode_responses=True) as client:
        [first, *_] = client.zrange(keys.control("status", "queuing"), 0, -1)
        client.lrem(keys.control("queue", "default"), 1, first)
        if for_good:
            client.delete(keys.control("task", first))
    return first


@on_places(*ALL_PLACES)
def test_sound_namespace_is_one_line(cli):
    cli.on_store(some_work)

    result = cli("audit")

    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("3 rollouts in ")
    assert result.out.endswith(": all is well\n")


def test_finding_is_told_with_exit_code_1_and_left(cli):
    cli.on_store(some_work)
    first = damage(cli)

    result = cli("audit")

    assert result.code == 1
    sections = [part.splitlines() for part in result.out.split("\n\n")]
    assert [row.split() for row in sections[0]] == [["findings:"], ["RULE", "FOUND", "MENDED"], ["queue", "1", "0"]]
    assert sections[1][2].split()[:2] == ["queue", first]
    assert sections[1][2].endswith("no")
    assert sections[2][0].endswith(": 1 finding, 0 mended")
    assert cli("audit").out.splitlines()[:-1] == result.out.splitlines()[:-1]


def test_repair_mends_and_says_so(cli):
    cli.on_store(some_work)
    damage(cli)

    result = cli("audit", "--repair")

    assert (result.code, result.out.splitlines()[-1].partition(": ")[2]) == (0, "1 finding, 1 mended")
    assert cli("audit").code == 0


def test_what_cannot_be_mended_keeps_exit_code_1(cli):
    cli.on_store(some_work)
    first = damage(cli, for_good=True)

    shown = cli("audit", "--repair", "--json")

    assert shown.code == 1
    assert [(each["rule"], each["count"], each["repaired"]) for each in shown.json["findings"]] == [
        ("record", 1, 0), ("queue", 1, 1),
    ]  # fmt: skip
    assert shown.json["findings"][0]["examples"] == [{"id": first, "problem": "has no task", "repaired": False}]
    assert (shown.json["rollouts"], shown.json["unchecked"]) == (3, [])


def test_what_was_not_looked_at_is_told_apart(cli):
    cli.on_store(some_work)
    with redis.Redis.from_url(cli.url) as client:
        client.set(Keys(cli.namespace).control("completed"), "no log")

    result = cli("audit")

    assert result.code == 1
    assert result.err.startswith("not checked: completion log: ")


def test_server_out_of_reach_is_one_line(offline):
    result = offline("audit")

    assert (result.code, result.out, result.err.count("\n")) == (3, "", 1)
