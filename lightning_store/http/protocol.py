"""What client and server of the HTTP API have agreed on besides the records: prefix, headers, how values are written.

Bodies are JSON in UTF-8. Between our own client and server they are written as Python writes them, so that NaN,
infinities and lone surrogates arrive as they were; everybody else gets JSON as the standard has it.
"""

import json
import math
import re
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError, to_json

from lightning_store.jsonvalue import encode_json_strictly

PREFIX: Final = "/v1/agl"
TRACES_PATH: Final = "/v1/traces"
OTHER_OTLP_PATHS: Final = ("/v1/metrics", "/v1/logs", "/v1/development/profiles")
OTLP_PATHS: Final = frozenset({TRACES_PATH, *OTHER_OTLP_PATHS})

API_VERSION: Final = "1"

API_HEADER: Final = "X-Lightning-Store"
"""Sent by our server with every answer and by our client with every request: the version of this protocol.

To a server it says that its caller reads JSON as Python writes it; to a client, that calls are repeated by their key.
"""

KEY_HEADER: Final = "Idempotency-Key"
"""With a call that changes something: 32 hex digits, the same for each try of the call.

`DELETE` on the path of a call that waits for work or room, with its key, ends the call: it has no effect later, and
what it has claimed is handed back.
"""

TRY_HEADER: Final = "X-Lightning-Store-Try"
"""With a repeat: which try of its call it is, from 2 on."""

CUT_HEADER: Final = "X-Lightning-Store-Cut"
"""With the answer to a wait that the server ended before the caller's own time was over: ask again."""

JSON_TYPE: Final = "application/json"

_PLAIN: Final = TypeAdapter[Any](Any)
_KEY: Final = re.compile(r"[0-9a-f]{32}")
_NOT_STANDARD: Final = re.compile(rb"NaN|Infinity|[\xed][\xa0-\xbf]")
"""What may be a number that JSON has no form for, or half of a pair of surrogates; or a part of some text."""


def is_key(text: str) -> bool:
    """Whether a text can be the key of a call."""
    return _KEY.fullmatch(text) is not None


def write_json(value: Any) -> bytes:
    """JSON of records and plain values as Python writes it: exact, but not always standard JSON."""
    try:
        return to_json(value, inf_nan_mode="constants")
    except PydanticSerializationError:  # half of a pair of surrogates
        return encode_json_strictly(_PLAIN.dump_python(value))


def standard_json(data: bytes) -> bytes:
    """The same text as JSON that every reader takes: null for numbers that it lacks, escapes for lone surrogates."""
    if _NOT_STANDARD.search(data) is None:
        return data
    value = json.loads(data.decode("utf-8", "surrogatepass"))
    return json.dumps(_finite(value), separators=(",", ":"), allow_nan=False).encode("ascii")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value


def read_json(data: bytes) -> Any:
    """The value of a JSON text, with all that Python writes and others do not.

    Raises:
        ValueError: It is none.
    """
    try:
        return json.loads(data.decode("utf-8", "surrogatepass"))
    except RecursionError:
        raise ValueError("nested too deep") from None
