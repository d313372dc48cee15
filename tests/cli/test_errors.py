"""How the command line fails: one line, an exit code, no secrets, no traceback unless asked."""

import signal
import subprocess
import sys

import pytest
import redis

from lightning_store import exits
from lightning_store.cli import main
from lightning_store.cli.options import SESSION
from lightning_store.errors import (
    AccessDeniedError,
    InternalStoreError,
    InvalidRequestError,
    QueueFullError,
    RolloutNotFoundError,
    SchemaMismatchError,
    SpansEvictedError,
    StoreFullError,
)
from lightning_store.exits import CommandError, ExitCode, exit_code_of
from tests.support.command_line import run_process, start_process, wait_until_blocked

READING = (["status"], ["rollouts", "list"], ["rollouts", "show", "a"], ["spans", "a"], ["wait", "a"], ["doctor"])
CHANGING = (["enqueue", "-"], ["rollouts", "cancel", "a"], ["rollouts", "retry", "a"])


@pytest.mark.parametrize("arguments", [*READING, *CHANGING], ids=" ".join)
def test_a_server_out_of_reach_is_one_line_without_secrets(offline, arguments):
    result = offline(*arguments)

    assert (result.code, result.out) == (3, "")
    assert result.err.startswith("error: no answer from Redis at redis://***@127.0.0.1:1/0: ")
    assert result.err.count("\n") == 1
    assert "hunter22" not in result.err


@pytest.mark.parametrize("arguments", [*READING, *CHANGING], ids=" ".join)
def test_without_a_url_the_error_says_where_it_comes_from(offline, monkeypatch, arguments):
    monkeypatch.delenv("LIGHTNING_STORE_URL")

    result = offline(*arguments)

    assert result.code == 2
    assert result.err.startswith("error: no store given: pass --store or set LIGHTNING_STORE_URL")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host", "error: the store's URL begins with ftp://; expected redis://, rediss:// (TLS), unix://, "),
        ("memory://", "error: memory:// is a store of one process, empty and gone with it"),
        ("http://user:hunter22@host", "error: the store's URL has a user; expected the token in LIGHTNING_STORE_TOKEN"),
        ("localhost:6379", "error: the store's URL has no scheme; expected redis://"),
        ("redis://:hunter22/x@host:1/0", "error: the store's URL cannot be read; expected redis://host:port/db"),
        ("redis://:hunter22@host:port/0", "error: the store's URL cannot be read"),
        ("redis://:hunter22@127.0.0.1:1/0?colour=red", "error: the store's URL has an option that cannot be used"),
        ("redis+cluster://:hunter22@host:1/3", "error: redis url: a Cluster has database 0 only, expected no other"),
        (
            "redis+cluster://:hunter22/x@host:1",
            "error: the store's URL cannot be read; expected redis+cluster://host:port",
        ),
        ("unix://", "error: the store's URL cannot be read; expected unix:///path"),
    ],
)
def test_a_bad_url_is_a_mistake_of_use_and_its_password_is_not_shown(offline, url, message):
    for debug in ([], ["--debug"]):
        result = offline("status", "--store", url, *debug)

        assert result.code == 2
        assert result.err.splitlines()[-1].startswith(message)
        assert "hunter22" not in result.err


def test_the_option_wins_over_the_environment(cli):
    assert cli("status", "--store", "redis://127.0.0.1:1/0").code == 3


def test_a_wrong_password_is_told(cli):
    place = cli.url.partition("@")[2]

    result = cli("status", "--store", f"redis://:wrong-password@{place}")

    assert result.code == 3
    assert result.err.startswith("error: Redis at redis://***@127.0.0.1")
    assert "does not let us in" in result.err
    assert "wrong-password" not in result.err


def test_a_bad_namespace_is_a_mistake_of_use(cli):
    assert cli("status", "--namespace", "a b").err.startswith("error: namespace: expected 1 to 128 characters")


def test_another_schema_fails(cli):
    with redis.Redis.from_url(cli.url) as client:
        client.hset(f"{{ls:{cli.namespace}}}:meta", "schema", "999")

    result = cli("status")

    assert result.code == 5
    assert "schema 999" in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["rollouts"], ["rollouts", "nonsense"], ["enqueue"], ["status", "--nonsense"], ["spans", "a", "b"]],
    ids=" ".join,
)
def test_a_mistake_on_the_command_line_is_one_line_that_points_to_the_help(offline, arguments):
    result = offline(*arguments)

    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert "(see `lightning-store" in result.err
    assert result.err.count("\n") == 1


