"""A SQLite file is opened by several at the same moment."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from lightning_store.backends.sqlite.connection import ConnectionSettings, _prepare, open_connection
from lightning_store.errors import StoreUnavailableError


def test_file_that_another_one_makes_between_two_looks_is_not_a_strangers(tmp_path: Path):
    settings = ConnectionSettings(tmp_path / "store.db", busy_seconds=0, synchronous="full")
    looks = 0

    def make_the_file(statement: str) -> None:
        nonlocal looks
        if "sqlite_master" in statement:
            looks += 1
            with suppress(StoreUnavailableError):  # the other one has to wait, which is fine
                open_connection(settings).close()

    with closing(sqlite3.connect(settings.path, 0, isolation_level=None)) as connection:
        connection.set_trace_callback(make_the_file)
        _prepare(connection, settings)

    assert looks
    with closing(open_connection(settings)) as opened:
        assert opened.execute("SELECT count(*) FROM rollouts").fetchone() == (0,)
