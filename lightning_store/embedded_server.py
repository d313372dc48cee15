"""One run of an embedded server, held by its watchdog process."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError
from redis.retry import Retry

from lightning_store.embedded_binary import EmbeddedRedisError, ServerBinary

STOP_GRACE_SECONDS: Final = 10.0
LOCK_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 1.0


class HeldServer:
    """One run of the server, held by its watchdog process."""

    def __init__(
        self, binary: ServerBinary, config: str, *, runtime_dir: Path, data_dir: Path, url: str, password: str
    ) -> None:
        """Start the watchdog, which starts the server.

        Args:
            binary: The server program.
            config: Its configuration.
            runtime_dir: Folder for log and socket, removed when the server has ended.
            data_dir: Folder of the data, locked while the server runs.
            url: Where the server will answer.
            password: What must not show in messages.

        Raises:
            OSError: The watchdog cannot be started.
        """
        self.url = url
        self.pid = 0
        self._owner = os.getpid()
        self._ended = False
        self._closing: dict[str, Any] = {}
        self._password = password
        self._runtime_dir = runtime_dir
        order = {
            "binary": str(binary.path),
            "config": config,
            "parent": self._owner,
            "runtime_dir": str(runtime_dir),
            "log": str(runtime_dir / "redis.log"),
            "lock": str(data_dir / ".lightning-store.lock"),
            "lock_seconds": LOCK_SECONDS,
            "grace_seconds": STOP_GRACE_SECONDS,
        }
        # A session of its own keeps Ctrl-C in the terminal away from it; -I and -S make it start in milliseconds.
        self._watchdog = subprocess.Popen(  # noqa: S603 - our own file, run by our own interpreter
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("embedded_watchdog.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            cwd="/",
            bufsize=0,  # a line read ahead would be hidden from communicate()
        )
        stdin = self._watchdog.stdin
        if stdin is not None:
            stdin.write(json.dumps(order).encode() + b"\n")

    @property
    def is_running(self) -> bool:
        """Whether the server has not ended, seen from the process that started it."""
        return self._owner == os.getpid() and self._watchdog.poll() is None

    def wait_until_ready(self, timeout_seconds: float) -> None:
        """Wait for the server's process and for its first answer.

        Args:
            timeout_seconds: How long it may be silent; while it answers that it loads data, the wait goes on.

        Raises:
            EmbeddedRedisError: It could not be started, has ended, or is silent; the message has its last words.
        """
        stdout = self._watchdog.stdout
        first = json.loads((stdout.readline() if stdout else b"") or b"{}")
        if "pid" not in first:
            raise EmbeddedRedisError(f"The embedded Redis cannot be started: {first.get('error', 'no reason given')}")
        self.pid = first["pid"]
        client = redis.Redis.from_url(
            self.url,
            protocol=2,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        with client:
            self._wait_for_answer(client, timeout_seconds)

    def _wait_for_answer(self, client: "redis.Redis", timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        while True:
            if not self.is_running:
                raise EmbeddedRedisError(self.describe_end("The embedded Redis ended while it started"))
            try:
                client.ping()
                # Another server may have taken the port: only ours tells our process id.
                if client.info("server").get("process_id") == self.pid:
                    return
            except BusyLoadingError:
                deadline = time.monotonic() + timeout_seconds
            except RedisError:
                pass  # not listening yet, or somebody else's
            if time.monotonic() > deadline:
                what = f"The embedded Redis did not answer within {timeout_seconds:g} s"
                raise EmbeddedRedisError(self.describe_end(what))
            time.sleep(0.01)

    def end(self) -> None:
        """Tell the watchdog to stop the server, and wait for both; its folder goes too."""
        if self._ended or self._owner != os.getpid():
            return
        self._ended = True
        try:
            output, _ = self._watchdog.communicate(b"stop\n", timeout=STOP_GRACE_SECONDS + LOCK_SECONDS)
        except subprocess.TimeoutExpired:
            self._watchdog.terminate()
            output, _ = self._watchdog.communicate()
        for line in output.splitlines():
            self._closing.update(json.loads(line))
        shutil.rmtree(self._runtime_dir, ignore_errors=True)  # what a killed watchdog left

    def describe_end(self, what: str) -> str:
        """End it, and tell `what` with the exit code and the last lines of the log; the password never shows."""
        self.end()
        lines = "\n  ".join(["", *self._closing.get("log", [])])
        return f"{what} (exit code {self._closing.get('exit_code')}):{lines}".replace(self._password, "***")
