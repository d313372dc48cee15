"""`lightning-store rollouts prune`, `consumers`, and what is said of evicted spans."""

import pytest

from tests.support.command_line import CommandLine
from tests.support.factories import span_of
from tests.support.places import ALL_PLACES, on_places


def finish(cli: CommandLine, *names: str, status: str = "succeeded") -> None:
    async def work(store):
        for name in names:
            started = await store.start_rollout(name, rollout_id=name)
            await store.add_span(span_of(started))
            await store.update_rollout(name, status=status)

    cli.on_store(work)


def left(cli: CommandLine) -> list[str]:
    return [item["rollout_id"] for item in cli("rollouts", "list", "--json").json["items"]]


def acknowledge(cli: CommandLine, name: str, number: int) -> str:
    """Let a consumer pass so many completions; its cursor."""

    async def work(store):
        items = (await store.completions()).items
        return (await store.acknowledge_completions(name, items[number - 1].cursor)).cursor

    return cli.on_store(work)


@on_places(*ALL_PLACES)
def test_prune_says_how_much_it_removed(cli):
    finish(cli, "a", "b", "c")
    assert cli("rollouts", "prune", "--keep-latest", "1").out == "removed 2 rollouts\n"
    assert left(cli) == ["c"]
    assert cli("rollouts", "prune", "--older-than", "1000", "--json").json == {"removed": 0}


def test_prune_by_status(cli):
    finish(cli, "a", "b", status="failed")
    finish(cli, "c", "d")
    assert cli("rollouts", "prune", "--status", "failed,cancelled").out == "removed 2 rollouts\n"
    assert left(cli) == ["c", "d"]


@on_places(*ALL_PLACES)
def test_prune_of_what_is_consumed(cli):
    finish(cli, "a", "b", "c")
    refused = cli("rollouts", "prune", "--consumed")
    assert (refused.code, refused.err) == (1, "error: --consumed: no consumer is registered\n")
    acknowledge(cli, "quick", 3)
    acknowledge(cli, "slow", 1)

    assert cli("rollouts", "prune", "--consumed").out == "removed 1 rollout\n"
    assert left(cli) == ["b", "c"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "say what to remove"),
        (["--status", "running"], "expected one of succeeded, failed, cancelled"),
        (["--keep-latest", "-1"], "keep-latest"),
    ],
)
def test_prune_needs_to_know_what(cli, options, message):
    finish(cli, "a")
    result = cli("rollouts", "prune", *options)
    assert result.code == 2
    assert message in result.err
    assert left(cli) == ["a"]


@on_places(*ALL_PLACES)
def test_consumers_are_listed_and_forgotten(cli):
    finish(cli, "a", "b")
    cursor = acknowledge(cli, "trainer", 2)

    assert cli("consumers", "list").out.splitlines()[1].split()[:2] == ["trainer", cursor]
    assert [item["name"] for item in cli("consumers", "list", "--json").json] == ["trainer"]
    assert cli("consumers", "forget", "trainer").out == "forgot trainer\n"
    missing = cli("consumers", "forget", "trainer")
    assert (missing.code, missing.err) == (4, "error: Consumer trainer not found\n")
    assert cli("consumers", "list", "--json").json == []


def test_evicted_spans_are_told_as_such(cli):
    finish(cli, "a")

    async def evict(store):
        _, rollouts = await store._run("evict_spans", now="", token=store.ids.token(), dropped="", limit=5)
        await store._drop_spans(rollouts)

    cli.on_store(evict)

    shown = cli("rollouts", "show", "a")
    assert shown.code == 0
    assert "evicted for lack of memory" in shown.out
    assert cli("rollouts", "show", "a", "--json").json["rewards"] is None
    spans = cli("spans", "a")
    assert (spans.code, spans.err) == (4, "error: The spans of rollout a were evicted for lack of memory\n")
