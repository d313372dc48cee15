"""Connections to the file: how they are opened and set, which files are refused, and what errors of SQLite mean."""

import sqlite3
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar

from lightning_store.backends.sqlite.schema import APPLICATION_ID, MIGRATIONS, Migrations
from lightning_store.errors import (
    AccessDeniedError,
    InternalStoreError,
    LightningStoreError,
    SchemaMismatchError,
    StoreFullError,
    StoreUnavailableError,
    UnsupportedOperationError,
)

Synchronous = Literal["full", "normal"]
T = TypeVar("T")

OLDEST_SQLITE: Final = (3, 35, 0)
"""RETURNING and `NULLS LAST` are used."""

_STATEMENTS: Final = 256
"""Prepared statements that a connection keeps; all of ours."""

_BUSY_RETRY_SECONDS: Final = 0.005

_NAMES: Final = {
    "database is locked": "SQLITE_BUSY",
    "database table is locked": "SQLITE_BUSY",
    "database or disk is full": "SQLITE_FULL",
    "file is not a database": "SQLITE_NOTADB",
    "unable to open database file": "SQLITE_CANTOPEN",
    "attempt to write a readonly database": "SQLITE_READONLY",
    "access permission denied": "SQLITE_PERM",
    "disk I/O error": "SQLITE_IOERR",
}
"""What Python 3.10 does not tell by name."""


@dataclass(frozen=True)
class ConnectionSettings:
    """How the file is opened.

    Attributes:
        busy_seconds: How long a call waits for the transactions of other processes.
        synchronous: `full`: what is acknowledged survives a loss of power; `normal`: a loss of power may undo the last.
    """

    path: Path
    busy_seconds: float
    synchronous: Synchronous
    migrations: Migrations = MIGRATIONS


def check_sqlite(version: Sequence[int] = sqlite3.sqlite_version_info) -> None:
    """Refuse a SQLite that lacks what is used here.

    Raises:
        UnsupportedOperationError: It is too old.
    """
    if tuple(version) < OLDEST_SQLITE:
        found, wanted = (".".join(map(str, each)) for each in (version, OLDEST_SQLITE))
        raise UnsupportedOperationError(f"this Python comes with SQLite {found}, expected at least {wanted}")


def open_connection(settings: ConnectionSettings) -> sqlite3.Connection:
    """A connection to the file, which is made or brought up to date if need be.

    It may be used in any thread, by one at a time, and never in another process than the one that opened it. It does
    not wait while others write: whoever begins a transaction tries again.

    Raises:
        SchemaMismatchError: The file is another program's, or of a later version; nothing was changed.
        StoreUnavailableError: It cannot be opened.
    """
    with translated(settings.path):
        connection = sqlite3.connect(
            settings.path, 0, isolation_level=None, check_same_thread=False, cached_statements=_STATEMENTS
        )
        try:
            _prepare(connection, settings)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: sqlite3.Connection, settings: ConnectionSettings) -> None:
    version = _until_free(settings.busy_seconds, lambda: _version_of_one_moment(connection, settings))
    _until_free(settings.busy_seconds, lambda: connection.execute("PRAGMA journal_mode = WAL"))
    connection.execute(f"PRAGMA synchronous = {settings.synchronous}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    if version < len(settings.migrations):
        _until_free(settings.busy_seconds, lambda: _migrate(connection, settings))


def _version_of_one_moment(connection: sqlite3.Connection, settings: ConnectionSettings) -> int:
    """The same in a transaction: a file that another process makes meanwhile must not look like half of each."""
    with transaction(connection, writes=False):
        return _version(connection, settings)


def _version(connection: sqlite3.Connection, settings: ConnectionSettings) -> int:
    """Version of the file, 0 for an empty one."""
    [version] = connection.execute("PRAGMA user_version").fetchone()
    [application] = connection.execute("PRAGMA application_id").fetchone()
    [objects] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (objects or version or application):
        raise SchemaMismatchError(f"{settings.path} is the database of another program; nothing was changed")
    newest = len(settings.migrations)
    if version > newest:
        raise SchemaMismatchError(
            f"{settings.path} has schema version {version}, this client knows up to {newest}; nothing was changed"
        )
    return int(version)


def _migrate(connection: sqlite3.Connection, settings: ConnectionSettings) -> None:
    """Bring the file up to date, in one transaction; another process may have done it meanwhile."""
    with transaction(connection, writes=True):
        for statements in settings.migrations[_version(connection, settings) :]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(settings.migrations)}")


def check_version(connection: sqlite3.Connection, settings: ConnectionSettings) -> None:
    """Refuse a file whose schema another process has changed since it was opened."""
    [version] = connection.execute("PRAGMA user_version").fetchone()
    if version != len(settings.migrations):
        _version(connection, settings)
        raise SchemaMismatchError(
            f"{settings.path} has schema version {version}, this client works with {len(settings.migrations)}"
        )


@contextmanager
def transaction(connection: sqlite3.Connection, *, writes: bool) -> Generator[None, None, None]:
    """One transaction, undone by whatever error leaves the block."""
    connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _until_free(seconds: float, work: Callable[[], T]) -> T:
    """Do something once no other process is in the way."""
    ends = time.monotonic() + seconds
    while True:
        try:
            return work()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= ends:
                raise
        time.sleep(_BUSY_RETRY_SECONDS)


def error_name(error: sqlite3.Error) -> str:
    """Primary result code, as `SQLITE_BUSY`."""
    name = getattr(error, "sqlite_errorname", None)
    if name is None:
        text = str(error)
        return next((name for prefix, name in _NAMES.items() if text.startswith(prefix)), "SQLITE_ERROR")
    return "_".join(str(name).split("_")[:2])


def is_busy(error: sqlite3.Error) -> bool:
    """Whether others are in the way, and the transaction may be tried again."""
    return error_name(error) in {"SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL"}


@contextmanager
def translated(path: Path) -> Generator[None, None, None]:
    """Turn errors of SQLite into ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translate(error, path) from error


def _translate(error: sqlite3.Error, path: Path) -> LightningStoreError:
    name = error_name(error)
    kinds: dict[str, tuple[type[LightningStoreError], str]] = {
        "SQLITE_FULL": (StoreFullError, "no space left; nothing was written"),
        "SQLITE_NOTADB": (SchemaMismatchError, "not a SQLite database; nothing was changed"),
        "SQLITE_READONLY": (AccessDeniedError, "may not be written"),
        "SQLITE_PERM": (AccessDeniedError, "may not be used"),
        "SQLITE_BUSY": (StoreUnavailableError, "other processes did not let go of it in time"),
        "SQLITE_CANTOPEN": (StoreUnavailableError, "cannot be opened"),
    }
    if name in kinds:
        kind, meaning = kinds[name]
        return kind(f"{path}: {meaning} ({error})")
    if isinstance(error, sqlite3.OperationalError):
        return StoreUnavailableError(f"{path}: {error}")
    return InternalStoreError(f"{path}: {error}")
