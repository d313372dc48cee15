"""Copies of records, in and out: what a caller changes must not change the store."""

import copy
from typing import Any, TypeVar

from pydantic import BaseModel

from lightning_store.lifecycle import AttemptState
from lightning_store.records import AttemptedRollout, Rollout

Record = TypeVar("Record", bound=BaseModel)

_IMMUTABLE = (str, int, float, bool, type(None))


def copy_record(record: Record) -> Record:
    """A deep copy of a record; much faster than pydantic's own, because records are made of JSON values and records."""
    copied = record.__copy__()
    fields = vars(copied)
    for name, value in fields.items():
        if type(value) not in _IMMUTABLE:
            fields[name] = copy_value(value)
    extra = copied.__pydantic_extra__
    if extra:
        for name, value in extra.items():
            extra[name] = copy_value(value)
    return copied


def copy_value(value: Any) -> Any:
    """A deep copy of a value of a record."""
    kind = type(value)
    if kind in _IMMUTABLE:
        return value
    if kind is dict:
        return {key: copy_value(item) for key, item in value.items()}
    if kind is list:
        return [copy_value(item) for item in value]
    if isinstance(value, BaseModel):
        return copy_record(value)
    return copy.deepcopy(value)


def copy_rollout(rollout: Rollout, latest: AttemptState | None) -> Rollout:
    """A rollout as answers show it: with its latest attempt if there is one."""
    copied = copy_record(rollout)
    if latest is None:
        return copied
    return AttemptedRollout.model_construct(**copied.__dict__, attempt=copy_record(latest.record))
