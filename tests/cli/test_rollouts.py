"""`lightning-store rollouts`, `spans` and `wait`."""

import signal

import pytest

from lightning_store.contract import LightningStore
from lightning_store.records import EnqueueRolloutRequest, RolloutConfig
from tests.support.command_line import CommandLine, start_process, wait_until_blocked
from tests.support.factories import claim, requests_for, reward_span, span_of, status_of
from tests.support.places import ALL_PLACES, on_places


def enqueue(cli: CommandLine, *ids: str, **fields: object) -> None:
    requests = [EnqueueRolloutRequest(input={"task": id}, rollout_id=id, **fields) for id in ids]
    cli.on_store(lambda store: store.enqueue_many_rollouts(requests))


def finish(cli: CommandLine, rollout_id: str, status: str) -> None:
    cli.on_store(lambda store: store.update_rollout(rollout_id, status=status))


def status(cli: CommandLine, rollout_id: str) -> str:
    return cli.on_store(lambda store: status_of(store, rollout_id))


# -- list ------------------------------------------------------------------------------------------------------------


def test_list_shows_one_row_per_rollout(cli):
    enqueue(cli, "a", "b", mode="train", group_id="g")

    lines = cli("rollouts", "list").out.splitlines()

    assert lines[0].split()[:7] == ["ROLLOUT", "STATUS", "ATTEMPTS", "QUEUE", "MODE", "GROUP", "WORKER"]
    assert lines[1].split()[:7] == ["a", "queuing", "0", "default", "train", "g", "-"]
    assert lines[2].startswith("b")


@on_places(*ALL_PLACES)
def test_list_filters_sorts_and_pages(cli):
    enqueue(cli, "a1", "a2", "a3", group_id="g")
    enqueue(cli, "b1")
    finish(cli, "a2", "failed")

    def listed(*options: str) -> list[str]:
        return [item["rollout_id"] for item in cli("rollouts", "list", "--json", *options).json["items"]]

    assert listed("--group", "g") == ["a1", "a2", "a3"]
    assert listed("--status", "failed,cancelled") == ["a2"]
    assert listed("--contains", "1") == ["a1", "b1"]
    assert listed("--sort-by", "rollout_id", "--desc", "--limit", "2") == ["b1", "a3"]
    assert listed("--limit", "1", "--offset", "2") == ["a3"]


def test_list_says_when_there_are_more(cli):
    enqueue(cli, "a", "b", "c")

    result = cli("rollouts", "list", "--limit", "2")

    assert result.err == "2 of 3 rollouts; --limit and --offset show others\n"
    assert cli("rollouts", "list", "--limit", "2", "--json").json["total"] == 3


@pytest.mark.parametrize("option", [["--status", "done"], ["--sort-by", "colour"], ["--limit", "-2"]])
def test_list_refuses_what_it_does_not_know(cli, option):
    result = cli("rollouts", "list", *option)

    assert result.code == 2
    assert result.err.count("\n") == 1


def test_text_from_the_store_cannot_steer_the_terminal(cli):
    cli.on_store(lambda store: store.enqueue_rollout("\x1b[31mred\x07[bold]", group_id="\u202egroup"))

    out = cli("rollouts", "list").out

    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "[bold]" in out


# -- show ------------------------------------------------------------------------------------------------------------


def two_attempts(cli: CommandLine) -> str:
    """A rollout whose first attempt failed and whose second one runs, with a reward each."""

    async def work(store: LightningStore) -> str:
        config = RolloutConfig(max_attempts=2, retry_condition=["failed"])
        await store.enqueue_rollout({"q": 1}, config=config, rollout_id="ro-1", group_id="g")
        first = await claim(store, "worker-1")
        await store.add_span(reward_span(first, 0.25))
        await store.update_attempt("ro-1", first.attempt.attempt_id, status="failed", metadata={"error": "no answer"})
        second = await claim(store, "worker-2")
        await store.add_span(reward_span(second, 0.75, sequence_id=2))
        return second.attempt.attempt_id

    return cli.on_store(work)