def test_version(offline):
    result = offline("--version")

    assert (result.code, result.out.count("\n")) == (0, 1)


def test_no_command_shows_the_help(offline):
    result = offline()

    assert result.code == 0
    assert "enqueue" in result.out


def test_an_unexpected_error_is_one_line_without_secrets(offline, monkeypatch):
    def fail(*_):
        raise RuntimeError("odd thing\nwith redis://:hunter22@127.0.0.1:1/0 and hunter22")

    monkeypatch.setattr("lightning_store.reachable.check_reachable", fail)

    result = offline("status")

    assert result.code == 5
    expected = "error: RuntimeError: odd thing with redis://***@127.0.0.1:1/0 and *** (`--debug` shows the traceback)\n"
    assert result.err == expected


@pytest.mark.parametrize("arguments", [["--debug", "status"], ["status", "--debug"]])
def test_debug_shows_the_traceback_without_secrets(offline, arguments):
    result = offline(*arguments)

    assert result.code == 3
    assert result.err.startswith("Traceback")
    assert result.err.splitlines()[-1].startswith("error: ")
    assert "hunter22" not in result.err


def test_debug_lasts_for_one_command(offline):
    offline("status", "--debug")

    assert offline("status").err.count("\n") == 1
    assert SESSION.debug is False


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommandError("x", ExitCode.NO), 1),
        (InvalidRequestError("x"), 2),
        (StoreFullError("x"), 3),
        (QueueFullError("x"), 3),
        (AccessDeniedError("x"), 3),
        (RolloutNotFoundError("x"), 4),
        (SpansEvictedError("x"), 4),
        (SchemaMismatchError("x"), 5),
        (InternalStoreError("x"), 5),
        (KeyError("x"), 5),
    ],
)
def test_every_error_has_its_exit_code(error, code):
    assert exit_code_of(error) == code


def test_every_exit_code_has_a_meaning():
    assert set(exits.MEANINGS) == set(ExitCode)


def test_a_process_ends_with_the_code_and_no_traceback():
    result = run_process(["status"], environment={"LIGHTNING_STORE_URL": "redis://:hunter22@127.0.0.1:1/0"})

    assert (result.code, result.out) == (3, "")
    assert result.err.count("\n") == 1
    assert "hunter22" not in result.err


def test_ctrl_c_ends_a_wait_without_a_traceback(cli):
    cli.on_store(lambda store: store.enqueue_rollout(1))
    environment = {"LIGHTNING_STORE_URL": cli.url, "LIGHTNING_STORE_NAMESPACE": cli.namespace}
    process = start_process(["wait", "--all", "--timeout", "60"], environment=environment)
    wait_until_blocked(cli.url, process)

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)

    assert (process.returncode, out, err.strip()) == (130, "", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_how_a_watch_ends(cli, number):
    environment = {"LIGHTNING_STORE_URL": cli.url, "LIGHTNING_STORE_NAMESPACE": cli.namespace}
    process = start_process(["status", "--watch", "--json", "--interval", "0.1"], environment=environment)
    lines = [process.stdout.readline() for _ in range(2)]

    process.send_signal(number)
    _, err = process.communicate(timeout=30)

    assert [line[:8] for line in lines] == ['{"url": ', '{"url": ']
    assert (process.returncode, err) == (0, "")


def test_a_reader_that_goes_away_ends_a_command_quietly(cli):
    cli.on_store(lambda store: store.enqueue_rollout("x" * 100_000))
    environment = {"LIGHTNING_STORE_URL": cli.url, "LIGHTNING_STORE_NAMESPACE": cli.namespace}
    process = start_process(["rollouts", "list", "--json"], environment=environment)
    process.stdout.close()

    err = process.stderr.read()

    assert (process.wait(30), err) == (141, "")
    process.stderr.close()


def test_the_help_is_fast_because_it_imports_no_driver():
    code = (
        "import sys; from lightning_store.cli import main; main(['--help']); print([m for m in sys.modules if m in %r])"
    )
    slow = ("asyncio", "redis", "opentelemetry", "numpy", "rich", "psutil")
    found = subprocess.run([sys.executable, "-c", code % (slow,)], capture_output=True, text=True, check=True)

    assert found.stdout.splitlines()[-1] == "[]"


def test_main_takes_the_arguments_of_the_process(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["lightning-store", "--help"])

    assert main() == 0
    assert "enqueue" in capsys.readouterr().out
