"""The end of rollouts by cancellation, deletion and pruning, each in bounded transactions."""

# ruff: noqa: S608 - statements are made of constants of ours; values are arguments

import math
from collections.abc import Sequence
from typing import Any, Final

from lightning_store import lifecycle
from lightning_store.backends.sqlite.state import FEW, State
from lightning_store.backends.sqlite.stored import StoredRollout
from lightning_store.records import RolloutStatus
from lightning_store.status import FINISHED

STEP: Final = 500
"""Rollouts that one transaction cancels or removes, so that others come in between."""


def cancel(
    state: State, ids: Sequence[str], group_id: str | None, statuses: frozenset[RolloutStatus] | None
) -> list[str]:
    """Cancel those of the rollouts that meet the conditions now."""
    state.begin()
    cancelled = []
    for id in ids:
        stored = state.find(id)
        if stored is None or stored.record.status in FINISHED or group_id not in (None, stored.record.group_id):
            continue
        if statuses is None or stored.record.status in statuses:
            changes = {"status": "cancelled"}
            step = lifecycle.update_rollout(stored.state, stored.latest, changes, state.now, "cancelled")
            state.apply(stored, step)
            cancelled.append(id)
    return cancelled


def delete(state: State, ids: Sequence[str]) -> list[str]:
    """Remove those of the rollouts that have finished."""
    state.begin()
    return [id for id in ids if _delete_if_finished(state, state.find(id))]


def _delete_if_finished(state: State, stored: StoredRollout | None) -> bool:
    if stored is None or stored.record.status not in FINISHED:
        return False
    state.delete(stored)
    return True


def prune(
    state: State, meant: tuple[str, tuple[Any, ...]], older_than_seconds: float | None, keep_latest: int | None
) -> int:
    """Remove the first of those that are too many or too old, the oldest finish first; how many were removed."""
    state.note()
    doomed = _outlived(state, meant, older_than_seconds, keep_latest)
    if not doomed:
        return 0
    state.settle_due(FEW)
    return sum(_delete_if_finished(state, state.numbered(number)) for number in doomed)


def _outlived(
    state: State, meant: tuple[str, tuple[Any, ...]], older_than_seconds: float | None, keep_latest: int | None
) -> list[int]:
    where, arguments = meant
    too_many = 0
    if keep_latest is not None:
        [count] = state.values(f"SELECT count(*) FROM rollouts r {where}", arguments)
        too_many = max(0, count - keep_latest)
    too_old = math.inf if older_than_seconds is None else older_than_seconds
    rows = state.connection.execute(
        "SELECT r.number, c.end_time FROM rollouts r JOIN completions c ON c.number = r.finish_number "
        f"{where}ORDER BY r.finish_number LIMIT ?",
        (*arguments, STEP),
    ).fetchall()
    return [
        number for place, (number, end_time) in enumerate(rows) if place < too_many or state.now - end_time > too_old
    ]