def test_show_tells_attempts_causes_events_workers_and_rewards(cli):
    second = two_attempts(cli)

    out = cli("rollouts", "show", "ro-1").out

    sections = {part.splitlines()[0]: part.splitlines()[1:] for part in out.split("\n\n")}
    assert "status     running" in sections["rollout:"]
    assert "reward     0.75" in sections["rollout:"]
    assert 'config     max_attempts=2 retry_condition=["failed"]' in sections["rollout:"]
    first_row, second_row = (row.split() for row in sections["attempts:"][1:])
    assert (first_row[0], *first_row[2:5]) == ("1", "failed", "agent", "worker-1")
    assert second_row[:5] == ["2", second, "running", "-", "worker-2"]
    assert '{"error": "no answer"}' in sections["metadata of attempts:"][1]
    assert [row.split()[2] for row in sections["rewards:"][1:]] == ["0.25", "0.75"]
    assert [row.split()[1:3] for row in sections["events:"][1:]] == [
        ["queuing", "enqueued"],
        ["preparing", "claimed"],
        ["running", "span"],
        ["requeuing", "agent"],
        ["preparing", "claimed"],
        ["running", "span"],
    ]


@on_places(*ALL_PLACES)
def test_show_as_json_has_everything(cli):
    second = two_attempts(cli)

    shown = cli("rollouts", "show", "ro-1", "--json").json

    assert shown["rollout"]["rollout_id"] == "ro-1"
    assert [attempt["cause"] for attempt in shown["attempts"]] == ["agent", None]
    assert shown["reward"] == 0.75
    assert [reward["value"] for reward in shown["rewards"]] == [0.25, 0.75]
    assert shown["rewards"][1]["attempt_id"] == second
    assert shown["events"][-1]["cause"] == "span"


@on_places(*ALL_PLACES)
def test_show_of_an_unknown_rollout_is_not_found(cli):
    result = cli("rollouts", "show", "nobody")

    assert (result.code, result.out, result.err) == (4, "", "error: Rollout nobody not found\n")


# -- cancel ----------------------------------------------------------------------------------------------------------


def test_cancel_takes_rollouts_out_of_their_queue(cli):
    enqueue(cli, "a", "b", "c")

    result = cli("rollouts", "cancel", "a", "c")

    assert (result.code, result.out) == (0, "cancelled 2 rollouts\n")
    assert cli.on_store(claim).rollout_id == "b"
    assert status(cli, "a") == "cancelled"


def test_cancel_by_group_and_status_needs_both(cli):
    enqueue(cli, "a", "b", group_id="g")
    enqueue(cli, "c")
    cli.on_store(claim)

    assert cli("rollouts", "cancel", "--group", "g", "--status", "queuing").out == "cancelled 1 rollout\n"
    assert [status(cli, id) for id in "abc"] == ["preparing", "cancelled", "queuing"]


@on_places(*ALL_PLACES)
def test_cancel_tells_which_were_not_cancelled_and_why(cli):
    enqueue(cli, "a", "done", "gone")
    finish(cli, "done", "succeeded")
    finish(cli, "gone", "cancelled")

    result = cli("rollouts", "cancel", "a", "done", "gone")

    assert (result.code, result.out) == (1, "cancelled 1 rollout\n")
    assert result.err == "done: not cancelled, it has succeeded\n"


def test_cancel_leaves_named_rollouts_of_other_groups_alone(cli):
    enqueue(cli, "a", group_id="g")
    enqueue(cli, "b", group_id="h")

    result = cli("rollouts", "cancel", "a", "b", "--group", "g")

    assert (result.code, result.out) == (1, "cancelled 1 rollout\n")
    assert result.err == "b: not cancelled, it is queuing or of another group\n"
    assert status(cli, "b") == "queuing"


def test_cancel_of_an_unknown_rollout_is_not_found_but_the_others_are_cancelled(cli):
    enqueue(cli, "a")

    result = cli("rollouts", "cancel", "nobody", "a", "--json")

    assert result.code == 4
    assert result.json == {"cancelled": ["a"], "refused": {}, "unknown": ["nobody"]}


def test_cancel_without_any_condition_is_refused(cli):
    enqueue(cli, "a")

    assert cli("rollouts", "cancel").code == 2
    assert status(cli, "a") == "queuing"


