"""A real Redis for people without one: for this machine only, gone with the process that started it."""

import os
import re
import secrets
import shutil
import socket
import string
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal
from urllib.parse import quote

from typing_extensions import Self

from lightning_store.embedded_binary import EmbeddedRedisError, ServerBinary, find_server, read_binary
from lightning_store.embedded_server import HeldServer

__all__ = ["EmbeddedRedis", "EmbeddedRedisError", "ServerBinary", "find_server", "read_binary"]

HOST: Final = "127.0.0.1"
PORT_TRIES: Final = 5
SOCKET_PATH_BYTES: Final = 104
PORT_TAKEN: Final = "Address already in use"
PLAIN: Final = frozenset(string.ascii_letters + string.digits + "/._-")
SETTING: Final = re.compile(r"[A-Za-z0-9-]+")
"""A name with spaces or line breaks would be read as another setting."""

FSYNC_CHOICES: Final = ("everysec", "always")
OURS: Final = frozenset({
    "bind", "daemonize", "dir", "include", "logfile", "pidfile", "port", "protected-mode", "requirepass", "supervised",
    "unixsocket", "unixsocketperm",
})  # fmt: skip


class EmbeddedRedis:
    """One redis-server, owned by this process.

    It listens on loopback or on a unix socket only, asks for a password, writes an append-only file and, when memory
    is full, refuses writes instead of dropping keys. It ends with `stop`, with the `with` block, or with this process,
    however that ends; Ctrl-C in the terminal does not reach it. A process forked from this one may use `url` but owns
    nothing.
    Started again, the same object has the same port, while that is free, and the same password.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        appendfsync: Literal["everysec", "always"] = "everysec",
        port: int | None = None,
        unix_socket: bool = False,
        password: str | None = None,
        settings: Mapping[str, str] | None = None,
        binary: str | os.PathLike[str] | None = None,
        start_timeout_seconds: float = 10.0,
    ) -> None:
        """Set up; nothing is started.

        Args:
            data_dir: Folder of the data, made if missing, kept over restarts; None means one that goes at the end.
            appendfsync: `everysec` may lose the last second of writes if the machine dies, `always` none.
            port: Loopback port; None means a free one.
            unix_socket: Listen on a unix socket instead of a port.
            password: Password of the default user; None means a random one.
            settings: More lines of the configuration by name, such as `{"maxmemory": "1gb"}`.
            binary: The server program; None means the one that `find_server` finds.
            start_timeout_seconds: How long the server may be silent while it starts; loading data does not count.

        Raises:
            ValueError: An argument is out of range, or `settings` names something that this class decides.
        """
        if appendfsync not in FSYNC_CHOICES:
            raise ValueError(f"appendfsync is {appendfsync!r}, expected one of {', '.join(FSYNC_CHOICES)}")
        if port is not None and (unix_socket or not 0 < port < 65536):  # noqa: PLR2004 - the range of ports
            raise ValueError(f"port is {port}, expected 1 to 65535 and no unix_socket besides")
        if password == "":
            raise ValueError("password is empty")
        refused = sorted(name for name in settings or {} if name.lower() in OURS or not SETTING.fullmatch(name))
        if refused:
            raise ValueError(f"settings may not contain {', '.join(map(ascii, refused)).lower()}")
        self._data_dir = None if data_dir is None else Path(data_dir).absolute()
        self._appendfsync = appendfsync
        self._fixed_port = port
        self._port = port
        self._unix_socket = unix_socket
        self._password = password or secrets.token_urlsafe(32)
        self._settings = {name.lower(): value for name, value in (settings or {}).items()}
        self._binary_path = None if binary is None else Path(binary)
        self._binary: ServerBinary | None = None
        self._start_timeout_seconds = start_timeout_seconds
        self._server: HeldServer | None = None

    def __repr__(self) -> str:
        state = f"pid {self._server.pid}" if self._server else "stopped"
        return f"<EmbeddedRedis {state}>"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("an EmbeddedRedis belongs to one process; hand its url to others")

    @property
    def binary(self) -> ServerBinary:
        """The server program and its version; looked up at the first use.

        Raises:
            EmbeddedRedisError: There is none.
        """
        if self._binary is None:
            self._binary = find_server() if self._binary_path is None else read_binary(self._binary_path)
        return self._binary

    @property
    def url(self) -> str:
        """Where clients connect, password included: not for logs.

        Raises:
            EmbeddedRedisError: The server is not started.
        """
        return self._started().url

    @property
    def pid(self) -> int:
        """Process id of the server.

        Raises:
            EmbeddedRedisError: The server is not started.
        """
        return self._started().pid

    @property
    def is_running(self) -> bool:
        """Whether the server was started by this process and has not ended since."""
        return self._server is not None and self._server.is_running

    def start(self) -> Self:
        """Start the server and wait until it answers; does nothing when it runs already.

        Raises:
            EmbeddedRedisError: No usable server program, folder or port, or no answer in time; nothing is left running.
        """
        if self.is_running:
            return self
        self.stop()
        binary = self.binary
        _check_folder(self._data_dir, binary)
        for remaining in reversed(range(PORT_TRIES)):
            if not self._unix_socket:
                self._port = self._port or _free_port()
            try:
                self._server = self._launch(binary)
            except EmbeddedRedisError as error:
                # Somebody took the free port between our look and the server's bind.
                if self._fixed_port is not None or PORT_TAKEN not in str(error) or not remaining:
                    raise
                self._port = None
            else:
                break
        return self

    def stop(self) -> None:
        """Let the server write what it holds and end, at most some seconds; does nothing when it is not running.

        In a process that was forked from the owner this does nothing at all.
        """
        server, self._server = self._server, None
        if server is not None:
            server.end()

    def check(self) -> None:
        """See that the server is still there.

        Raises:
            EmbeddedRedisError: It is not started, or it has ended by itself; the message has its last words.
        """
        server = self._started()
        if not server.is_running:
            self._server = None
            raise EmbeddedRedisError(server.describe_end("The embedded Redis has ended"))

    def _started(self) -> "HeldServer":
        if self._server is None:
            raise EmbeddedRedisError("The embedded Redis is not started")
        return self._server

    def _launch(self, binary: ServerBinary) -> "HeldServer":
        runtime_dir = Path(tempfile.mkdtemp(prefix="lightning-store-redis-"))
        try:
            data_dir = self._data_dir or runtime_dir / "data"
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = _socket_path(runtime_dir) if self._unix_socket else None
            config = self._config(data_dir, path)
            server = HeldServer(
                binary, config, runtime_dir=runtime_dir, data_dir=data_dir, url=self._url(path), password=self._password
            )
        except BaseException as error:
            shutil.rmtree(runtime_dir, ignore_errors=True)
            if isinstance(error, OSError):
                raise EmbeddedRedisError(f"The embedded Redis cannot be started: {error}") from error
            raise
        try:
            server.wait_until_ready(self._start_timeout_seconds)
        except BaseException:
            server.end()
            raise
        return server

    def _url(self, socket_path: Path | None) -> str:
        password = quote(self._password, safe="")
        if socket_path is not None:
            return f"unix://:{password}@{quote(str(socket_path))}?db=0"
        return f"redis://:{password}@{HOST}:{self._port}/0"

    def _config(self, data_dir: Path, socket_path: Path | None) -> str:
        lines = {
            "save": "",
            "appendonly": "yes",
            "appendfsync": self._appendfsync,
            "maxmemory-policy": "noeviction",
            **self._settings,
            "dir": str(data_dir),
            "daemonize": "no",
            "bind": HOST,
            "protected-mode": "yes",
            "port": "0" if socket_path else str(self._port),
            "requirepass": self._password,
        }
        if socket_path:
            lines.update({"unixsocket": str(socket_path), "unixsocketperm": "700"})
        return "".join(f"{name} {_quoted(value)}\n" for name, value in lines.items())


def _check_folder(data_dir: Path | None, binary: ServerBinary) -> None:
    """Redis before 7 does not see a newer one's append-only files: it would start empty, as if the data were lost."""
    if data_dir is not None and (data_dir / "appendonlydir").is_dir() and binary.version < (7, 0, 0):
        found = f"{binary.path} is {binary.version_text}"
        raise EmbeddedRedisError(f"{data_dir} was written by Redis 7 or newer, {found}: install a newer redis-server")


def _socket_path(runtime_dir: Path) -> Path:
    path = runtime_dir / "redis.sock"
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
        raise EmbeddedRedisError(f"{path} is too long for a unix socket; set TMPDIR to a shorter folder")
    return path


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _quoted(value: str) -> str:
    """A value for the configuration: quoted, every unusual byte escaped, so that it stays one word on one line."""
    plain = "".join(chr(byte) if chr(byte) in PLAIN else f"\\x{byte:02x}" for byte in os.fsencode(value))
    return f'"{plain}"'
