"""The file of the SQLite store: which ones are taken, made, brought up to date or refused, and what errors mean."""

import asyncio
import os
import sqlite3
import stat
from contextlib import closing

import pytest

from lightning_store import SQLiteLightningStore
from lightning_store.backends.sqlite import engine
from lightning_store.backends.sqlite.connection import (
    ConnectionSettings,
    check_sqlite,
    check_version,
    error_name,
    is_busy,
    open_connection,
)
from lightning_store.backends.sqlite.schema import APPLICATION_ID, MIGRATIONS
from lightning_store.errors import (
    AccessDeniedError,
    InternalStoreError,
    InvalidRequestError,
    SchemaMismatchError,
    StoreFullError,
    StoreUnavailableError,
    UnsupportedOperationError,
)
from tests.support.factories import requests_for

LATER = (*MIGRATIONS, ("ALTER TABLE rollouts ADD COLUMN priority INTEGER NOT NULL DEFAULT 7",))


def settings(path, **options):
    return ConnectionSettings(path, **({"busy_seconds": 5, "synchronous": "normal"} | options))


def pragma(path, name):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


@pytest.fixture
def make(path):
    made = []

    def make_store(**options):
        made.append(SQLiteLightningStore(path, **({"synchronous": "normal"} | options)))
        return made[-1]

    yield make_store
    for store in made:
        asyncio.run(store.close())


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["", ":memory:", "file:x.db", "a\x00b", b"bytes"])
def test_path_is_that_of_a_file(bad):
    with pytest.raises(InvalidRequestError, match="path: expected"):
        SQLiteLightningStore(bad)


@pytest.mark.parametrize(
    ("setting", "bad"),
    [
        ("synchronous", "off"), ("busy_seconds", -1), ("poll_seconds", 0), ("events_kept", 0), ("grace_seconds", None),
        ("memory_capacity_bytes", 0), ("eviction_memory_threshold", 1.5), ("max_queued", 0), ("max_task_bytes", 1),
    ],
)  # fmt: skip
def test_setting_out_of_bounds_is_named(path, setting, bad):
    with pytest.raises(InvalidRequestError, match=setting):
        SQLiteLightningStore(path, **{setting: bad})


def test_relative_path_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = SQLiteLightningStore("relative.db")
    monkeypatch.chdir("/")
    asyncio.run(store.enqueue_rollout("task"))
    asyncio.run(store.close())
    assert (tmp_path / "relative.db").exists()


def test_too_old_a_library_is_refused():
    with pytest.raises(UnsupportedOperationError, match=r"SQLite 3\.31\.1, expected at least 3\.35\.0"):
        check_sqlite((3, 31, 1))


@pytest.mark.parametrize(("synchronous", "level"), [("full", 2), ("normal", 1)])
def test_connections_are_set_as_asked(path, synchronous, level):
    with closing(open_connection(settings(path, synchronous=synchronous))) as connection:
        found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")]
    assert found == [level, "wal"]


# -- making and opening ------------------------------------------------------------------------------------------------


def test_file_is_made_by_the_first_operation(path, make):
    store = make()
    assert not path.exists()
    asyncio.run(store.statistics())
    assert pragma(path, "user_version") == len(MIGRATIONS)
    assert pragma(path, "application_id") == APPLICATION_ID


def test_empty_file_is_taken(path, make):
    path.touch()
    assert asyncio.run(make().statistics())["total_rollouts"] == 0


def test_everything_is_there_when_the_file_is_opened_again(make):
    first = make()
    queued = asyncio.run(first.enqueue_rollout({"n": 1}, metadata={"m": [1.5]}))
    asyncio.run(first.close())
    assert asyncio.run(make().get_rollout_by_id(queued.rollout_id)) == queued


def test_closed_store_opens_the_file_again(make):
    store = make()
    asyncio.run(store.enqueue_rollout(1))
    asyncio.run(store.close())
    asyncio.run(store.enqueue_rollout(2))
    assert asyncio.run(store.query_rollouts()).total == 2


def test_last_one_to_close_leaves_one_file(path, make):
    store = make()
    asyncio.run(store.enqueue_rollout(1))
    assert len(list(path.parent.iterdir())) == 3
    asyncio.run(store.close())
    assert list(path.parent.iterdir()) == [path]


async def test_many_objects_may_make_the_file_at_once(make):
    stores = [make() for _ in range(8)]
    await asyncio.gather(*(store.enqueue_rollout(number) for number, store in enumerate(stores)))
    assert (await stores[0].query_rollouts()).total == 8


# -- what is refused ---------------------------------------------------------------------------------------------------


def refused(store, error, match):
    """Each kind of operation tells the error."""
    for call in (store.statistics, lambda: store.enqueue_rollout(1), lambda: store.dequeue_rollout(timeout=1)):
        with pytest.raises(error, match=match):
            asyncio.run(call())


def test_another_programs_database_is_left_as_it_is(path, make):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE notes (text)")
        connection.commit()
    before = path.read_bytes()
    refused(make(), SchemaMismatchError, "another program")
    assert path.read_bytes() == before


def test_file_that_is_no_database_is_left_as_it_is(path, make):
    path.write_text("not a database, " * 100)
    before = path.read_bytes()
    refused(make(), SchemaMismatchError, "not a SQLite database")
    assert path.read_bytes() == before


