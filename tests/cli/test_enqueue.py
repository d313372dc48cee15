"""`lightning-store enqueue`."""

import json

import pytest

from lightning_store.contract import LightningStore
from lightning_store.records import Rollout
from tests.support.command_line import CommandLine


def stored(cli: CommandLine) -> list[Rollout]:
    async def read(store: LightningStore) -> list[Rollout]:
        return list(await store.query_rollouts())

    return cli.on_store(read)


def test_each_line_becomes_a_rollout_in_order(cli, tmp_path):
    file = tmp_path / "tasks.jsonl"
    file.write_text('{"q": 1}\n"two"\n[3]\nnull\n')

    result = cli("enqueue", str(file))

    assert (result.code, result.out, result.err) == (0, "enqueued 4 rollouts\n", "")
    assert [rollout.input for rollout in stored(cli)] == [{"q": 1}, "two", [3], None]


def test_standard_input_is_read_for_a_dash(cli):
    assert cli("enqueue", "-", stdin=b'"a"\n"b"').code == 0
    assert [rollout.input for rollout in stored(cli)] == ["a", "b"]


def test_unusual_but_good_lines_are_kept_to_the_letter(cli):
    lines = ["\u2028 \u0085", 2**70, {"": []}, "\U0001f600\u0000"]
    text = "\n\r\n".join(json.dumps(line, ensure_ascii=False) for line in lines)

    result = cli("enqueue", "-", stdin=b"\xef\xbb\xbf" + text.encode() + b"\r\n")

    assert result.code == 0
    assert [rollout.input for rollout in stored(cli)] == lines


def test_options_reach_the_rollouts(cli):
    result = cli(
        "enqueue", "-", "--queue", "eval", "--group", "g 1", "--mode", "val", "--resources-id", "rs-1",
        "--max-attempts", "4", "--retry-on", "failed,timeout", "--retry-on", "unresponsive", "--timeout-seconds", "9.5",
        "--unresponsive-seconds", "3", "--retry-delay-seconds", "0.5", "--max-worker-losses", "2", stdin=b"1",
    )  # fmt: skip

    assert result.code == 0, result.err
    (rollout,) = stored(cli)
    assert (rollout.queue, rollout.group_id, rollout.mode, rollout.resources_id) == ("eval", "g 1", "val", "rs-1")
    assert rollout.config.model_dump() == {
        "timeout_seconds": 9.5,
        "unresponsive_seconds": 3.0,
        "max_attempts": 4,
        "retry_condition": ["failed", "timeout", "unresponsive"],
        "retry_delay_seconds": 0.5,
        "max_worker_losses": 2,
    }


def test_bad_lines_are_told_by_number_and_nothing_is_enqueued(cli):
    result = cli("enqueue", "-", stdin=b'1\n{"a": \n\n\xff\nNaN\n2\n')

    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines() == [
        "line 2: not JSON: Expecting value at column 6",
        "line 4: not UTF-8 at byte 0",
        "line 5: NaN is not JSON",
        "error: 3 bad lines, nothing was enqueued (--skip-bad leaves them out)",
    ]
    assert stored(cli) == []


def test_skip_bad_enqueues_the_others(cli):
    result = cli("enqueue", "-", "--skip-bad", stdin=b"1\nx\n2\n")

    assert (result.code, result.out) == (0, "enqueued 2 rollouts, 1 bad line left out\n")
    assert result.err.startswith("line 2: not JSON")
    assert [rollout.input for rollout in stored(cli)] == [1, 2]


def test_lines_that_nest_without_end_are_bad_lines(cli):
    result = cli("enqueue", "-", stdin=b"[" * 100_000 + b"]" * 100_000 + b"\n" + b"[" * 300 + b"]" * 300)

    assert result.code == 2
    assert result.err.splitlines()[0] == "line 1: nested too deep"
    assert result.err.splitlines()[1].startswith("line 2: input")


