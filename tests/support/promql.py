"""What an expression of PromQL asks for: names of series with the labels that it matches and groups by."""

import re
from typing import Final, NamedTuple

_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_SERIES: Final = re.compile(r"\b([a-zA-Z_:][a-zA-Z0-9_:]*)\b\s*(?:\{([^}]*)\})?")
_MATCHER: Final = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPING: Final = re.compile(r"\b(?:by|on|ignoring|without|group_left|group_right)\s*\(([^)]*)\)")
_RANGE: Final = re.compile(r"\[[^\]]*\]")
_FUNCTION: Final = re.compile(r"\b(?!(?:and|or|unless)\b)[a-z_]+\s*(?=\()")
_WORDS: Final = frozenset({"and", "or", "unless", "bool", "offset", "by", "on"})


class Asked(NamedTuple):
    """What an expression asks for.

    Attributes:
        series: Names of series, each with the labels that are matched there.
        grouped: Labels that it groups by.
    """

    series: dict[str, set[str]]
    grouped: set[str]


def asked_by(expression: str) -> Asked:
    """Read an expression, as far as dashboards and alerts of ours go.

    Raises:
        AssertionError: Its brackets do not match.
    """
    text = _STRING.sub('""', expression)
    for opening, closing in ("()", "{}", "[]"):
        assert text.count(opening) == text.count(closing), expression
    grouped = {label.strip() for labels in _GROUPING.findall(text) for label in labels.split(",") if label.strip()}
    text = _RANGE.sub("", _GROUPING.sub("", text))
    series: dict[str, set[str]] = {}
    for name, matchers in _SERIES.findall(_FUNCTION.sub(" ", text)):
        if name not in _WORDS:
            series.setdefault(name, set()).update(_MATCHER.findall(matchers))
    return Asked(series, grouped)
