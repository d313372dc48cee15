"""Validated requests: the same refusals for every store, made before anything is sent or written."""

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple, TypeGuard, TypeVar, cast

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from lightning_store.clock import IdSource
from lightning_store.contract import Unset
from lightning_store.errors import InvalidRequestError
from lightning_store.jsonvalue import canonical_json, copy_json, copy_mapping
from lightning_store.records import (
    AttemptStatus,
    Consumer,
    EnqueueRolloutRequest,
    NamedResources,
    RolloutConfig,
    RolloutMode,
    RolloutStatus,
    default_config,
)
from lightning_store.spans import Span
from lightning_store.status import FINISHED, ROLLOUT_STATUSES

MAX_NAME: Final = 128
MAX_FREE_ID_BYTES: Final = 512
MAX_SEQUENCE_ID: Final = 1 << 63
MAX_CLAIM: Final = 1000
"""Most rollouts that one atomic step hands out."""

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_CURSOR: Final = re.compile(r"([0-9]{1,20})-([0-9]{1,20})")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class RolloutChanges(TypedDict, total=False):
    """What of a change to a rollout is one of a few words; as fields of a record, so that errors name them."""

    status: RolloutStatus
    mode: RolloutMode | None


class AttemptChanges(TypedDict, total=False):
    """The same of an attempt."""

    status: AttemptStatus


_ROLLOUT_CHANGES: Final[TypeAdapter[Any]] = TypeAdapter(RolloutChanges)
_ATTEMPT_CHANGES: Final[TypeAdapter[Any]] = TypeAdapter(AttemptChanges)
_RESOURCES: Final = TypeAdapter[NamedResources](NamedResources)

T = TypeVar("T")


class NewRollout(NamedTuple):
    """A rollout that is to be created; its values are copies.

    Attributes:
        digest: Tells whether a caller's own id is used again for the same task; None when the store made the id.
    """

    rollout_id: str
    digest: str | None
    input: Any
    mode: RolloutMode | None
    resources_id: str | None
    config: RolloutConfig
    metadata: dict[str, Any]
    group_id: str | None
    queue: str


@dataclass(frozen=True)
class ClaimRequest:
    """A dequeue.

    Attributes:
        timeout: At least 0; may be infinite.
        call: The token of the whole call, whichever of its looks claims; "" when nobody else knows it.
    """

    limit: int
    worker_id: str | None
    queues: tuple[str, ...]
    timeout: float
    lease_seconds: float | None
    call: str = ""


def is_name(value: object) -> TypeGuard[str]:
    """Whether `value` can name a rollout, queue or namespace; reading any other name finds nothing."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def check_name(value: object, field: str) -> str:
    """A name of a rollout, queue or namespace."""
    if not is_name(value):
        raise InvalidRequestError(
            f"{field}: expected 1 to {MAX_NAME} characters of A-Z a-z 0-9 . _ -, got {value!r:.200}"
        )
    return value


def is_free_id(value: object) -> TypeGuard[str]:
    """Whether `value` can be a worker, resources or group id."""
    if not isinstance(value, str) or _CONTROL.search(value):
        return False
    return _is_encodable(value) and 1 <= len(value.encode()) <= MAX_FREE_ID_BYTES


def _is_encodable(value: str) -> bool:
    """Whether a text is one that UTF-8 can carry."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_free_id(value: object, field: str) -> str:
    """A worker, resources or group id: free text."""
    if not is_free_id(value):
        raise InvalidRequestError(
            f"{field}: expected text of 1 to {MAX_FREE_ID_BYTES} bytes without control characters, got {value!r:.200}"
        )
    return value


def check_worker_id(value: object) -> str | None:
    """A worker id; None and the empty text mean that no worker is concerned."""
    return None if value is None or value == "" else check_free_id(value, "worker_id")


def check_lease(value: float | None) -> float | None:
    """A lease in seconds."""
    return None if value is None else check_positive(value, "lease_seconds")


