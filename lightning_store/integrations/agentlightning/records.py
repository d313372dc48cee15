"""Agent Lightning's records and ours, each made of the other.

Theirs lack the fields that we add, and ignore nothing that we lack: fields are chosen by the receiving model's names.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from agentlightning import types as theirs
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from lightning_store import records as ours
from lightning_store.errors import InvalidRequestError
from lightning_store.jsonvalue import copy_json
from lightning_store.spans import Span

Record = TypeVar("Record", bound=BaseModel)


def argument_to_ours(name: str, value: Any) -> Any:
    """An argument of the contract as our stores take it; what is ours already stays as it is.

    Raises:
        ValidationError: A record holds what its model would refuse.
        InvalidRequestError: A free-form value has no JSON form.
    """
    convert = _ARGUMENTS.get(name)
    return value if convert is None or value is None else convert(value)


def answer_to_theirs(answer: Any) -> Any:
    """An answer of our stores in Agent Lightning's very classes; lists keep their order, other values stay."""
    if isinstance(answer, list):
        return [answer_to_theirs(item) for item in answer]
    for kind, convert in _ANSWERS.items():
        if isinstance(answer, kind):
            return convert(answer)
    return answer


def span_to_ours(span: Any) -> Any:
    """Our record of a span of theirs, with all that it carries besides its fields; anything else stays as it is."""
    return Span.model_validate(_dumped(span)) if isinstance(span, theirs.Span) else span


def _dumped(record: BaseModel) -> dict[str, Any]:
    return record.model_dump(warnings="none")  # our models check the values themselves


def _config_to_ours(config: Any) -> Any:
    if not isinstance(config, theirs.RolloutConfig):
        return config
    return ours.RolloutConfig.model_validate(_dumped(config))


def _requests_to_ours(requests: Sequence[Any]) -> list[Any]:
    return [_request_to_ours(request) for request in requests]


def _request_to_ours(request: Any) -> Any:
    if not isinstance(request, theirs.EnqueueRolloutRequest):
        return request
    fields = {name: vars(request)[name] for name in type(request).model_fields}
    return ours.EnqueueRolloutRequest(**{name: argument_to_ours(name, value) for name, value in fields.items()})


def _free_form_to_ours(value: Any) -> Any:
    """JSON of a free-form value: programs pass models and dataclasses, which Agent Lightning's server sends as JSON.

    Plain JSON is left to the store, which keeps what a conversion would lose.
    """
    try:
        return copy_json(value, "value")
    except InvalidRequestError:
        try:
            return to_jsonable_python(value)
        except (PydanticSerializationError, ValueError):
            return value  # the store says what is wrong with it, and names the field


def _same_fields(model: type[Record]) -> Callable[[Any], Record]:
    """Makes a record of theirs from one of ours: the fields that both have, and records inside of them."""
    names = tuple(model.model_fields)

    def convert(record: BaseModel) -> Record:
        values = vars(record)
        return ours.constructed(model, {name: answer_to_theirs(values[name]) for name in names})

    return convert


def _span_to_theirs(span: Span) -> theirs.Span:
    return theirs.Span.model_validate(span.model_dump())


def _resources_to_theirs(update: ours.ResourcesUpdate) -> theirs.ResourcesUpdate:
    return theirs.ResourcesUpdate.model_validate(update.model_dump())


def _page_to_theirs(page: ours.PaginatedResult[Any]) -> theirs.PaginatedResult[Any]:
    items = [answer_to_theirs(item) for item in page.items]
    return theirs.PaginatedResult(items=items, limit=page.limit, offset=page.offset, total=page.total)


_ARGUMENTS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "config": _config_to_ours,
    "heartbeat_stats": _free_form_to_ours,
    "input": _free_form_to_ours,
    "metadata": _free_form_to_ours,
    "rollouts": _requests_to_ours,
}
"""What is converted of a call's arguments, by name; our stores take resources of both kinds."""

_ANSWERS: Final[Mapping[type, Callable[[Any], Any]]] = {
    ours.PaginatedResult: _page_to_theirs,
    ours.AttemptedRollout: _same_fields(theirs.AttemptedRollout),
    ours.Rollout: _same_fields(theirs.Rollout),
    ours.RolloutConfig: _same_fields(theirs.RolloutConfig),
    ours.Attempt: _same_fields(theirs.Attempt),
    ours.Worker: _same_fields(theirs.Worker),
    ours.ResourcesUpdate: _resources_to_theirs,
    Span: _span_to_theirs,
}
"""By class of ours; a class stands before those that it derives from."""
