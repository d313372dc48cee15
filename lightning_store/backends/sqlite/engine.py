"""Threads that carry out transactions: one that writes, a few that read, each with a connection of its own.

SQLite blocks, so nothing of it runs on an event loop. The writer takes jobs in the order in which they come; a job is
one transaction. A connection must not live through a fork, not even unused (SQLite's locks belong to the process and
are known to its library), so all of them are closed right before a fork and opened again when they are needed.
"""

import asyncio
import os
import queue
import random
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, TypeVar

from lightning_store.backends.sqlite.connection import (
    ConnectionSettings,
    check_version,
    is_busy,
    open_connection,
    transaction,
    translated,
)
from lightning_store.backends.sqlite.job import Abandoned, Job, Outcome, Work

T = TypeVar("T")


READERS: Final = 2
"""Threads that read; a long query leaves another one for the short ones."""

_FIRST_RETRY_SECONDS: Final = 0.0002
_LAST_RETRY_SECONDS: Final = 0.004
"""Others' transactions take less than this. SQLite's own waiting sleeps up to 0.1 s, and starves some for seconds."""

_FORKING: Final = threading.RLock()
_LANES: Final[weakref.WeakSet["Lane"]] = weakref.WeakSet()
_ENGINES: Final[weakref.WeakSet["Engine"]] = weakref.WeakSet()


class Lane:
    """One connection, and the threads' right to use it.

    Attributes:
        openings: How often it was opened.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self.openings = 0
        _LANES.add(self)

    @property
    def path(self) -> Path:
        """The file."""
        return self._settings.path

    def run(self, job: Job) -> None:
        """Carry out a job as one transaction, and answer it."""
        if job.outcome.cancelled():
            return
        try:
            with self._lock, translated(self._settings.path):
                outcome = self._attempt(job)
        except Abandoned:
            return
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller, in another thread
            job.fail(error)
        else:
            job.answer(outcome)

    def call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Read outside of any transaction, on the thread of the caller."""
        with self._lock, translated(self._settings.path):
            return work(self._opened())

    def _attempt(self, job: Job) -> Outcome[Any]:
        """Try until no other process is in the way, within the limit."""
        ends = time.monotonic() + self._settings.busy_seconds
        pause = _FIRST_RETRY_SECONDS
        while True:
            try:
                connection = self._opened()
                with transaction(connection, writes=job.writes):
                    check_version(connection, self._settings)
                    return job.carry_out(connection)
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() >= ends:
                    raise
            if job.outcome.cancelled():
                raise Abandoned
            time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - so that those who wait do not march in step
            pause = min(2 * pause, _LAST_RETRY_SECONDS)

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = open_connection(self._settings)
            self.openings += 1
        return self._connection

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def before_fork(self) -> threading.Lock:
        """Have no connection, and get none until the lock that is returned is released."""
        self._lock.acquire()
        self._close()
        return self._lock

    def after_fork_in_child(self) -> None:
        """The thread that held the lock may not exist here."""
        self._lock = threading.Lock()


def _work_off(jobs: "queue.SimpleQueue[Job | None]", lane: Lane) -> None:
    while (job := jobs.get()) is not None:
        lane.run(job)
        del job  # what it holds must not live until the next one comes
    lane.close()


class Engine:
    """The threads of one store object. They start with the first job, and again after they were stopped."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._crew: _Crew | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None
        _ENGINES.add(self)

    async def read(self, work: Work[T]) -> T:
        """Carry out a transaction that only reads: all of it sees the same state."""
        job = Job(work, writes=False)
        self._put(job)
        return await job.answered()  # type: ignore[no-any-return]

    async def write(self, work: Work[T], give_back: Callable[[T], None] | None = None) -> T:
        """Carry out a transaction that writes, after those that were asked for before."""
        return await self.submit(work, give_back).answered()  # type: ignore[no-any-return]

    def submit(self, work: Work[T], give_back: Callable[[T], None] | None = None) -> Job:
        """The same, from any thread, without waiting for it."""
        job = Job(work, writes=True, give_back=give_back)
        self._put(job)
        return job

    async def stop(self) -> None:
        """Carry out what was asked for, end the threads and close the connections."""
        with self._lock:
            crew, self._crew = self._crew, None
        if crew is not None:
            crew.dismiss()
            await asyncio.get_running_loop().run_in_executor(None, crew.join)

    def _put(self, job: Job) -> None:
        with self._lock:
            if self._crew is None or self._crew.pid != os.getpid():
                self._crew = _Crew(self.settings)
                if self._finalizer is not None:
                    self._finalizer.detach()
                self._finalizer = weakref.finalize(self, self._crew.dismiss)
            self._crew.put(job)

    def after_fork_in_child(self) -> None:
        """The threads are the parent's."""
        self._lock = threading.Lock()


class _Crew:
    """The running threads of an engine; each starts when it is needed for the first time."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self.pid = os.getpid()
        self._settings = settings
        self._writing: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._reading: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._writers: list[threading.Thread] = []
        self._readers: list[threading.Thread] = []

    def put(self, job: Job) -> None:
        """Have a job done; by one caller at a time."""
        if job.writes:
            self._writing.put(job)
            if not self._writers:
                self._writers.append(self._start(self._writing, "writer"))
            return
        is_kept_waiting = not self._reading.empty()
        self._reading.put(job)
        if not self._readers or (is_kept_waiting and len(self._readers) < READERS):
            self._readers.append(self._start(self._reading, "reader"))

    def _start(self, jobs: "queue.SimpleQueue[Job | None]", role: str) -> threading.Thread:
        thread = threading.Thread(
            target=_work_off, args=(jobs, Lane(self._settings)), name=f"lightning-store-sqlite-{role}", daemon=True
        )
        thread.start()
        return thread

    def dismiss(self) -> None:
        """Let the threads end when nothing is left to do. From any thread; what is put later is never done."""
        for _ in self._writers:
            self._writing.put(None)
        for _ in self._readers:
            self._reading.put(None)

    def join(self) -> None:
        """Wait until they have ended."""
        for thread in (*self._writers, *self._readers):
            thread.join()


_HELD: Final[list[ExitStack]] = []


def _before_fork() -> None:
    """Close all connections of this process, and hold them closed."""
    _FORKING.acquire()
    held = ExitStack()
    for lane in list(_LANES):
        lock = lane.before_fork()
        held.callback(lock.release)
    _HELD.append(held)


def _after_fork_in_parent() -> None:
    _HELD.pop().close()
    _FORKING.release()


def _after_fork_in_child() -> None:
    _HELD.clear()
    _FORKING.release()
    for lane in list(_LANES):
        lane.after_fork_in_child()
    for engine in list(_ENGINES):
        engine.after_fork_in_child()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