def test_cancel_with_no_ids_on_standard_input_cancels_nothing(cli):
    enqueue(cli, "a")

    assert cli("rollouts", "cancel", "-", stdin=b"\n").out == "cancelled 0 rollouts\n"
    assert status(cli, "a") == "queuing"


# -- retry -----------------------------------------------------------------------------------------------------------


@on_places(*ALL_PLACES)
def test_retry_brings_failed_and_cancelled_rollouts_back_to_their_queue(cli):
    enqueue(cli, "a", "b", queue="slow")
    finish(cli, "a", "failed")
    finish(cli, "b", "cancelled")

    result = cli("rollouts", "retry", "a", "b")

    assert (result.code, result.out) == (0, "requeued 2 rollouts\n")
    assert cli.on_store(lambda store: claim(store, queues=["slow"])).rollout_id == "a"
    assert status(cli, "b") == "queuing"


def test_retry_of_a_group_takes_its_failed_and_cancelled_ones(cli):
    enqueue(cli, "ok", "bad", "off", "waiting", group_id="g")
    enqueue(cli, "other")
    for rollout_id, end in (("ok", "succeeded"), ("bad", "failed"), ("off", "cancelled"), ("other", "failed")):
        finish(cli, rollout_id, end)

    assert cli("rollouts", "retry", "--group", "g", "--json").json["requeued"] == ["bad", "off"]
    assert [status(cli, id) for id in ("ok", "other")] == ["succeeded", "failed"]


def test_retry_by_status_takes_only_those(cli):
    enqueue(cli, "bad", "off")
    finish(cli, "bad", "failed")
    finish(cli, "off", "cancelled")

    assert cli("rollouts", "retry", "--status", "failed", "--json").json["requeued"] == ["bad"]


def test_retry_tells_which_were_not_requeued(cli):
    enqueue(cli, "ok", "waiting")
    finish(cli, "ok", "succeeded")

    result = cli("rollouts", "retry", "ok", "waiting")

    assert (result.code, result.out) == (1, "requeued 0 rollouts\n")
    assert result.err.splitlines() == ["ok: not requeued, it is succeeded", "waiting: not requeued, it is queuing"]


def test_retry_of_a_delayed_rollout_is_refused_but_cancelled_first_it_comes_at_once(cli):
    async def fail(store):
        config = RolloutConfig(max_attempts=2, retry_condition=["failed"], retry_delay_seconds=3600)
        await store.enqueue_rollout("task", rollout_id="later", config=config)
        await claim(store)
        await store.update_attempt("later", "latest", status="failed")

    cli.on_store(fail)

    result = cli("rollouts", "retry", "later")
    assert (result.code, result.err) == (1, "later: not requeued, it is requeuing\n")
    assert cli("rollouts", "cancel", "later").code == cli("rollouts", "retry", "later").code == 0
    assert cli.on_store(claim).attempt.sequence_id == 2


def test_retry_of_unfinished_statuses_is_refused(cli):
    result = cli("rollouts", "retry", "--status", "running")

    assert (result.code, result.err) == (
        2,
        "error: --status: only cancelled and failed rollouts can be retried, got 'running'\n",
    )


# -- spans -----------------------------------------------------------------------------------------------------------


@on_places(*ALL_PLACES)
def test_spans_are_a_tree_with_durations(cli):
    async def work(store: LightningStore) -> str:
        await store.enqueue_rollout("task", rollout_id="ro-1")
        claimed = await claim(store)

        def span(number: int, name: str, parent: str | None, seconds: float, **fields: object):
            times = {"start_time": 100.0, "end_time": 100.0 + seconds}
            return span_of(
                claimed, span_id=f"s{number}", sequence_id=number, name=name, parent_id=parent, **times, **fields
            )

        await store.add_many_spans(
            [
                span(1, "agent", None, 62),
                span(2, "llm", "s1", 0.5, attributes={"model": "small"}),
                span(3, "token", "s2", 0.001),
                span(4, "tool", "s1", 2, status={"status_code": "ERROR", "description": "no\nanswer"}),
                span(5, "orphan", "not there", 1),
            ]
        )
        return claimed.attempt.attempt_id

    attempt_id = cli.on_store(work)

    assert cli("spans", "ro-1").out.splitlines() == [
        attempt_id,
        "├─ agent  1m02s",
        "│  ├─ llm  500ms",
        "│  │  └─ token  1ms",
        "│  └─ tool  2.0s  ERROR: no\\nanswer",
        "└─ orphan  1.0s",
    ]
    assert '│  │  │  model = "small"' in cli("spans", "ro-1", "--attributes").out.splitlines()
    assert [span["name"] for span in cli("spans", "ro-1", "--json").json][:2] == ["agent", "llm"]