def test_file_of_a_later_version_is_left_as_it_is(path, make):
    open_connection(settings(path, migrations=LATER)).close()
    before = path.read_bytes()
    refused(make(), SchemaMismatchError, f"schema version {len(LATER)}, this client knows up to {len(MIGRATIONS)}")
    assert path.read_bytes() == before


def test_directory_has_to_exist(tmp_path):
    store = SQLiteLightningStore(tmp_path / "missing" / "store.db")
    refused(store, StoreUnavailableError, "cannot be opened")
    asyncio.run(store.close())


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may write everything")
def test_file_that_may_not_be_written_is_told(path, make):  # pragma: no cover - not as the administrator
    asyncio.run(make().statistics())
    path.chmod(stat.S_IRUSR)
    with pytest.raises((AccessDeniedError, StoreUnavailableError)):
        asyncio.run(make().enqueue_rollout(1))


def test_damaged_file_is_told(path, make):
    store = make()
    asyncio.run(store.enqueue_many_rollouts(requests_for(range(50))))
    asyncio.run(store.close())
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    with pytest.raises(InternalStoreError, match="malformed"):
        asyncio.run(make().query_rollouts())


# -- versions ----------------------------------------------------------------------------------------------------------


def test_older_file_is_brought_up_to_date_with_all_that_is_in_it(path, make):
    store = make()
    asyncio.run(store.enqueue_many_rollouts(requests_for(range(5))))
    asyncio.run(store.close())

    with closing(open_connection(settings(path, migrations=LATER))) as connection:
        rows = connection.execute("SELECT priority FROM rollouts").fetchall()

    assert rows == [(7,)] * 5
    assert pragma(path, "user_version") == len(LATER)
    assert pragma(path, "integrity_check") == "ok"


def test_step_that_fails_leaves_the_older_version(path):
    open_connection(settings(path)).close()
    broken = (*LATER, ("CREATE TABLE extra (id)", "INSERT INTO missing VALUES (1)"))
    with pytest.raises(StoreUnavailableError, match="missing"):
        open_connection(settings(path, migrations=broken))
    assert pragma(path, "user_version") == len(MIGRATIONS)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'extra'").fetchone() == (0,)


def test_version_that_changes_under_an_open_store_is_noticed(path, make):
    store = make()
    asyncio.run(store.enqueue_rollout(1))
    open_connection(settings(path, migrations=LATER)).close()
    refused(store, SchemaMismatchError, "schema version 2")


def test_older_client_says_so_when_its_connection_is_open(path):
    with closing(open_connection(settings(path, migrations=LATER))) as connection:
        connection.execute("PRAGMA user_version = 1")
        with pytest.raises(SchemaMismatchError, match="schema version 1, this client works with 2"):
            check_version(connection, settings(path, migrations=LATER))


# -- other processes in the way, and the disk --------------------------------------------------------------------------


def test_lock_that_is_not_let_go_is_an_outage_and_then_over(path, make):
    store = make(busy_seconds=0.2)
    asyncio.run(store.enqueue_rollout(1))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="did not let go"):
            asyncio.run(store.enqueue_rollout(2))
        assert asyncio.run(store.query_rollouts()).total == 1, "reads go on"
        other.execute("ROLLBACK")
    asyncio.run(store.enqueue_rollout(3))
    assert asyncio.run(store.query_rollouts()).total == 2


async def test_lock_that_is_let_go_in_time_is_waited_for(path, make):
    store = make()
    await store.enqueue_rollout(1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        call = asyncio.create_task(store.enqueue_rollout(2))
        await asyncio.wait([call], timeout=0.1)
        assert not call.done()
        other.execute("ROLLBACK")
        await call


async def test_cancelled_caller_waits_no_longer_for_the_lock(path, make):
    store = make()
    await store.enqueue_rollout(1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        call = asyncio.create_task(store.enqueue_rollout(2))
        await asyncio.wait([call], timeout=0.1)
        call.cancel()
        await asyncio.wait([call])
        other.execute("ROLLBACK")
    await store.enqueue_rollout(3)
    assert [rollout.input for rollout in await store.query_rollouts()] == [1, 3]


def test_full_disk_refuses_new_work_and_changes_nothing(make, monkeypatch):
    """SQLite itself refuses, at a limit of pages that stands for the end of the disk."""

    def open_small(given):
        connection = open_connection(given)
        connection.execute("PRAGMA max_page_count = 80")
        return connection

    monkeypatch.setattr(engine, "open_connection", open_small)
    store = make()
    asyncio.run(store.enqueue_rollout("small", rollout_id="small"))
    before = asyncio.run(store.statistics()), asyncio.run(store.query_events())

    requests = requests_for(os.urandom(8000).hex() for _ in range(40))
    with pytest.raises(StoreFullError, match="nothing was written"):
        asyncio.run(store.enqueue_many_rollouts(requests))

    after = asyncio.run(store.statistics()), asyncio.run(store.query_events())
    assert (after[0] | {"uptime": 0}, after[1]) == (before[0] | {"uptime": 0}, before[1])
    assert asyncio.run(store.dequeue_rollout()).rollout_id == "small"
    assert asyncio.run(store.audit()).findings == []


def test_errors_are_told_by_their_text_where_python_does_not_name_them():
    assert error_name(sqlite3.OperationalError("database is locked")) == "SQLITE_BUSY"
    assert error_name(sqlite3.OperationalError("no such table: x")) == "SQLITE_ERROR"
    assert is_busy(sqlite3.OperationalError("database table is locked"))
    assert not is_busy(sqlite3.OperationalError("disk I/O error"))
