"""What a docstring in Google's form says: for descriptions made from the contract."""

import inspect
import re
from dataclasses import dataclass, field
from typing import Any, Final

_SECTION: Final = re.compile(r"^(Args|Returns|Raises|Attributes|Source):(.*)$", re.MULTILINE)
_ENTRY: Final = re.compile(r"^(?P<name>\w+): (?P<text>.*(?:\n(?:[ ]{4,}.*|\s*))*)", re.MULTILINE)


@dataclass(frozen=True)
class Docstring:
    """A docstring, taken apart.

    Attributes:
        summary: Its first sentence.
        text: Everything before the sections, the summary included.
        arguments: What is said of each argument.
        returns: What is returned; empty when nothing is said.
        raises: What is said of each error.
    """

    summary: str
    text: str
    arguments: dict[str, str] = field(default_factory=dict)
    returns: str = ""
    raises: dict[str, str] = field(default_factory=dict)


def docstring_of(documented: Any) -> Docstring:
    """The docstring of a function or class."""
    lines = inspect.getdoc(documented) or ""
    pieces = _SECTION.split(lines)
    sections = {name: rest + body for name, rest, body in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True)}
    text = pieces[0].strip()
    return Docstring(
        summary=_flat(text.partition("\n\n")[0]),
        text="\n\n".join(_flat(paragraph) for paragraph in text.split("\n\n")),
        arguments=_entries(sections.get("Args", "") or sections.get("Attributes", "")),
        returns=_flat(sections.get("Returns", "")),
        raises=_entries(sections.get("Raises", "")),
    )


def _entries(section: str) -> dict[str, str]:
    return {found["name"]: _flat(found["text"]) for found in _ENTRY.finditer(inspect.cleandoc(section))}


def _flat(text: str) -> str:
    """A paragraph on one line."""
    return " ".join(text.split())
