"""Records to hash fields and script replies back to records.

Replies are what our own scripts wrote, so records are constructed from them without validating again.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from lightning_store.errors import InternalStoreError
from lightning_store.jsonvalue import compressed, load_json
from lightning_store.payloads import DEFAULT_LIMITS, PayloadLimits
from lightning_store.records import (
    DEFAULT_QUEUE,
    Attempt,
    AttemptedRollout,
    Completion,
    Consumer,
    ResourcesUpdate,
    Rollout,
    RolloutConfig,
    RolloutEvent,
    Transition,
    Worker,
    constructed,
    default_config,
)
from lightning_store.requests import NewRollout
from lightning_store.span_json import decode_span
from lightning_store.spans import Span

Fields = dict[str, str]

CONFIG_FIELDS: Final[Mapping[str, str]] = {
    "timeout_seconds": "timeout",
    "unresponsive_seconds": "unresponsive",
    "max_attempts": "max_attempts",
    "retry_condition": "retry",
    "retry_delay_seconds": "delay",
    "max_worker_losses": "max_losses",
}
"""Fields of RolloutConfig and their names in the rollout's hash, where defaults are left out."""

_DEFAULT_CONFIG: Final[Mapping[str, Any]] = vars(default_config())
_HEX_SPAN_ID: Final = 16
_INT64: Final = 1 << 63


def text(value: bytes) -> str:
    """Text as Redis gave it."""
    return value.decode()


def fields_of(flat: Sequence[bytes]) -> Fields:
    """A hash from the flat list of its fields and values."""
    parts = map(bytes.decode, flat)
    return dict(zip(parts, parts, strict=True))


# -- rollouts --------------------------------------------------------------------------------------------------------


def config_fields(config: RolloutConfig) -> dict[str, str]:
    """All config fields of the hash; "" where the value is the default."""
    return dict.fromkeys(CONFIG_FIELDS.values(), "") | _changed_config_fields(config)


def _changed_config_fields(config: RolloutConfig) -> dict[str, str]:
    """Config fields of the hash whose value is not the default."""
    values = vars(config)
    if values == _DEFAULT_CONFIG:
        return {}
    return {
        CONFIG_FIELDS[name]: ",".join(value) if name == "retry_condition" else repr(value)
        for name, value in values.items()
        if value != _DEFAULT_CONFIG[name]
    }


def many_rollouts_arguments(new: Sequence[NewRollout], payloads: PayloadLimits) -> Iterator[list[str | bytes | int]]:
    """The runs of arguments that lua/shared/requests.lua reads.

    Raises:
        InvalidRequestError: A payload is too large.
    """
    for place, each in enumerate(new):
        yield new_rollout_arguments(each, payloads, f"rollouts[{place}]." if len(new) > 1 else "")


def new_rollout_arguments(
    new: NewRollout, payloads: PayloadLimits = DEFAULT_LIMITS, prefix: str = ""
) -> list[str | bytes | int]:
    """The run of arguments that lua/shared/requests.lua reads; `prefix` stands before the names of fields in errors.

    Raises:
        InvalidRequestError: A payload is too large.
    """
    fields = _changed_config_fields(new.config)
    if new.mode:
        fields["mode"] = new.mode
    if new.resources_id:
        fields["resources"] = new.resources_id
    if new.queue != DEFAULT_QUEUE:
        fields["queue"] = new.queue
    if new.group_id:
        fields["group"] = new.group_id
    task = compressed(payloads.task(new.input, f"{prefix}input"))
    metadata = compressed(payloads.metadata(new.metadata, f"{prefix}metadata")) if new.metadata else b""
    head = (new.rollout_id, new.digest or "", task, metadata, new.group_id or "", len(fields))
    return [*head, *chain.from_iterable(fields.items())]


