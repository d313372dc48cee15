"""Values that storage likes to spoil, and a comparison that notices."""

import math
from typing import Any, Final

DEEP: Final[Any] = {"level": [[[[[[[[[[{"bottom": True}]]]]]]]]]]}

TRICKY: Final[dict[str, Any]] = {
    "none": None,
    "true": True,
    "false": False,
    "one": 1,
    "one as float": 1.0,
    "zero": 0,
    "zero as float": 0.0,
    "minus zero": -0.0,
    "beyond floats": 2**53 + 1,
    "beyond 64 bits": 2**64 + 1,
    "very big": 10**60 + 7,
    "negative": -(2**63) - 1,
    "sum": 0.1 + 0.2,
    "smallest": 5e-324,
    "largest": 1.7976931348623157e308,
    "integral float beyond 2^53": 1e300,
    "nan": math.nan,
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "empty text": "",
    "empty list": [],
    "empty object": {},
    "nested empties": [[], {}, [[]], [{}], ""],
    "": "empty key",
    "nul": "a\x00b",
    "nul\x00in key": 1,
    "control": "\x01\x1f\x7f\x80\x9f\r\n\t",
    "quotes": "\"'\\/",
    "separators": "\u2028\u2029\ufeff\ufffe\uffff",
    "beyond the basic plane": "\U0001f600\U0010ffff",
    "combining": "e\u0301 \u00e9 אב",
    "looks like a number": "1",
    "looks like null": "null",
    "looks like JSON": '{"a": [1]}',
    "mixed list": [1, 1.0, True, None, "1", [], {}],
    "deep": DEEP,
    "1": "key that is a number",
    "key: with {braces} and \\": 0,
}
"""One of each kind; a JSON value that no store may change."""

SURROGATES: Final[dict[str, Any]] = {"lone": "\ud800", "reversed": "\udc00\ud800", "split pair": "\ud83d" + "\ude00"}
"""Text that UTF-8 has no form for; Python's strings and JSON's escapes have."""


def same(left: Any, right: Any) -> bool:
    """Whether two JSON values are the same in every respect: types, signs of zero, NaN, order of lists."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, float):
        return (math.isnan(left) and math.isnan(right)) or (
            left == right and math.copysign(1, left) == math.copysign(1, right)
        )
    return bool(left == right)
