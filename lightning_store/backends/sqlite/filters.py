"""Conditions, order and pages of queries in SQL, with the meaning that `lightning_store.query` gives them."""

# ruff: noqa: S608 - statements are made of constants of ours; values are arguments

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel

from lightning_store.backends.sqlite import codec
from lightning_store.errors import InvalidRequestError
from lightning_store.query import check_choice, sort_key
from lightning_store.records import FilterLogic, SortOrder
from lightning_store.requests import check_page

MAX_INTEGER: Final = (1 << 63) - 1

_FEW_VALUES: Final = 16
"""So many values are listed in the statement, which is planned best; more are passed as JSON."""


@dataclass
class Conditions:
    """The conditions of a query that are given; a missing value meets none of them.

    Attributes:
        encode: How texts are stored: as text, or as bytes where they may be any text.
    """

    filter_logic: FilterLogic = "and"
    encode: Callable[[str], str | bytes | None] = lambda text: text if codec.is_encodable(text) else None
    _parts: list[str] = field(default_factory=list)
    _arguments: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_choice(self.filter_logic, FilterLogic, "filter_logic")

    @property
    def count(self) -> int:
        """How many are given."""
        return len(self._parts)

    def equals(self, column: str, value: str | None) -> None:
        """The column is `value`; no condition when that is None."""
        if value is not None:
            self._add(f"{column} = ?", self.encode(value))

    def contains(self, column: str, text: str | None) -> None:
        """The column contains `text`, case-sensitively."""
        if text is not None:
            self._add(f"instr({column}, ?) > 0", self.encode(text))

    def is_in(self, column: str, values: Collection[str] | None, what: str) -> None:
        """The column is one of the values; no condition when they are None."""
        if values is None:
            return
        if isinstance(values, str | bytes):
            raise InvalidRequestError(f"{what}: expected a sequence of values, got {values!r:.200}")
        wanted = [value for value in dict.fromkeys(values) if codec.is_encodable(value)]
        if len(wanted) <= _FEW_VALUES:
            self._add(f"{column} IN ({', '.join('?' * len(wanted))})", *wanted)
        else:
            self._add(f"{column} IN (SELECT value FROM json_each(?))", json.dumps(wanted))

    def where(self, before: str = "", *arguments: Any) -> tuple[str, tuple[Any, ...]]:
        """The WHERE clause and its arguments.

        Args:
            before: A condition that must hold besides.
            arguments: Its arguments.
        """
        parts = [f"({each})" for each in (before, f" {self.filter_logic} ".join(self._parts)) if each]
        clause = f"WHERE {' AND '.join(parts)} " if parts else ""
        return clause, (*arguments, *self._arguments)

    def _add(self, condition: str, *arguments: Any) -> None:
        self._parts.append(condition)
        self._arguments.extend(arguments)


@dataclass(frozen=True)
class Page:
    """Which of the matches are asked for, in which order.

    Raises:
        InvalidRequestError: A field that cannot be sorted by, an unknown order, or a page out of bounds.
    """

    kind: type[BaseModel]
    sort_by: str | None
    sort_order: SortOrder
    limit: int
    offset: int

    def __post_init__(self) -> None:
        check_page(self.limit, self.offset)
        check_choice(self.sort_order, SortOrder, "sort_order")
        if self.sort_by is not None:
            sort_key(self.kind, self.sort_by)

    def order(self, keys: Mapping[str, str], number: str) -> str:
        """The ORDER BY clause; equal keys keep the order of creation in both directions.

        Args:
            keys: By field the expression that sorts as `query.sort_key` does, NULL after everything else.
            number: The column that has the order of creation.
        """
        if self.sort_by is None:
            return f"ORDER BY {number} "
        if self.sort_order == "asc":
            return f"ORDER BY {keys[self.sort_by]} ASC NULLS LAST, {number} ASC "
        return f"ORDER BY {keys[self.sort_by]} DESC NULLS FIRST, {number} ASC "

    def bounds(self) -> tuple[int, int]:
        """Arguments of `LIMIT ? OFFSET ?`."""
        return min(self.limit, MAX_INTEGER), min(self.offset, MAX_INTEGER)


def text_key(column: str) -> str:
    """Sorts a text field: missing values as the empty text."""
    return f"ifnull({column}, '')"


def time_key(column: str) -> str:
    """Sorts a field that ends in `_time`: missing values as later than everything."""
    return f"ifnull({column}, 9e999)"


def in_chunks(values: Sequence[Any], size: int = 500) -> list[Sequence[Any]]:
    """The values in runs that a statement can take as arguments."""
    return [values[start : start + size] for start in range(0, len(values), size)]
