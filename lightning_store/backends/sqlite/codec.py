"""Rows to records and back."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lightning_store.jsonvalue import dump_json, load_json
from lightning_store.lifecycle import AttemptState, RolloutState
from lightning_store.records import (
    Attempt,
    AttemptedRollout,
    Completion,
    ResourcesUpdate,
    Rollout,
    RolloutConfig,
    RolloutEvent,
    Worker,
    constructed,
    default_config,
)
from lightning_store.span_json import decode_span
from lightning_store.spans import Span

Row = tuple[Any, ...]

_DEFAULT_CONFIG: Final[Mapping[str, Any]] = vars(default_config())


def columns(names: Sequence[str], table: str) -> str:
    """Columns of a table as a list in SQL."""
    return ", ".join(f"{table}.{name}" for name in names)


def is_encodable(value: object) -> bool:
    """Whether SQLite's text can hold a value; if it cannot, no record has it."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def to_bytes(text: str) -> bytes:
    """Any text, as spans have it."""
    return text.encode("utf-8", "surrogatepass")


# -- rollouts ----------------------------------------------------------------------------------------------------------

ROLLOUT_COLUMNS: Final = (
    "number", "rollout_id", "digest", "start_time", "end_time", "mode", "resources_id", "status", "config", "queue",
    "group_id", "uncounted", "losses", "attempts", "deadline", "queued_time", "queue_place", "ready_time",
    "finish_number", "last_sequence_id", "spans", "span_bytes", "evicted",
)  # fmt: skip


def config_to(config: RolloutConfig) -> bytes | None:
    """None = all defaults."""
    changed = {name: value for name, value in vars(config).items() if value != _DEFAULT_CONFIG[name]}
    return dump_json(changed) if changed else None


def config_from(data: bytes | None) -> RolloutConfig:
    """A config; what the file does not say has its default."""
    config = default_config()
    return config if data is None else constructed(RolloutConfig, {**vars(config), **load_json(data)})


def rollout_from(row: Row) -> Rollout:
    """A rollout without its payloads, from the first columns of `ROLLOUT_COLUMNS`."""
    (_, rollout_id, _, start_time, end_time, mode, resources_id, status, config, queue, group_id, *_) = row
    return constructed(
        Rollout,
        {
            "rollout_id": rollout_id,
            "input": None,
            "start_time": start_time,
            "end_time": end_time,
            "mode": mode,
            "resources_id": resources_id,
            "status": status,
            "config": config_from(config),
            "metadata": None,
            "queue": queue,
            "group_id": group_id,
        },
    )


def with_payloads(rollout: Rollout, input: bytes, metadata: bytes | None) -> Rollout:
    """The same rollout object, complete."""
    fields = vars(rollout)
    fields["input"] = load_json(input)
    fields["metadata"] = None if metadata is None else load_json(metadata)
    return rollout


def answered(rollout: Rollout, latest: Attempt | None) -> Rollout:
    """A rollout as answers show it: with its latest attempt if there is one. The records become the caller's."""
    if latest is None:
        return rollout
    return constructed(AttemptedRollout, {**rollout.__dict__, "attempt": latest})


def state_from(row: Row) -> RolloutState:
    """A rollout without its payloads, and what its record does not show."""
    return RolloutState(rollout_from(row), uncounted=row[11], losses=row[12])


# -- attempts ----------------------------------------------------------------------------------------------------------

ATTEMPT_COLUMNS: Final = (
    "sequence_id", "attempt_id", "start_time", "end_time", "status", "worker_id", "last_heartbeat_time", "metadata",
    "cause", "lease_seconds", "resources_id", "resources_version", "uncounted", "grace_end",
)  # fmt: skip


def attempt_to(state: AttemptState) -> Row:
    """Values of `ATTEMPT_COLUMNS`."""
    record = state.record
    return (
        record.sequence_id,
        record.attempt_id,
        record.start_time,
        record.end_time,
        record.status,
        record.worker_id,
        record.last_heartbeat_time,
        None if record.metadata is None else dump_json(record.metadata),
        record.cause,
        record.lease_seconds,
        record.resources_id,
        None if record.resources_version is None else str(record.resources_version),
        state.uncounted,
        state.grace_end,
    )


def attempt_from(rollout_id: str, row: Row) -> AttemptState:
    """An attempt, and what its record does not show."""
    (
        sequence_id, attempt_id, start_time, end_time, status, worker_id, last_heartbeat_time, metadata,
        cause, lease_seconds, resources_id, resources_version, uncounted, grace_end,
    ) = row  # fmt: skip
    record = constructed(
        Attempt,
        {
            "rollout_id": rollout_id,
            "attempt_id": attempt_id,
            "sequence_id": sequence_id,
            "start_time": start_time,
            "end_time": end_time,
            "status": status,
            "worker_id": worker_id,
            "last_heartbeat_time": last_heartbeat_time,
            "metadata": None if metadata is None else load_json(metadata),
            "cause": cause,
            "lease_seconds": lease_seconds,
            "resources_id": resources_id,
            "resources_version": None if resources_version is None else int(resources_version),
        },
    )
    return AttemptState(record, uncounted, grace_end)


# -- workers, resources, logs ------------------------------------------------------------------------------------------

WORKER_COLUMNS: Final = tuple(Worker.model_fields)
RESOURCES_COLUMNS: Final = ("resources_id", "create_time", "update_time", "version", "data")


def worker_to(worker: Worker) -> Row:
    """Values of `WORKER_COLUMNS`."""
    values = dict(worker.__dict__)
    if worker.heartbeat_stats is not None:
        values["heartbeat_stats"] = dump_json(worker.heartbeat_stats)
    return tuple(values[name] for name in WORKER_COLUMNS)


def worker_from(row: Row) -> Worker:
    """A worker."""
    values = dict(zip(WORKER_COLUMNS, row, strict=True))
    if values["heartbeat_stats"] is not None:
        values["heartbeat_stats"] = load_json(values["heartbeat_stats"])
    return constructed(Worker, values)


def resources_from(row: Row) -> ResourcesUpdate:
    """A snapshot of resources."""
    values: dict[str, Any] = dict(zip(RESOURCES_COLUMNS, row, strict=True))
    values["resources"] = load_json(values.pop("data"))
    return ResourcesUpdate.model_validate(values)


def cursor_of(number: int) -> str:
    """The cursor behind entry `number` of the completion log; 0 = before the first."""
    return f"{number}-0"


def completion_from(row: Row) -> Completion:
    """An entry of the completion log."""
    number, rollout_id, status, mode, group_id, start_time, end_time = row
    return constructed(
        Completion,
        {
            "cursor": cursor_of(number),
            "rollout_id": rollout_id,
            "status": status,
            "mode": mode,
            "group_id": group_id,
            "start_time": start_time,
            "end_time": end_time,
        },
    )


def event_from(row: Row) -> RolloutEvent:
    """A transition."""
    return constructed(RolloutEvent, dict(zip(RolloutEvent.model_fields, row, strict=True)))


# -- spans -------------------------------------------------------------------------------------------------------------


def span_time_to(value: float | None) -> float | None:
    """A time as it sorts by `query.sort_key`: none = infinite, not a number = NULL, which comes last."""
    if value is None:
        return math.inf
    return None if math.isnan(value) else value


def span_from(rollout_id: str, attempt_id: str, sequence_id: int, data: bytes) -> Span:
    """A span."""
    return decode_span(rollout_id, attempt_id, sequence_id, data)