def test_spans_of_one_attempt_only(cli):
    second = two_attempts(cli)

    assert cli("spans", "ro-1", "--attempt", "latest").out.splitlines()[0] == second
    assert len([line for line in cli("spans", "ro-1").out.splitlines() if line.startswith("at-")]) == 2


def test_spans_of_an_unknown_rollout_are_not_found(cli):
    assert cli("spans", "nobody").code == 4


def test_a_rollout_without_spans_has_an_empty_tree(cli):
    enqueue(cli, "a")

    result = cli("spans", "a")

    assert (result.code, result.out, result.err) == (0, "", "no spans\n")


# -- wait ------------------------------------------------------------------------------------------------------------


@on_places(*ALL_PLACES)
def test_wait_succeeds_when_all_succeeded(cli):
    enqueue(cli, "a", "b")
    finish(cli, "a", "succeeded")
    finish(cli, "b", "succeeded")

    result = cli("wait", "a", "b")

    assert (result.code, result.out, result.err) == (0, "2 succeeded\n", "")


def test_wait_exits_1_when_one_failed_unless_any_end_will_do(cli):
    enqueue(cli, "a", "b", group_id="g")
    finish(cli, "a", "succeeded")
    finish(cli, "b", "failed")

    result = cli("wait", "--group", "g")

    assert (result.code, result.out, result.err) == (1, "1 failed, 1 succeeded\n", "b: failed\n")
    assert cli("wait", "--group", "g", "--any-end").code == 0


@on_places(*ALL_PLACES)
def test_wait_exits_1_when_the_time_is_over(cli):
    enqueue(cli, "a", "b")
    finish(cli, "a", "succeeded")

    result = cli("wait", "--all", "--timeout", "0.1", "--any-end", "--json")

    assert result.code == 1
    assert result.json == {
        "by_status": {"succeeded": 1},
        "finished": {"a": "succeeded"},
        "unfinished": ["b"],
        "unknown": [],
    }


def test_wait_for_an_unknown_rollout_is_not_found(cli):
    enqueue(cli, "a")
    finish(cli, "a", "succeeded")

    result = cli("wait", "-", stdin=b"a nobody")

    assert (result.code, result.out, result.err) == (4, "1 succeeded, 1 not found\n", "nobody: not found\n")


@pytest.mark.parametrize("arguments", [[], ["a", "--all"], ["--all", "--group", "g"]])
def test_wait_needs_exactly_one_choice(cli, arguments):
    assert cli("wait", *arguments).code == 2


def test_wait_does_not_wait_for_rollouts_that_are_deleted_meanwhile(cli):
    enqueue(cli, "a", "b")
    environment = {"LIGHTNING_STORE_URL": cli.url, "LIGHTNING_STORE_NAMESPACE": cli.namespace}
    process = start_process(["wait", "a", "b", "--timeout", "60"], environment=environment)
    wait_until_blocked(cli.url, process)

    process.send_signal(signal.SIGSTOP)
    finish(cli, "a", "cancelled")
    cli.on_store(lambda store: store.delete_rollouts(["a"]))
    finish(cli, "b", "succeeded")
    process.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=50)

    assert (process.returncode, out, err) == (4, "1 succeeded, 1 not found\n", "a: not found\n")


def test_wait_for_nothing_is_over_at_once(cli):
    assert (cli("wait", "--all").code, cli("wait", "-").code) == (0, 0)


def test_wait_sees_more_rollouts_than_one_page(cli):
    cli.on_store(lambda store: store.enqueue_many_rollouts(requests_for(range(1100), group_id="g")))
    assert cli("rollouts", "cancel", "--group", "g").code == 0

    result = cli("wait", "--group", "g", "--any-end")

    assert result.out == "1100 cancelled\n"
    assert result.err.splitlines()[20:] == ["... and 1080 more (--json has all)"]
