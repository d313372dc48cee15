"""A primary with two replicas and three sentinels for tests: private, on free ports, with passwords, breakable."""

import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from typing_extensions import Self

from tests.support.redis_server import binary_under_test

SERVICE: Final = "the-store"
REPLICAS: Final = 2
SENTINELS: Final = 3
DOWN_AFTER_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 30.0


class Tls(NamedTuple):
    """What servers that listen with TLS only are configured with.

    Attributes:
        ca: The authority's certificate, in a file.
        lines: Lines of the configuration that name certificate, key and authority.
    """

    ca: Path
    lines: tuple[str, ...]


class Server:
    """One redis-server of the group; its files and port stay when it is killed and started again."""

    def __init__(
        self, folder: Path, port: int, password: str, *lines: str, is_sentinel: bool = False, tls: Tls | None = None
    ) -> None:
        self.port = port
        self.password = password
        self._folder = folder
        self._is_sentinel = is_sentinel
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        self._options: dict[str, Any] = {"ssl": True, "ssl_ca_certs": str(tls.ca)} if tls else {}
        listening = ("port 0", f"tls-port {port}", "tls-replication yes", *tls.lines) if tls else (f"port {port}",)
        settings = (*listening, "bind 127.0.0.1", f"dir {folder}", f"requirepass {password}", *lines)
        (folder / "conf").write_text("\n".join(settings) + "\n")

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start and wait for an answer."""
        command = [str(binary_under_test().path), str(self._folder / "conf")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--sentinel"] if self._is_sentinel else command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_for(self.answers, f"the server on port {self.port} to answer")

    def answers(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self.ask("PING"))
        except redis.ConnectionError:
            return False

    def kill(self) -> None:
        """End it as a power cut of its process would; nothing happens to one that has ended."""
        if self._process is not None and self.is_running:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Suspend it: it keeps its connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def ask(self, *command: str) -> Any:
        """The answer to a command, as text.

        It is asked again if the connection is cut: each sentinel cuts those of a server that it turns into a replica.
        """
        again = Retry(NoBackoff(), SENTINELS, supported_errors=(redis.ConnectionError,))
        with self.client(retry=again, decode_responses=True) as client:
            return client.execute_command(*command)

    def client(self, retry: Retry | None = None, **options: Any) -> "redis.Redis":
        """A client that tries once, unless told otherwise; the caller closes it."""
        return redis.Redis(
            host="127.0.0.1", port=self.port, password=self.password, protocol=2, socket_timeout=10.0,
            retry=retry or Retry(NoBackoff(), 0), **self._options, **options,
        )  # fmt: skip

    def role(self) -> str:
        """`master` or `slave`."""
        role: str = self.ask("ROLE")[0]
        return role


class ReplicatedServers:
    """A primary and its replicas; use it as a context."""

    def __init__(self, folder: Path, tls: Tls | None = None) -> None:
        self.password = secrets.token_hex(8)
        self._tls = tls
        first, *others = free_ports(REPLICAS + 1)
        self.servers = [
            Server(
                folder / f"server-{port}", port, self.password, f"masterauth {self.password}",
                "repl-diskless-sync-delay 0", "repl-ping-replica-period 1", "appendonly no", 'save ""', *lines, tls=tls,
            )
            for port, lines in ((first, []), *((port, [f"replicaof 127.0.0.1 {first}"]) for port in others))
        ]  # fmt: skip

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start them, and wait until the replicas follow."""
        for server in self.servers:
            server.start()
        self.wait_for_replicas()

    def wait_for_replicas(self) -> None:
        """Wait until all have what the first server has written, which must be the primary."""
        first = self.servers[0]
        first.ask(
            "PUBLISH", "anything", ""
        )  # without a write, a replica that has just been copied to counts as following
        wait_for(lambda: int(first.ask("WAIT", str(REPLICAS), "100")) == REPLICAS, "the replicas to follow")

    def stop(self) -> None:
        """End all of them."""
        for server in self.servers:
            server.kill()

    @property
    def url(self) -> str:
        """The URL of the primary, password included."""
        return f"redis://:{self.password}@127.0.0.1:{self.servers[0].port}/0"

    @property
    def primary(self) -> Server:
        """The primary."""
        return self.servers[0]

    @property
    def replicas(self) -> list[Server]:
        """All others."""
        return [server for server in self.servers if server is not self.primary]


class SentinelGroup(ReplicatedServers):
    """The same with sentinels, which choose another primary when it is gone."""

    def __init__(self, folder: Path, tls: Tls | None = None) -> None:
        super().__init__(folder, tls)
        self.sentinel_password = secrets.token_hex(8)
        password = f"sentinel auth-pass {SERVICE} {self.password}"
        self.sentinels = [
            self.sentinel(folder / f"sentinel-{number}", self.servers[0], password) for number in range(SENTINELS)
        ]

    def sentinel(self, folder: Path, watched: Server, *lines: str) -> Server:
        """A sentinel that watches a server, and those that this tells of; not started yet."""
        [port] = free_ports(1)
        return Server(
            folder, port, self.sentinel_password,
            f"sentinel monitor {SERVICE} 127.0.0.1 {watched.port} 2",
            f"sentinel down-after-milliseconds {SERVICE} {int(1000 * DOWN_AFTER_SECONDS)}",
            f"sentinel failover-timeout {SERVICE} 5000",
            f"sentinel parallel-syncs {SERVICE} {REPLICAS}",
            f"sentinel sentinel-pass {self.sentinel_password}",
            *lines,
            is_sentinel=True,
            tls=self._tls,
        )  # fmt: skip

    def start(self) -> None:
        """Start all, and wait until everybody knows everybody."""
        super().start()
        for sentinel in self.sentinels:
            sentinel.start()
        wait_for(lambda: all(map(_knows_all, self.sentinels)), "the sentinels to know each other")

    def stop(self) -> None:
        """End all of them."""
        for sentinel in self.sentinels:
            sentinel.kill()
        super().stop()

    @property
    def url(self) -> str:
        """The store's URL, passwords included."""
        return self.url_of(*self.sentinels)

    def url_of(self, *sentinels: Server, service: str = SERVICE) -> str:
        """The store's URL by some of the sentinels."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
        return f"redis+sentinel://:{self.password}@{hosts}/{service}/0?sentinel_password={self.sentinel_password}"

    def named(self) -> set[int]:
        """Ports of the primaries that the sentinels name: one, unless they disagree."""
        return {
            int(sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])
            for sentinel in self.sentinels
            if sentinel.answers()
        }

    @property
    def primary(self) -> Server:
        """The one on which the sentinels agree."""
        [port] = self.named()
        return next(server for server in self.servers if server.port == port)

    def wait_for_another(self, old: Server) -> float:
        """Wait until all sentinels name another primary; the time of the clock `time.monotonic` when they do."""
        wait_for(lambda: len(names := self.named()) == 1 and old.port not in names, "the failover")
        return time.monotonic()


def _knows_all(sentinel: Server) -> bool:
    flat = sentinel.ask("SENTINEL", "MASTER", SERVICE)
    state = dict(zip(flat[::2], flat[1::2], strict=True))
    known = state["num-slaves"], state["num-other-sentinels"], state["flags"]
    return known == (str(REPLICAS), str(SENTINELS - 1), "master")


def wait_for(condition: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Look again and again until a condition holds.

    Raises:
        AssertionError: It did not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now; no two are the same."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
