"""The redis-server of `compose.yaml`: started by `deploy/redis.sh`, with the users of `deploy/users.acl`."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.redis_server import binary_under_test

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
USERS: Final = ("algorithm", "runner", "daemon")

PASSWORDS: Final = {"default": "admin&p/w\\1", "algorithm": "algorithmpw", "runner": "runnerpw", "daemon": "daemonpw"}
"""By user; the administrator's has what shells and `sed` would read as their own."""

VARIABLES: Final = {
    "LIGHTNING_STORE_ADMIN_PASSWORD": PASSWORDS["default"],
    **{f"LIGHTNING_STORE_{user.upper()}_PASSWORD": PASSWORDS[user] for user in USERS},
}


def free_port() -> int:
    """A loopback port where nobody listens at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def start_shipped(folder: Path, *arguments: str, variables: Mapping[str, str] = VARIABLES) -> "subprocess.Popen[bytes]":
    """The server as compose starts it, on loopback, with its data and its `log` in `folder`."""
    (folder / "bin").mkdir()
    (folder / "bin" / "redis-server").symlink_to(binary_under_test().path)
    command = ["sh", str(DEPLOY / "redis.sh"), "--dir", str(folder), "--bind", "127.0.0.1", *arguments]
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "TMPDIR": str(folder), **variables}
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


@contextmanager
def running(folder: Path, port: int, *arguments: str) -> Iterator[int]:
    """Such a server until the end of the block, which gets its port; the arguments say that it listens there."""
    server = start_shipped(folder, *arguments)
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port)):
                    break
            except ConnectionRefusedError:
                alive = server.poll() is None and time.monotonic() < deadline
                assert alive, (folder / "log").read_text()
                time.sleep(0.02)
        yield port
    finally:
        server.terminate()
        server.wait(10)


def url_of(user: str, port: int) -> str:
    """Where a user of the shipped file connects."""
    return f"redis://{user}:{PASSWORDS[user]}@127.0.0.1:{port}/0"


def client_of(user: str, port: int, password: str | None = None) -> "redis.Redis":
    """A client that tries once, answers with text, and is closed by the caller; `password` "" means none."""
    return redis.Redis(
        host="127.0.0.1",
        port=port,
        username=user,
        password=PASSWORDS[user] if password is None else password or None,
        protocol=2,
        decode_responses=True,
        retry=Retry(NoBackoff(), 0),
    )
