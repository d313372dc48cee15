"""Free-form values as JSON: what is accepted, how it is copied, and how it becomes bytes and back.

Pydantic's JSON is used because it is fast and keeps what others lose: integers of any size, `1` apart from `1.0`, NaN
and infinities. Only Python's own takes text that UTF-8 has no form for, so that takes what pydantic's refuses. Long
payloads are compressed; a compressed payload is told by its first byte, which no JSON text has.
"""

import json
from collections.abc import Collection
from typing import Any, Final, cast

import zstandard
from pydantic_core import from_json, to_json

from lightning_store.errors import InvalidRequestError

COMPRESS_ABOVE_BYTES: Final = 2048
"""Payloads shorter than this gain less than compression costs."""

_ZSTD_FIRST_BYTE: Final = b"\x28"
_MAX_DEPTH: Final = 200
_SCALARS: Final = (str, bool, int, float, type(None))
_LISTS: Final = (list, tuple)
_KEYS: Final = frozenset({str})
_KINDS: Final = frozenset(_SCALARS)
_KINDS_AND_CONTAINERS: Final = _KINDS | {list, dict}
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_DECODER: Final = json.JSONDecoder()


def copy_json(value: Any, field: str) -> Any:
    """A deep copy of a JSON value; tuples become lists.

    Args:
        value: Any JSON value.
        field: Name of the field, for the error.

    Raises:
        InvalidRequestError: Something in `value` has no JSON form, a key is not a string, or it is nested too deep.
    """
    return value if isinstance(value, _SCALARS) else _copy(value, field, 0)


def _copy(value: Any, field: str, depth: int) -> Any:
    """A copy of what is no scalar; scalars inside are seen to here, because most have no need of a call and a place."""
    if depth >= _MAX_DEPTH:
        raise InvalidRequestError(f"{field}: nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise InvalidRequestError(f"{field}: keys must be strings, got {type(key).__name__} {key!r}")
        return {
            key: item if isinstance(item, _SCALARS) else _copy(item, f"{field}.{key}", depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, _LISTS):
        return [
            item if isinstance(item, _SCALARS) else _copy(item, f"{field}[{index}]", depth + 1)
            for index, item in enumerate(value)
        ]
    raise InvalidRequestError(f"{field}: expected a JSON value, got {type(value).__name__}")


def copy_mapping(value: Any, field: str) -> dict[str, Any]:
    """A deep copy of a JSON object.

    Raises:
        InvalidRequestError: `value` is not a JSON object.
    """
    if not isinstance(value, dict):
        raise InvalidRequestError(f"{field}: expected an object, got {type(value).__name__}")
    return cast("dict[str, Any]", copy_json(value, field))


def are_json(values: Collection[Any]) -> bool:
    """Whether values are JSON values of exactly the types that JSON is read as."""
    if _KINDS.issuperset(map(type, values)):
        return True
    return _KINDS_AND_CONTAINERS.issuperset(map(type, values)) and all(map(_is_json_inside, values))


def _is_json_inside(value: Any) -> bool:
    if type(value) is dict:
        return _KEYS.issuperset(map(type, value)) and are_json(value.values())
    return type(value) is not list or are_json(value)


def encode_json(value: Any) -> bytes:
    """Bytes of a JSON value."""
    try:
        return to_json(value)
    except ValueError:
        return encode_json_strictly(value)


def encode_json_strictly(value: Any) -> bytes:
    """Bytes of what may be no JSON value.

    Raises:
        TypeError: It is none.
    """
    return _ENCODER.encode(value).encode("utf-8", "surrogatepass")


def dump_json(value: Any) -> bytes:
    """Bytes of a JSON value, compressed when long."""
    return compressed(encode_json(value))


def compressed(data: bytes) -> bytes:
    """Bytes of a JSON value as they are stored: compressed when long."""
    if len(data) < COMPRESS_ABOVE_BYTES:
        return data
    packed = zstandard.ZstdCompressor(level=1).compress(data)
    return packed if len(packed) < len(data) else data


def load_json(data: bytes) -> Any:
    """The value that `dump_json` was given."""
    if data.startswith(_ZSTD_FIRST_BYTE):
        data = zstandard.ZstdDecompressor().decompress(data)
    try:
        return from_json(data)
    except ValueError:
        return _DECODER.decode(data.decode("utf-8", "surrogatepass"))


def canonical_json(value: Any) -> bytes:
    """Bytes that are equal exactly when two JSON values are, whatever the order of their keys."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), sort_keys=True)
    return text.encode("ascii")