def _number(value: object, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise InvalidRequestError(f"{field}: expected a number, got {value!r}")
    return float(value)


def check_positive(value: object, field: str) -> float:
    """A duration above 0."""
    number = _number(value, field)
    if not 0 < number < math.inf:
        raise InvalidRequestError(f"{field}: expected a finite number above 0, got {value!r}")
    return number


def check_seconds(value: object, field: str) -> float:
    """A duration of 0 or more."""
    number = _number(value, field)
    if not 0 <= number < math.inf:
        raise InvalidRequestError(f"{field}: expected a finite number of 0 or more, got {value!r}")
    return number


def check_timeout(value: object) -> float:
    """A time to wait; negative ones mean 0, infinity means without end."""
    return max(0.0, _number(value, "timeout"))


def check_limit(value: object, field: str, lowest: int) -> int:
    """An integer of at least `lowest`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
        raise InvalidRequestError(f"{field}: expected an integer of at least {lowest}, got {value!r}")
    return value


def check_page(limit: object, offset: object) -> tuple[int, int]:
    """Limit (-1 = all) and offset of a query."""
    return check_limit(limit, "limit", -1), check_limit(offset, "offset", 0)


def check_ids(values: Sequence[str], field: str) -> list[str]:
    """A sequence of ids or statuses, which may be unknown; a lone text is refused: it is a sequence of characters."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InvalidRequestError(f"{field}: expected a sequence of texts, got {values!r:.200}")
    texts = list(values)
    if not all(isinstance(text, str) for text in texts):
        raise InvalidRequestError(f"{field}: expected a sequence of texts, got {texts!r:.200}")
    return texts


def check_pairs(values: Sequence[tuple[str, str]], field: str) -> list[tuple[str, str]]:
    """Pairs of rollout and attempt id, which may be unknown."""
    pairs = [tuple(value) for value in values]
    if not all(len(pair) == 2 and all(isinstance(part, str) for part in pair) for pair in pairs):  # noqa: PLR2004
        raise InvalidRequestError(f"{field}: expected pairs of rollout and attempt id, got {values!r:.200}")
    return cast("list[tuple[str, str]]", pairs)


def check_resources(resources: Any) -> NamedResources:
    """A copy of a mapping from names to resources."""
    plain = {
        name: value.model_dump() if hasattr(value, "model_dump") else value
        for name, value in copy_items(resources, "resources")
    }
    return _RESOURCES.validate_python(copy_mapping(plain, "resources"))


def check_spans(spans: Sequence[Span]) -> None:
    """Refuse what is no span, sequence ids beyond 63 bits, and span ids that cannot be kept outside of JSON."""
    for span in spans:
        if not isinstance(span, Span):
            raise InvalidRequestError(f"spans: expected Span, got {type(span).__name__}")
        if not 0 <= span.sequence_id < MAX_SEQUENCE_ID:
            raise InvalidRequestError(
                f"sequence_id: expected an integer from 0 to {MAX_SEQUENCE_ID - 1}, got {span.sequence_id}"
            )
        if not _is_encodable(span.span_id):
            raise InvalidRequestError(f"span_id: expected text without lone surrogates, got {span.span_id!r:.200}")


def copy_items(mapping: Any, field: str) -> list[tuple[Any, Any]]:
    """Items of what must be a mapping."""
    if not isinstance(mapping, dict):
        raise InvalidRequestError(f"{field}: expected a mapping, got {type(mapping).__name__}")
    return list(mapping.items())


def new_rollout(request: EnqueueRolloutRequest, ids: IdSource) -> NewRollout:
    """The rollout that a request asks for, with an id."""
    if not isinstance(request, EnqueueRolloutRequest):
        raise InvalidRequestError(f"rollouts: expected EnqueueRolloutRequest, got {type(request).__name__}")
    config = default_config() if request.config is None else _config_copy(request.config)
    task = copy_json(request.input, "input")
    own_id = request.rollout_id
    digest = None
    if own_id is not None:
        check_name(own_id, "rollout_id")
        canonical = canonical_json([task, config.model_dump()])
        digest = hashlib.sha256(canonical).hexdigest()[:32]
    return NewRollout(
        rollout_id=own_id or ids.rollout_id(),
        digest=digest,
        input=task,
        mode=request.mode,
        resources_id=_optional_free_id(request.resources_id, "resources_id"),
        config=config,
        metadata={} if request.metadata is None else copy_mapping(request.metadata, "metadata"),
        group_id=_optional_free_id(request.group_id, "group_id"),
        queue=check_name(request.queue, "queue"),
    )


def claim_request(
    limit: int, worker_id: str | None, queues: Sequence[str], timeout: float, lease_seconds: float | None
) -> ClaimRequest:
    """A dequeue with its arguments checked."""
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise InvalidRequestError(f"limit: expected an integer, got {limit!r}")
    names = tuple(dict.fromkeys(check_ids(queues, "queues")))
    if not names:
        raise InvalidRequestError("queues: expected at least one queue")
    for name in names:
        check_name(name, "queues")
    return ClaimRequest(limit, check_worker_id(worker_id), names, check_timeout(timeout), check_lease(lease_seconds))


def _checked_word(changes: TypeAdapter[Any], field: str, value: Any) -> Any:
    return changes.validate_python({field: value})[field]


def rollout_changes(given: dict[str, Any]) -> dict[str, Any]:
    """Validated copies of the fields of an `update_rollout` that are not `UNSET`."""
    changes = _given(given)
    for field in ("status", "config"):
        if field in changes and changes[field] is None:
            raise InvalidRequestError(f"{field}: expected a value, got None")
    return {field: _ROLLOUT_CONVERTERS[field](value) for field, value in changes.items()}


def attempt_changes(given: dict[str, Any]) -> dict[str, Any]:
    """Validated copies of the fields of an `update_attempt` that are not `UNSET`."""
    changes = _given(given)
    for field in ("status", "worker_id", "last_heartbeat_time", "metadata"):
        if field in changes and changes[field] is None:
            raise InvalidRequestError(f"{field}: expected a value, got None")
    return {field: _ATTEMPT_CONVERTERS[field](value) for field, value in changes.items()}


def worker_stats(stats: dict[str, Any] | Unset) -> dict[str, Any] | Unset:
    """A copy of heartbeat stats.

    Raises:
        TypeError: They are None.
    """
    if stats is None:
        raise TypeError("heartbeat_stats: expected an object, got None")
    return stats if isinstance(stats, Unset) else copy_mapping(stats, "heartbeat_stats")


def check_cancel(
    rollout_ids: Sequence[str] | None, group_id: str | None, status_in: Sequence[RolloutStatus] | None
) -> None:
    """Refuse a cancellation without any condition: it would cancel everything."""
    if rollout_ids is None and group_id is None and status_in is None:
        raise InvalidRequestError("cancel_rollouts: expected rollout_ids, group_id or status_in")


def check_prune(
    older_than_seconds: float | None,
    keep_latest: int | None,
    status_in: Sequence[RolloutStatus] | None,
    consumed_cursor: str | None,
) -> None:
    """Refuse limits that are missing or negative, statuses that are no ends, and what is no cursor."""
    if older_than_seconds is None and keep_latest is None and status_in is None and consumed_cursor is None:
        raise InvalidRequestError("prune: expected older_than_seconds, keep_latest, status_in or consumed_cursor")
    if older_than_seconds is not None:
        check_seconds(older_than_seconds, "older_than_seconds")
    if keep_latest is not None:
        check_limit(keep_latest, "keep_latest", 0)
    for status in () if status_in is None else check_ids(status_in, "status_in"):
        if status not in FINISHED:
            allowed = ", ".join(status for status in ROLLOUT_STATUSES if status in FINISHED)
            raise InvalidRequestError(f"status_in: only finished rollouts are removed ({allowed}), got {status!r:.200}")
    if consumed_cursor is not None:
        parse_cursor(consumed_cursor, "consumed_cursor")


def parse_cursor(cursor: str, field: str) -> tuple[int, int]:
    """The place in the completion log that a cursor stands for; an earlier place is less.

    Raises:
        InvalidRequestError: No log gives such a cursor.
    """
    match = _CURSOR.fullmatch(cursor) if isinstance(cursor, str) else None
    if match is None:
        raise InvalidRequestError(f"{field}: expected a cursor of an earlier page or completion, got {cursor!r:.200}")
    return int(match[1]), int(match[2])


def lowest_cursor(consumers: Sequence[Consumer]) -> str | None:
    """The cursor that all consumers have passed; None when there is no consumer."""
    return min((each.cursor for each in consumers), key=lambda each: parse_cursor(each, "cursor"), default=None)


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in fields.items() if not isinstance(value, Unset)}


