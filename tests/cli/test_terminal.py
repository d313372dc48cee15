"""The command line on a terminal: drawn tables, live views, progress."""

import codecs
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.command_line import CommandLine, start_process

SECONDS = 60.0


class Screen:
    """A process on a terminal of its own, and what it has written there."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        streams = {"stdin": slave, "stdout": slave, "stderr": slave}
        size = {"COLUMNS": "150", "LINES": "60", "TERM": "xterm"}
        self.process: subprocess.Popen[str] = start_process(
            arguments, environment={**size, **environment}, start_new_session=True, **streams
        )
        os.close(slave)
        self.text = ""
        self._decode = codecs.getincrementaldecoder("utf-8")().decode  # a read may end in the middle of a character

    def wait_for(self, pattern: str) -> "re.Match[str]":
        """Read until the pattern stands on the screen behind what was found before."""
        deadline = time.monotonic() + SECONDS
        while not (found := re.search(pattern, self.text)):
            assert time.monotonic() < deadline, self.text
            assert self._read(), self.text
        self.text = self.text[found.end() :]
        return found

    def end(self) -> int:
        """Read to the end; the exit code."""
        while self._read():
            pass
        return self.process.wait(SECONDS)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._master], [], [], 0.5)
        if not ready:
            return self.process.poll() is None
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the other end is closed
            return False
        self.text += self._decode(data)
        return bool(data)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def on_screen(namespace: str) -> Iterator[Callable[..., Screen]]:
    """Runs a command on a terminal: `screen = on_screen(url, "status")`."""
    screens = []

    def start(url: str, *arguments: str) -> Screen:
        environment = {"LIGHTNING_STORE_URL": url, "LIGHTNING_STORE_NAMESPACE": namespace}
        screens.append(Screen(list(arguments), environment))
        return screens[-1]

    yield start
    for screen in screens:
        screen.close()


def test_tables_are_drawn_on_a_terminal(cli, on_screen):
    cli.on_store(lambda store: store.enqueue_rollout("[bold]\x1b[31mtask", rollout_id="ro-1"))

    screen = on_screen(cli.url, "rollouts", "list")

    assert screen.end() == 0
    assert "─" in screen.text
    assert "ro-1" in screen.text
    assert "[bold]" in screen.text
    assert "\x1b[31mtask" not in screen.text


def test_watch_shows_the_state_again_and_again_until_ctrl_c(cli, on_screen):
    screen = on_screen(cli.url, "status", "--watch", "--interval", "0.1")
    screen.wait_for(r"queuing\W+0 ")

    cli.on_store(lambda store: store.enqueue_rollout(1))
    screen.wait_for(r"queuing\W+1 ")
    screen.process.send_signal(signal.SIGINT)

    assert screen.end() == 0
    assert "Traceback" not in screen.text


def test_watch_shows_an_outage_above_the_last_state(private_redis, on_screen):
    server = private_redis()
    screen = on_screen(server.url, "status", "--watch", "--interval", "0.1")
    screen.wait_for("queuing")

    server.kill()
    screen.wait_for("waiting: no answer from Redis")
    server.start()
    screen.text = ""
    screen.wait_for("queuing")
    screen.process.send_signal(signal.SIGINT)

    assert screen.end() == 0


def test_wait_tells_its_progress_on_a_terminal(cli, on_screen):
    cli.on_store(lambda store: store.enqueue_rollout(1, rollout_id="a"))
    cli.on_store(lambda store: store.enqueue_rollout(1, rollout_id="b"))
    screen = on_screen(cli.url, "wait", "a", "b")

    finish(cli, "a")
    screen.wait_for("1 finished, 1 to go")
    finish(cli, "b")

    screen.wait_for("2 succeeded")
    assert screen.end() == 0


def finish(cli: CommandLine, rollout_id: str) -> None:
    cli.on_store(lambda store: store.update_rollout(rollout_id, status="succeeded"))


def test_levels_of_the_doctor_have_colours(private_redis, on_screen):
    screen = on_screen(private_redis(settings={"maxmemory-policy": "allkeys-lru"}).url, "doctor")

    assert screen.end() == 1
    assert "\x1b[31mproblem" in screen.text
    assert "\x1b[32mok" in screen.text


@pytest.mark.parametrize(
    ("options", "shown"), [([], r"queuing +1$"), (["--json"], r'"queuing": 1,')], ids=["plain", "json"]
)
def test_watch_waits_out_an_outage(private_redis, namespace, monkeypatch, capsys, options, shown):
    server = private_redis()
    cli = CommandLine(server.url, namespace, monkeypatch, capsys)
    environment = {"LIGHTNING_STORE_URL": server.url, "LIGHTNING_STORE_NAMESPACE": namespace}
    process = start_process(["status", "--watch", "--interval", "0.1", *options], environment=environment)
    try:
        expect(process.stdout, "queues")
        server.kill()
        expect(process.stderr, "waiting: no answer from Redis")
        server.start()
        assert cli("enqueue", "-", stdin=b"1").code == 0
        expect(process.stdout, shown)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0


def expect(stream, pattern):
    for line in stream:
        if re.search(pattern, line):
            return
    raise AssertionError(f"no {pattern!r}")
