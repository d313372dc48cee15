"""Finding rollouts, attempts and workers inside of a transaction."""

# ruff: noqa: S608 - statements are made of constants of ours; values are arguments

import sqlite3
from typing import Final

from lightning_store.backends.sqlite import codec
from lightning_store.backends.sqlite.codec import ATTEMPT_COLUMNS, ROLLOUT_COLUMNS, WORKER_COLUMNS, Row
from lightning_store.backends.sqlite.stored import StoredRollout
from lightning_store.backends.sqlite.transaction import Rules, Transaction
from lightning_store.errors import AttemptNotFoundError, RolloutNotFoundError
from lightning_store.lifecycle import AttemptState
from lightning_store.records import Rollout, Worker, changed
from lightning_store.requests import is_name

_ROLLOUT_WIDTH: Final = len(ROLLOUT_COLUMNS)
_SELECT_ROLLOUTS: Final = (
    f"SELECT {codec.columns(ROLLOUT_COLUMNS, 'r')}, {codec.columns(ATTEMPT_COLUMNS, 'a')} FROM rollouts r "
    "LEFT JOIN attempts a ON a.rollout = r.number AND a.sequence_id = r.attempts "
)
_SELECT_ATTEMPTS: Final = f"SELECT {codec.columns(ATTEMPT_COLUMNS, 'a')} FROM attempts a WHERE a.rollout = ? "


class View(Transaction):
    """Reads by index what a transaction needs, each rollout once: whoever finds it again gets the same object."""

    def __init__(self, connection: sqlite3.Connection, rules: Rules) -> None:
        super().__init__(connection, rules)
        self._by_number: dict[int, StoredRollout] = {}
        self._numbers: dict[str, int] = {}

    def find(self, rollout_id: str) -> StoredRollout | None:
        """A rollout; None if it does not exist."""
        if rollout_id in self._numbers:
            return self._by_number[self._numbers[rollout_id]]
        if not is_name(rollout_id):
            return None
        row = self.connection.execute(_SELECT_ROLLOUTS + "WHERE r.rollout_id = ?", (rollout_id,)).fetchone()
        return None if row is None else self._noted(row)

    def numbered(self, number: int) -> StoredRollout:
        """A rollout by its creation number, which has to exist."""
        if number in self._by_number:
            return self._by_number[number]
        return self._noted(self.connection.execute(_SELECT_ROLLOUTS + "WHERE r.number = ?", (number,)).fetchone())

    def rollout(self, rollout_id: str) -> StoredRollout:
        """A rollout that has to exist.

        Raises:
            RolloutNotFoundError: It does not.
        """
        stored = self.find(rollout_id)
        if stored is None:
            raise RolloutNotFoundError(f"Rollout {rollout_id} not found")
        return stored

    def find_attempt(self, stored: StoredRollout, attempt_id: str) -> AttemptState | None:
        """An attempt; None if it does not exist."""
        latest = stored.latest
        if latest is None or latest.record.attempt_id == attempt_id:
            return latest
        if not codec.is_encodable(attempt_id):
            return None
        row = self.connection.execute(_SELECT_ATTEMPTS + "AND a.attempt_id = ?", (stored.number, attempt_id)).fetchone()
        return None if row is None else codec.attempt_from(stored.id, row)

    def attempt(self, stored: StoredRollout, attempt_id: str) -> AttemptState:
        """An attempt that has to exist.

        Raises:
            AttemptNotFoundError: It does not.
        """
        attempt = self.find_attempt(stored, attempt_id)
        if attempt is None:
            raise AttemptNotFoundError(f"Attempt {attempt_id} not found")
        return attempt

    def attempts(self, stored: StoredRollout) -> list[AttemptState]:
        """All attempts of a rollout, in order."""
        rows = self.connection.execute(_SELECT_ATTEMPTS + "ORDER BY a.sequence_id", (stored.number,))
        return [codec.attempt_from(stored.id, row) for row in rows]

    def complete(self, stored: StoredRollout) -> Rollout:
        """The rollout with its payloads, for an answer; the record is not this state's any more."""
        row = self.connection.execute(
            "SELECT input, metadata FROM tasks WHERE rollout = ?", (stored.number,)
        ).fetchone()
        return codec.with_payloads(changed(stored.record), *row)

    def remember(self, stored: StoredRollout) -> None:
        """Whoever finds this rollout gets this object."""
        self._by_number[stored.number] = stored
        self._numbers[stored.id] = stored.number

    def forget(self, stored: StoredRollout) -> None:
        """The rollout is gone."""
        del self._by_number[stored.number], self._numbers[stored.id]

    def _noted(self, row: Row) -> StoredRollout:
        attempt = row[_ROLLOUT_WIDTH:]
        latest = None if attempt[0] is None else codec.attempt_from(row[1], attempt)
        stored = StoredRollout.of(row[:_ROLLOUT_WIDTH], latest)
        self.remember(stored)
        return stored

    def find_worker(self, worker_id: str) -> Worker | None:
        """A worker; None if it is unknown."""
        if not codec.is_encodable(worker_id):
            return None
        row = self.connection.execute(
            f"SELECT {', '.join(WORKER_COLUMNS)} FROM workers WHERE worker_id = ?",
            (worker_id,),
        ).fetchone()
        return None if row is None else codec.worker_from(row)

    def worker(self, worker_id: str) -> Worker:
        """A worker, new on first mention; not written yet."""
        return self.find_worker(worker_id) or Worker(worker_id=worker_id)

    def _forget_place(self, number: int) -> None:
        """The void entry of a rollout was dropped."""
        stored = self._by_number.get(number)
        if stored is not None:
            stored.queue_place = None
            stored.written = stored.values()
