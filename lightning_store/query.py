"""Filtering, sorting and paging of records as pure functions: one meaning for all backends.

The functions take records in their order of creation, read fields only, and return pages of the very objects they were
given; copying is the backend's business. Section 4 of the contract says what they mean.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from types import UnionType
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel

from lightning_store.errors import InvalidRequestError
from lightning_store.records import (
    Attempt,
    FilterLogic,
    PaginatedResult,
    ResourcesUpdate,
    Rollout,
    RolloutStatus,
    SortOrder,
    Worker,
    WorkerStatus,
)
from lightning_store.requests import check_page
from lightning_store.spans import Span

T = TypeVar("T")
Record = TypeVar("Record", bound=BaseModel)
Condition = Callable[[Any], bool]

_UNSORTABLE: Final = object()


def is_in(field: str, values: Collection[str] | None) -> list[Condition]:
    """The condition that a field is one of `values`; none when they are None.

    Raises:
        InvalidRequestError: `values` is a lone text.
    """
    if values is None:
        return []
    _check_values(field, values)
    wanted = frozenset(values)
    return [lambda record: getattr(record, field) in wanted]


def contains(field: str, text: str | None) -> list[Condition]:
    """The condition that a text field contains `text`, case-sensitively; a missing value never does."""
    if text is None:
        return []

    def holds(record: Any) -> bool:
        value = getattr(record, field)
        return value is not None and text in value

    return [holds]


def equals(field: str, value: str | None) -> list[Condition]:
    """The condition that a field is `value`; none when that is None."""
    return [] if value is None else [lambda record: getattr(record, field) == value]


def matching(records: Iterable[T], conditions: Sequence[Condition], filter_logic: FilterLogic) -> list[T]:
    """The records that meet all conditions, or with `"or"` at least one; all records when there is no condition."""
    check_choice(filter_logic, FilterLogic, "filter_logic")
    if not conditions:
        return list(records)
    combine = all if filter_logic == "and" else any
    return [record for record in records if combine(condition(record) for condition in conditions)]


def _check_values(field: str, values: Collection[str]) -> None:
    if isinstance(values, str | bytes):
        raise InvalidRequestError(f"{field}: expected a sequence of values, got {values!r:.200}")


def check_query(
    filter_logic: FilterLogic, sort_order: SortOrder, limit: int, offset: int, status_in: Collection[str] | None
) -> None:
    """Refuse what the queries below refuse, for a backend that answers from an index without them."""
    check_choice(filter_logic, FilterLogic, "filter_logic")
    check_choice(sort_order, SortOrder, "sort_order")
    check_page(limit, offset)
    if status_in is not None:
        _check_values("status", status_in)


def check_choice(value: object, choices: Any, field: str) -> None:
    """Refuse a value that is not one of a literal type's."""
    if value not in get_args(choices):
        expected = ", ".join(get_args(choices))
        raise InvalidRequestError(f"{field}: expected one of {expected}, got {value!r:.200}")


def sort_key(kind: type[BaseModel], sort_by: str) -> Callable[[Any], Any]:
    """The key that orders records of a kind by one of their fields.

    Missing values count as later than everything in fields that end in `_time`, as `""` in text and as 0 in numbers. A
    number that is NaN counts as later than all others, so that the order stays total.

    Raises:
        InvalidRequestError: `sort_by` is no field of the record, or its values have no order.
    """
    missing = _missing_value(kind, sort_by)
    if missing is _UNSORTABLE:
        allowed = ", ".join(kind.model_fields)
        raise InvalidRequestError(f"Invalid sort_by: {sort_by}, allowed fields are: {allowed}")

    def key(record: Any) -> Any:
        value = getattr(record, sort_by)
        if isinstance(missing, str):
            return missing if value is None else value
        number = missing if value is None else value
        return (True, 0) if number != number else (False, number)  # noqa: PLR0124 - NaN differs from itself

    return key


def _missing_value(kind: type[BaseModel], field: str) -> Any:
    if field not in kind.model_fields:
        return _UNSORTABLE
    types = _plain_types(kind.model_fields[field].annotation) - {type(None)}
    if types == {str}:
        return ""
    if types and types <= {int, float}:
        return float("inf") if field.endswith("_time") else 0
    return _UNSORTABLE


