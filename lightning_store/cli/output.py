"""What commands print: tables for people, columns for pipes, JSON for programs."""

import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from lightning_store.exits import ExitCode

if TYPE_CHECKING:
    from rich.console import Group

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_UNITS: Final = (("d", 86400), ("h", 3600), ("m", 60))
_KIBI: Final = 1024

NOTHING: Final = "-"
"""Stands in a table where there is no value; an empty cell would shift the columns of a pipe."""


@dataclass(frozen=True)
class Table:
    """Rows under headings; values may be anything that has a text form.

    Attributes:
        columns: Headings; empty for a list of names and values.
    """

    title: str
    columns: Sequence[str] = ()
    rows: list[Sequence[object]] = field(default_factory=list[Sequence[object]])


def is_terminal() -> bool:
    """Whether a person reads standard output."""
    return sys.stdout.isatty()


def clean(value: object) -> str:
    """The text of a value in one line that cannot steer a terminal; "-" for None and the empty text."""
    if value is None or value == "":
        return NOTHING
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), str(value))


def say(text: str = "") -> None:
    """Write lines on standard output; the caller has cleaned what came from a store."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(ExitCode.PIPE_CLOSED) from None


def note(text: str) -> None:
    """Write a line about the command itself on standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def say_json(value: object, *, one_line: bool = False) -> None:
    """Write a value as JSON, indented for people unless `one_line`; ASCII only, so that any stream takes it."""
    say(json.dumps(value, indent=2 if is_terminal() and not one_line else None))


def show(*tables: Table) -> None:
    """Write tables: drawn on a terminal, else as columns that are never cut off."""
    if is_terminal():
        from rich.console import Console  # noqa: PLC0415 - keeps `--help` fast

        Console().print(drawn(tables))
    else:
        say(plain(tables))


def drawn(tables: Sequence[Table]) -> "Group":
    """Tables for a terminal."""
    from rich import box, table  # noqa: PLC0415 - keeps `--help` fast
    from rich.console import Group  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    parts: list[table.Table] = []
    for one in tables:
        grid = table.Table(title=one.title or None, title_justify="left", box=box.SIMPLE, show_header=bool(one.columns))
        for heading in one.columns or ("", "") if one.rows else ("",):
            grid.add_column(heading, overflow="fold")
        for row in one.rows:
            grid.add_row(*(Text(clean(cell)) for cell in row))
        parts.append(grid)
    return Group(*parts)


def plain(tables: Sequence[Table]) -> str:
    """Tables as aligned columns, one row per line, an empty line between tables."""
    return "\n\n".join(_columns(one) for one in tables)


def _columns(table: Table) -> str:
    rows = [[clean(cell) for cell in row] for row in table.rows]
    if table.columns:
        rows.insert(0, [heading.upper() for heading in table.columns])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(([f"{table.title}:"] if table.title else []) + lines)


def counted(count: int, noun: str) -> str:
    """A number with its noun, such as `1 rollout` or `2 rollouts`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def duration(seconds: float | None) -> str:
    """Seconds as people say them, such as `1h02m`; "-" for None."""
    if seconds is None:
        return NOTHING
    if seconds < 0:
        return "-" + duration(-seconds)
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f}s"
    whole = round(seconds)
    for index, (unit, size) in enumerate(_UNITS):
        if whole >= size:
            smaller_unit, smaller = (*_UNITS, ("s", 1))[index + 1]
            return f"{whole // size}{unit}{whole % size // smaller:02d}{smaller_unit}"
    return f"{whole}s"


def moment(time: float | None) -> str:
    """A time as local date and clock; "-" for None."""
    if time is None:
        return NOTHING
    try:
        return datetime.fromtimestamp(time).astimezone().isoformat(timespec="seconds")
    except (OverflowError, OSError, ValueError):
        return str(time)


def size(count: int | None) -> str:
    """Bytes as people say them, such as `1.5 GiB`; "-" for None."""
    if count is None:
        return NOTHING
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < _KIBI:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= _KIBI
    return f"{amount:.1f} GiB"


def brief(value: Any, width: int = 60) -> str:
    """A value as JSON in one line, cut to `width` characters."""
    text = clean(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= width else text[: width - 1] + "…"
