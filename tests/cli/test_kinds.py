"""What commands say of stores of other kinds than Redis: files, servers, and memory."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine
from tests.support.places import on_places

pytestmark = pytest.mark.wide

ONCE = (
    ["status"], ["audit"], ["doctor"], ["enqueue", "-"], ["rollouts", "list"], ["wait", "--all"],
    ["rollouts", "prune", "--keep-latest", "1"], ["consumers", "list"],
)  # fmt: skip
"""Commands that do not wait until their store can be reached."""

COMMANDS = (*ONCE, ["healthcheck"])

At = Callable[[str], CommandLine]


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> At:
    """The command line with this URL."""
    return lambda url: CommandLine(url, "default", monkeypatch, capsys)


def assert_one_line(result, code: int, *parts: str) -> None:
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    for part in parts:
        assert part in result.err


@on_places("sqlite", "http")
def test_doctor_finds_nothing_wrong(cli):
    result = cli("doctor", "--json")

    assert result.code == 0, result.out
    assert {finding["level"] for finding in result.json["findings"]} <= {"ok", "warning", "unknown"}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_memory_is_refused_where_it_would_be_empty_and_gone(at, words):
    assert_one_line(at("memory://")(*words, stdin=b"1"), 2, "memory://")


@on_places("sqlite", "http")
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_namespace_is_refused_where_there_is_one_store(cli, words):
    assert_one_line(cli(*words, "--namespace", "eval", stdin=b"1"), 2, "namespace", "'eval'")


@pytest.mark.parametrize("token", [None, "wrong-and-secret"])
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@on_places("http")
def test_token_that_a_server_does_not_take_is_told(cli, monkeypatch, words, token):
    if token is None:
        monkeypatch.delenv("LIGHTNING_STORE_TOKEN")
    else:
        monkeypatch.setenv("LIGHTNING_STORE_TOKEN", token)

    result = cli(*words, stdin=b"1")

    assert_one_line(result, 3, "LIGHTNING_STORE_TOKEN")
    assert "wrong-and-secret" not in result.err


@on_places("http")
def test_limits_of_a_servers_store_are_its_own(cli):
    assert_one_line(cli("enqueue", "-", "--max-queued", "1", stdin=b"1"), 2, "max_queued", "http://")


@pytest.mark.parametrize("words", ONCE, ids=" ".join)
def test_server_that_is_not_there_is_one_line(at, words):
    assert_one_line(at("http://127.0.0.1:1")(*words, stdin=b"1"), 3, "127.0.0.1:1")


@pytest.mark.parametrize("words", ONCE, ids=" ".join)
def test_folder_that_is_not_there_is_told_and_not_made(at, tmp_path, words):
    folder = tmp_path / "nowhere"

    assert_one_line(at(f"sqlite:///{folder}/store.db")(*words, stdin=b"1"), 3, str(folder))

    assert not folder.exists()


def make_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE diary (day TEXT)")


def make_text(path: Path) -> None:
    path.write_text("Dear diary, " * 100)


@pytest.mark.parametrize("make", [make_database, make_text])
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_file_of_another_program_is_left_as_it_is(at, tmp_path, words, make):
    path = tmp_path / "diary.db"
    make(path)
    before = path.read_bytes()

    result = at(f"sqlite:///{path}")(*words, stdin=b"1")

    assert_one_line(result, result.code, "nothing was changed")
    assert result.code not in {0, 2}
    assert path.read_bytes() == before