def created_rollout(new: NewRollout, start_time: bytes, resources_id: bytes) -> Rollout:
    """A rollout that was just enqueued, from the request and what the script added."""
    return constructed(
        Rollout,
        {
            "rollout_id": new.rollout_id,
            "input": new.input,
            "start_time": float(start_time),
            "end_time": None,
            "mode": new.mode,
            "resources_id": text(resources_id) or None,
            "status": "queuing",
            "config": new.config,
            "metadata": new.metadata,
            "queue": new.queue,
            "group_id": new.group_id,
        },
    )


def rollout(reply: Any, *, with_attempt: bool = True) -> Rollout:
    """A rollout reply as exactly AttemptedRollout if it has an attempt, else exactly Rollout."""
    rollout_id, flat, task, metadata, latest = reply
    fields = fields_of(flat)
    if not task:
        raise InternalStoreError(f"rollout {text(rollout_id)} has no task")
    values: dict[str, Any] = {
        "rollout_id": text(rollout_id),
        "input": load_json(task),
        "start_time": float(fields["start"]),
        "end_time": _optional_float(fields.get("end")),
        "mode": fields.get("mode"),
        "resources_id": fields.get("resources"),
        "status": fields["status"],
        "config": _config(fields),
        "metadata": load_json(metadata) if metadata else {},
        "queue": fields.get("queue", DEFAULT_QUEUE),
        "group_id": fields.get("group"),
    }
    if latest and with_attempt:
        values["attempt"] = attempt(values["rollout_id"], latest)
        return constructed(AttemptedRollout, values)
    return constructed(Rollout, values)


def attempted(reply: Any) -> AttemptedRollout:
    """A rollout reply that has an attempt."""
    found = rollout(reply)
    if not isinstance(found, AttemptedRollout):
        raise InternalStoreError(f"rollout {found.rollout_id} has no attempt")
    return found


def seconds(value: float | None) -> str:
    """Seconds as an argument; "" for None."""
    return "" if value is None else repr(value)


def _config(fields: Fields) -> RolloutConfig:
    retry = fields.get("retry")
    losses = fields.get("max_losses")
    return constructed(
        RolloutConfig,
        {
            "timeout_seconds": _optional_float(fields.get("timeout")),
            "unresponsive_seconds": _optional_float(fields.get("unresponsive")),
            "max_attempts": int(fields.get("max_attempts", "1")),
            "retry_condition": retry.split(",") if retry else [],
            "retry_delay_seconds": float(fields.get("delay", "0")),
            "max_worker_losses": None if losses is None else int(losses),
        },
    )


def _optional_float(value: str | None) -> float | None:
    return None if value is None else float(value)


# -- attempts and workers --------------------------------------------------------------------------------------------


def attempt_ids(listed: Sequence[bytes], latest: bytes | None) -> Sequence[bytes]:
    """Ids of a rollout's attempts in order, as lua/shared/attempt_lists.lua tells them.

    Args:
        listed: What its list of attempts holds; nothing when it has none.
        latest: Its field `latest`, None when it has no attempt; read before the list, for other attempts may begin in
            between.
    """
    return listed or ([] if latest is None else [latest])


def attempt(rollout_id: str, reply: Any) -> Attempt:
    """An attempt reply as a record."""
    attempt_id, flat, metadata = reply
    fields = fields_of(flat)
    version = fields.get("version")
    return constructed(
        Attempt,
        {
            "rollout_id": rollout_id,
            "attempt_id": text(attempt_id),
            "sequence_id": int(fields["number"]),
            "start_time": float(fields["start"]),
            "end_time": _optional_float(fields.get("end")),
            "status": fields["status"],
            "worker_id": fields.get("worker"),
            "last_heartbeat_time": _optional_float(fields.get("beat")),
            "metadata": load_json(metadata) if metadata else None,
            "cause": fields.get("cause"),
            "lease_seconds": _optional_float(fields.get("lease")),
            "resources_id": fields.get("resources"),
            "resources_version": None if version is None else int(version),
        },
    )


def attempt_change_arguments(changes: Mapping[str, Any]) -> list[str]:
    """Pairs for update_attempt.lua: "=" before a value sets the field, "" removes it."""
    names = {
        "worker_id": "worker",
        "last_heartbeat_time": "beat",
        "resources_id": "resources",
        "resources_version": "version",
    }
    pairs: list[str] = []
    for name, field in names.items():
        if name in changes:
            value = changes[name]
            pairs += [field, "" if value is None else f"={value}"]
    return pairs