def _plain_types(annotation: Any) -> set[Any]:
    """The types that an annotation allows, literals by the type of their values."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return set().union(*(_plain_types(part) for part in get_args(annotation)))
    if origin is Literal:
        return {type(value) for value in get_args(annotation)}
    return {annotation}


def sorted_page(
    kind: type[BaseModel],
    matches: list[T],
    *,
    sort_by: str | None,
    sort_order: SortOrder,
    limit: int,
    offset: int,
) -> PaginatedResult[T]:
    """One page of the matches; equal keys keep their order in both directions.

    Args:
        kind: The record's class.
        matches: What met the filters, in order of creation.
        sort_by: A field; None = the order given, whatever `sort_order`.
        sort_order: Direction of the sort.
        limit: Most items; -1 = all, 0 = none.
        offset: Matches to leave out.

    Raises:
        InvalidRequestError: A field that cannot be sorted by, an unknown order, or a page out of bounds.
    """
    check_page(limit, offset)
    check_choice(sort_order, SortOrder, "sort_order")
    if sort_by is not None:
        matches = sorted(matches, key=sort_key(kind, sort_by), reverse=sort_order == "desc")
    end = None if limit == -1 else offset + limit
    return page_of(matches[offset:end], limit=limit, offset=offset, total=len(matches))


def page_of(items: list[T], *, limit: int, offset: int, total: int) -> PaginatedResult[T]:
    """A page whose items are chosen already."""
    return PaginatedResult.model_construct(items=items, limit=limit, offset=offset, total=total)


def query_rollouts(
    records: Iterable[Rollout],
    *,
    status_in: Collection[RolloutStatus] | None = None,
    rollout_id_in: Collection[str] | None = None,
    rollout_id_contains: str | None = None,
    group_id: str | None = None,
    filter_logic: FilterLogic = "and",
    sort_by: str | None = None,
    sort_order: SortOrder = "asc",
    limit: int = -1,
    offset: int = 0,
    status: Collection[RolloutStatus] | None = None,
    rollout_ids: Collection[str] | None = None,
) -> PaginatedResult[Rollout]:
    """The page of `LightningStore.query_rollouts`; the newer names of filters win over the older ones."""
    conditions = [
        *is_in("status", status if status_in is None else status_in),
        *is_in("rollout_id", rollout_ids if rollout_id_in is None else rollout_id_in),
        *contains("rollout_id", rollout_id_contains),
        *equals("group_id", group_id),
    ]
    matches = matching(records, conditions, filter_logic)
    return sorted_page(Rollout, matches, sort_by=sort_by, sort_order=sort_order, limit=limit, offset=offset)


def query_attempts(
    records: Iterable[Attempt],
    *,
    sort_by: str | None = "sequence_id",
    sort_order: SortOrder = "asc",
    limit: int = -1,
    offset: int = 0,
) -> PaginatedResult[Attempt]:
    """The page of `LightningStore.query_attempts`."""
    return sorted_page(Attempt, list(records), sort_by=sort_by, sort_order=sort_order, limit=limit, offset=offset)


def query_spans(
    records: Iterable[Span],
    *,
    trace_id: str | None = None,
    trace_id_contains: str | None = None,
    span_id: str | None = None,
    span_id_contains: str | None = None,
    parent_id: str | None = None,
    parent_id_contains: str | None = None,
    name: str | None = None,
    name_contains: str | None = None,
    filter_logic: FilterLogic = "and",
    limit: int = -1,
    offset: int = 0,
    sort_by: str | None = "sequence_id",
    sort_order: SortOrder = "asc",
) -> PaginatedResult[Span]:
    """The page of `LightningStore.query_spans` among the spans of one rollout, or of one of its attempts."""
    conditions = [
        *equals("trace_id", trace_id),
        *contains("trace_id", trace_id_contains),
        *equals("span_id", span_id),
        *contains("span_id", span_id_contains),
        *equals("parent_id", parent_id),
        *contains("parent_id", parent_id_contains),
        *equals("name", name),
        *contains("name", name_contains),
    ]
    matches = matching(records, conditions, filter_logic)
    return sorted_page(Span, matches, sort_by=sort_by, sort_order=sort_order, limit=limit, offset=offset)


def query_resources(
    records: Iterable[ResourcesUpdate],
    *,
    resources_id: str | None = None,
    resources_id_contains: str | None = None,
    sort_by: str | None = None,
    sort_order: SortOrder = "asc",
    limit: int = -1,
    offset: int = 0,
) -> PaginatedResult[ResourcesUpdate]:
    """The page of `LightningStore.query_resources`."""
    conditions = [*equals("resources_id", resources_id), *contains("resources_id", resources_id_contains)]
    matches = matching(records, conditions, "and")
    return sorted_page(ResourcesUpdate, matches, sort_by=sort_by, sort_order=sort_order, limit=limit, offset=offset)


def query_workers(
    records: Iterable[Worker],
    *,
    status_in: Collection[WorkerStatus] | None = None,
    worker_id_contains: str | None = None,
    filter_logic: FilterLogic = "and",
    sort_by: str | None = None,
    sort_order: SortOrder = "asc",
    limit: int = -1,
    offset: int = 0,
) -> PaginatedResult[Worker]:
    """The page of `LightningStore.query_workers`."""
    conditions = [*is_in("status", status_in), *contains("worker_id", worker_id_contains)]
    matches = matching(records, conditions, filter_logic)
    return sorted_page(Worker, matches, sort_by=sort_by, sort_order=sort_order, limit=limit, offset=offset)
