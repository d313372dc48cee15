"""Reads tasks from lines of JSON and tells which lines are bad."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from pydantic import ValidationError

from lightning_store.clock import RandomIds
from lightning_store.errors import InvalidRequestError
from lightning_store.payloads import DEFAULT_LIMITS
from lightning_store.records import EnqueueRolloutRequest, RolloutConfig
from lightning_store.requests import new_rollout

_REQUEST_FIELDS: Final = frozenset(EnqueueRolloutRequest.model_fields)
_CONFIG_FIELDS: Final = frozenset(RolloutConfig.model_fields)
_IDS: Final = RandomIds()


@dataclass(frozen=True)
class BadLine:
    """A line that is no task.

    Attributes:
        line: Its number; the first line is 1.
        error: What is wrong with it.
    """

    line: int
    error: str


@dataclass(frozen=True)
class Tasks:
    """What was read: the requests, in the order of their lines, and the lines that are none."""

    requests: list[EnqueueRolloutRequest] = field(default_factory=list[EnqueueRolloutRequest])
    bad_lines: list[BadLine] = field(default_factory=list[BadLine])


def read_tasks(lines: Iterable[bytes], defaults: dict[str, Any], *, whole_requests: bool, first_line: int = 1) -> Tasks:
    """Requests from lines of JSON; empty lines are passed over.

    Args:
        lines: The lines, as bytes in UTF-8.
        defaults: Fields of every request but `input`; `config` is a mapping.
        whole_requests: Each line is an object with the fields of EnqueueRolloutRequest, which win over the defaults
            (those of `config` one by one); else each line is an input.
        first_line: Number of the first of these lines.
    """
    tasks = Tasks()
    for number, line in enumerate(lines, start=first_line):
        text = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
        if not text:
            continue
        try:
            value = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant)
            fields = _request_fields(value, defaults) if whole_requests else {**defaults, "input": value}
            tasks.requests.append(check_request(fields))
        except (ValueError, RecursionError) as error:
            tasks.bad_lines.append(BadLine(number, _reason(error)))
    return tasks


def check_request(fields: dict[str, Any]) -> EnqueueRolloutRequest:
    """A request that a store will take as it is.

    Raises:
        InvalidRequestError: A field is out of bounds or unknown.
        ValidationError: A field is of the wrong kind.
    """
    _refuse_unknown(fields, _REQUEST_FIELDS, "")
    if isinstance(fields.get("config"), dict):
        _refuse_unknown(fields["config"], _CONFIG_FIELDS, "config.")
    request = EnqueueRolloutRequest.model_validate(fields)
    new = new_rollout(request, _IDS)
    DEFAULT_LIMITS.task(new.input, "input")
    DEFAULT_LIMITS.metadata(new.metadata, "metadata")
    return request


def _request_fields(value: Any, defaults: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequestError(f"expected an object with the fields of a request, got {type(value).__name__}")
    fields: dict[str, Any] = {**defaults, **value}
    if isinstance(value.get("config"), dict):
        fields["config"] = {**(defaults.get("config") or {}), **value["config"]}
    return fields


def _refuse_unknown(fields: dict[str, Any], known: frozenset[str], prefix: str) -> None:
    """A misspelt field would otherwise be passed over without a word."""
    for name in fields:
        if name not in known:
            raise InvalidRequestError(f"unknown field {prefix}{name}; expected one of {', '.join(sorted(known))}")


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidRequestError(f"{name} is not JSON")


def _reason(error: Exception) -> str:
    """What is wrong, in one line."""
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg} at column {error.colno}"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 at byte {error.start}"
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{place}: {first['msg']}" if place else first["msg"].removeprefix("Value error, ")
    return "nested too deep" if isinstance(error, RecursionError) else str(error)