def _optional_free_id(value: str | None, field: str) -> str | None:
    return None if value is None else check_free_id(value, field)


def _time(value: object) -> float:
    number = _number(value, "last_heartbeat_time")
    if math.isinf(number):
        raise InvalidRequestError(f"last_heartbeat_time: expected a finite number, got {value!r}")
    return number


def _config_copy(config: RolloutConfig) -> RolloutConfig:
    """A deep copy, validated again because models can be changed after they were made."""
    return RolloutConfig.model_validate(vars(config))


_ROLLOUT_CONVERTERS: Final[dict[str, Callable[[Any], Any]]] = {
    "input": lambda value: copy_json(value, "input"),
    "mode": partial(_checked_word, _ROLLOUT_CHANGES, "mode"),
    "resources_id": lambda value: _optional_free_id(value, "resources_id"),
    "status": partial(_checked_word, _ROLLOUT_CHANGES, "status"),
    "config": lambda value: _config_copy(RolloutConfig.model_validate(value)),
    "metadata": lambda value: None if value is None else copy_mapping(value, "metadata"),
}

_ATTEMPT_CONVERTERS: Final[dict[str, Callable[[Any], Any]]] = {
    "status": partial(_checked_word, _ATTEMPT_CHANGES, "status"),
    "worker_id": lambda value: value if value == "" else check_free_id(value, "worker_id"),
    "last_heartbeat_time": _time,
    "metadata": lambda value: copy_mapping(value, "metadata"),
    "resources_id": lambda value: _optional_free_id(value, "resources_id"),
    "resources_version": lambda value: None if value is None else check_limit(value, "resources_version", 1),
}
