"""`lightning-store enqueue`."""

import asyncio
import json
import signal
import threading

import pytest

from lightning_store.cli import enqueue
from lightning_store.contract import LightningStore
from lightning_store.records import Rollout
from tests.support.command_line import CommandLine, start_process
from tests.support.places import ALL_PLACES, on_places
from tests.support.until import until, wait_until


def stored(cli: CommandLine) -> list[Rollout]:
    async def read(store: LightningStore) -> list[Rollout]:
        return list(await store.query_rollouts())

    return cli.on_store(read)


@on_places(*ALL_PLACES)
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


@on_places(*ALL_PLACES)
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


# -- room --------------------------------------------------------------------------------------------------------------


def test_queue_without_room_refuses_and_tells_how_many_were_enqueued(cli):
    result = cli("enqueue", "-", "--max-queued", "10", stdin=b"\n".join(b"%d" % number for number in range(13)))

    assert (result.code, result.out) == (3, "")
    assert result.err.splitlines() == [
        "10 of 13 rollouts were enqueued before this error:",
        "error: queue default has 10 rollouts of at most 10, no room for 2",
    ]
    assert [rollout.input for rollout in stored(cli)] == list(range(10))


def test_wait_for_room_tells_that_it_waits_and_ends(cli, monkeypatch):
    monkeypatch.setattr(enqueue, "PROGRESS_SECONDS", 0.2)

    result = cli("enqueue", "-", "--max-queued", "2", "--wait-for-room", "0.5", stdin=b"1\n2\n3\n")

    assert result.code == 3
    waiting = "enqueued 2 rollouts, waiting for room: queue default has 2 rollouts of at most 2, no room for 1"
    assert result.err.splitlines() == [
        waiting,
        waiting,
        "2 of 3 rollouts were enqueued before this error:",
        "error: queue default has 2 rollouts of at most 2, no room for 1",
    ]


@pytest.mark.parametrize("seconds", ["-1", "nan"])
def test_time_to_wait_for_room_is_a_time(cli, seconds):
    result = cli("enqueue", "-", "--max-queued", "2", "--wait-for-room", seconds, stdin=b"1")
    assert (result.code, result.err) == (
        2, f"error: --wait-for-room: expected seconds of 0 or more, got {float(seconds)}\n"
    )  # fmt: skip


def test_waiting_for_room_needs_a_limit(cli):
    result = cli("enqueue", "-", "--wait-for-room", "5", stdin=b"1")
    assert (result.code, result.err) == (2, "error: --wait-for-room needs --max-queued\n")


def test_bad_line_of_a_stream_stops_what_comes_behind_it(cli):
    lines = b"1\n2\nbad\n3\n"
    result = cli("enqueue", "-", "--max-queued", "9", "--wait-for-room", "5", stdin=lines)
    assert result.code == 2
    assert result.err.startswith("line 3: not JSON")

    result = cli("enqueue", "-", "--max-queued", "9", "--wait-for-room", "5", "--skip-bad", stdin=lines)
    assert (result.code, result.out) == (0, "enqueued 3 rollouts, 1 bad line left out\n")


def test_producer_in_a_pipe_is_throttled_by_the_consumers(cli):
    """Its lines are more than the pipe and one chunk hold, so it can end only when most have been consumed."""
    most, count = 8, 50
    lines = [json.dumps(f"{number} {'x' * 10_000}").encode() + b"\n" for number in range(count)]
    process = start_process(
        ["enqueue", "-", "--max-queued", str(most), "--wait-for-room", "inf"],
        environment={"LIGHTNING_STORE_URL": cli.url, "LIGHTNING_STORE_NAMESPACE": cli.namespace},
        stdin=-1,
    )
    assert process.stdin is not None
    pipe = process.stdin.buffer
    written: list[int] = []

    def produce() -> None:
        for number, line in enumerate(lines):
            pipe.write(line)
            pipe.flush()
            written.append(number)
        pipe.close()

    producer = threading.Thread(target=produce, daemon=True)
    producer.start()
    consumed: list[int] = []

    async def consume(store: LightningStore) -> None:
        async def is_full() -> bool:
            return [stats.depth for stats in await store.query_queues()] == [most]

        await until(is_full)
        await asyncio.sleep(0.3)
        assert len(written) < count // 2, "the producer was not held up"
        while len(consumed) < count:
            assert all(stats.depth <= most for stats in await store.query_queues())
            claimed = await store.dequeue_many_rollouts(limit=3, timeout=30)
            consumed.extend(int(rollout.input.split()[0]) for rollout in claimed)

    with process:
        cli.on_store(consume)
        producer.join(30)
        assert process.stdout is not None
        assert (process.wait(30), process.stdout.read()) == (0, f"enqueued {count} rollouts\n")
    assert consumed == list(range(count))


def test_ctrl_c_while_it_waits_tells_how_many_were_enqueued(cli):
    process = start_process(
        ["enqueue", "-", "--max-queued", "4", "--wait-for-room", "inf"],
        environment={"LIGHTNING_STORE_URL": cli.url, "LIGHTNING_STORE_NAMESPACE": cli.namespace},
        stdin=-1,
    )
    assert process.stdin is not None
    process.stdin.write("1\n2\n3\n4\n5\n")
    process.stdin.flush()
    wait_until(lambda: len(stored(cli)) == 4)
    process.send_signal(signal.SIGINT)

    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    told = [f"interrupted: {number} rollouts or a step more were enqueued" for number in (3, 4)]
    assert err.splitlines()[-1] in told  # the last answer may have been under way


def test_line_that_is_too_large_is_told_by_number(cli):
    large = b'"' + b"x" * (16 << 20) + b'"'

    result = cli("enqueue", "-", stdin=b'"good"\n' + large)

    assert result.code == 2
    assert result.err.splitlines() == [
        "line 2: input: 16777218 bytes of JSON, expected at most 16777216 (max_task_bytes)",
        "error: 1 bad line, nothing was enqueued (--skip-bad leaves them out)",
    ]
    assert stored(cli) == []