def test_whole_requests_win_over_options_field_by_field(cli):
    lines = [
        {"input": 1, "queue": "fast", "config": {"max_attempts": 7}},
        {"input": None, "rollout_id": "mine", "group_id": "h", "metadata": {"k": [1]}},
    ]
    text = "\n".join(json.dumps(line) for line in lines)

    result = cli("enqueue", "-", "--requests", "--group", "g", "--timeout-seconds", "5", stdin=text.encode())

    assert result.code == 0, result.err
    first, second = stored(cli)
    assert (first.queue, first.group_id, first.config.max_attempts, first.config.timeout_seconds) == ("fast", "g", 7, 5)
    assert (second.rollout_id, second.group_id, second.metadata, second.input) == ("mine", "h", {"k": [1]}, None)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1]", "expected an object with the fields of a request, got list"),
        ("{}", "input is required; null is a value"),
        ('{"input": 1, "queu": "x"}', "unknown field queu; expected one of config, group_id,"),
        ('{"input": 1, "config": {"retries": 1}}', "unknown field config.retries; expected one of max_attempts,"),
        (
            '{"input": 1, "config": {"max_attempts": 0}}',
            "config.max_attempts: Input should be greater than or equal to 1",
        ),
        ('{"input": 1, "queue": "a b"}', "queue: expected 1 to 128 characters of A-Z a-z 0-9 . _ -, got 'a b'"),
        ('{"input": 1, "mode": "play"}', "mode: Input should be 'train', 'val' or 'test'"),
        ('{"input": 1, "rollout_id": "a/b"}', "rollout_id: expected 1 to 128 characters"),
    ],
)
def test_requests_that_a_store_would_refuse_are_bad_lines(cli, line, reason):
    result = cli("enqueue", "-", "--requests", stdin=line.encode())

    assert result.code == 2
    assert result.err.startswith(f"line 1: {reason}")


def test_ids_are_printed_one_per_line_for_other_commands(cli):
    result = cli("enqueue", "-", "--ids", stdin=b"1\n2")

    assert result.out.split() == [rollout.rollout_id for rollout in stored(cli)]
    assert result.err == "enqueued 2 rollouts\n"


def test_json_has_ids_and_what_was_left_out(cli):
    result = cli("enqueue", "-", "--skip-bad", "--json", stdin=b"1\nx\n")

    assert result.json == {
        "enqueued": 1,
        "rollout_ids": [rollout.rollout_id for rollout in stored(cli)],
        "skipped": [{"line": 2, "error": "not JSON: Expecting value at column 1"}],
    }


def test_more_rollouts_than_one_batch_keep_their_order(cli):
    text = "\n".join(str(number) for number in range(2345))

    assert cli("enqueue", "-", stdin=text.encode()).out == "enqueued 2345 rollouts\n"
    assert [rollout.input for rollout in stored(cli)] == list(range(2345))


def test_an_empty_input_enqueues_nothing(cli):
    assert cli("enqueue", "-", stdin=b"\n \n").out == "enqueued 0 rollouts\n"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--queue", "a b"], "error: queue: expected 1 to 128 characters"),
        (["--mode", "play"], "error: --mode: expected one of train, val, test, got 'play'"),
        (["--retry-on", "failed,never"], "error: --retry-on: expected one of "),
        (["--max-attempts", "0"], "error: Invalid value for '--max-attempts'"),
        (["--timeout-seconds", "nan"], "error: config.timeout_seconds: "),
    ],
)
def test_a_bad_option_is_told_once(cli, option, message):
    result = cli("enqueue", "-", *option, stdin=b"1\n2\n")

    assert result.code == 2
    assert result.err.startswith(message)
    assert result.err.count("\n") == 1


def test_a_missing_file_is_told(cli):
    result = cli("enqueue", "nowhere.jsonl")

    assert (result.code, result.err) == (2, "error: nowhere.jsonl: No such file or directory\n")


def test_very_many_bad_lines_are_counted(cli):
    result = cli("enqueue", "-", stdin=b"bad\n" * 30)

    assert result.err.splitlines()[19:] == [
        "line 20: not JSON: Expecting value at column 1",
        "... and 10 more bad lines, the last is 30",
        "error: 30 bad lines, nothing was enqueued (--skip-bad leaves them out)",
    ]


def test_a_memory_that_fills_up_midway_tells_how_many_were_enqueued(private_redis, monkeypatch, capsys, namespace):
    server = private_redis()
    cli = CommandLine(server.url, namespace, monkeypatch, capsys)
    with server.client() as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 6_000_000)
    lines = "\n".join(json.dumps(f"{number} {'x' * 1500}") for number in range(8000))

    result = cli("enqueue", "-", stdin=lines.encode())

    told, error = result.err.splitlines()
    assert result.code == 3
    assert told == f"{len(stored(cli))} of 8000 rollouts were enqueued before this error:"
    assert stored(cli) != []
    assert error.startswith("error: Redis has reached its memory limit")