def worker(reply: Any) -> Worker:
    """A worker reply as a record."""
    worker_id, flat, stats = reply
    fields = fields_of(flat)
    return constructed(
        Worker,
        {
            "worker_id": text(worker_id),
            "status": fields["status"],
            "heartbeat_stats": load_json(stats) if stats else None,
            "last_heartbeat_time": _optional_float(fields.get("beat")),
            "last_dequeue_time": _optional_float(fields.get("dequeue")),
            "last_busy_time": _optional_float(fields.get("busy")),
            "last_idle_time": _optional_float(fields.get("idle")),
            "current_rollout_id": fields.get("rollout"),
            "current_attempt_id": fields.get("attempt"),
        },
    )


# -- spans -----------------------------------------------------------------------------------------------------------


def span_id_argument(span_id: str) -> str:
    """16 lower-case hex digits as a signed 64-bit integer, which Redis stores in 8 bytes; else ":" and the text."""
    if len(span_id) == _HEX_SPAN_ID and not span_id.strip("0123456789abcdef"):
        number = int(span_id, 16)
        return str(number - 2 * _INT64 if number >= _INT64 else number)
    return ":" + span_id


def span_payload(span: Span, payloads: PayloadLimits = DEFAULT_LIMITS, place: int = 0) -> bytes:
    """The span without what its stream entry holds apart.

    Raises:
        InvalidRequestError: It is too large; `place` is its place in the call.
    """
    return compressed(payloads.span(span, place))


def span(rollout_id: str, flat: Sequence[bytes]) -> Span:
    """A span from the fields of its stream entry."""
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    return decode_span(rollout_id, text(fields[b"a"]), int(fields[b"s"]), fields[b"d"])


# -- resources, completions, events ----------------------------------------------------------------------------------


def resources(resources_id: str, reply: Sequence[bytes]) -> ResourcesUpdate:
    """A snapshot from {create, update, version, body}."""
    create, update, version, body = reply
    return ResourcesUpdate(
        resources_id=resources_id,
        create_time=float(create),
        update_time=float(update),
        version=int(version),
        resources=load_json(body),
    )


def completion(entry: Sequence[Any]) -> Completion:
    """An entry of the completion log."""
    cursor, flat = entry
    fields = fields_of(flat)
    return constructed(
        Completion,
        {
            "cursor": text(cursor),
            "rollout_id": fields["rollout"],
            "status": fields["status"],
            "mode": fields["mode"] or None,
            "group_id": fields["group"] or None,
            "start_time": float(fields["start"]),
            "end_time": float(fields["end"]),
        },
    )


def consumer(name: str, reply: Sequence[bytes | str]) -> Consumer:
    """A consumer from its name, and the cursor and the time that are kept."""
    cursor, time = (part if isinstance(part, str) else text(part) for part in reply)
    return constructed(Consumer, {"name": name, "cursor": cursor, "update_time": float(time)})


def event(flat: Sequence[bytes]) -> RolloutEvent:
    """An entry of the event log."""
    fields = fields_of(flat)
    return constructed(
        RolloutEvent,
        {
            "time": float(fields["time"]),
            "rollout_id": fields["rollout"],
            "attempt_id": fields["attempt"] or None,
            "status": fields["status"],
            "attempt_status": fields["attempt_status"] or None,
            "cause": fields["cause"],
        },
    )


def transition(reply: Sequence[bytes]) -> Transition:
    """An attempt that the store ended."""
    rollout_id, attempt_id, worker_id, attempt_status, rollout_status, cause, late = map(text, reply)
    return constructed(
        Transition,
        {
            "rollout_id": rollout_id,
            "attempt_id": attempt_id,
            "worker_id": worker_id or None,
            "attempt_status": attempt_status,
            "rollout_status": rollout_status,
            "cause": cause,
            "late_seconds": float(late),
        },
    )
