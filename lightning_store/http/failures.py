"""Errors of the store as HTTP answers, and back."""

import json
import logging
import traceback
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from lightning_store.errors import (
    ERRORS_BY_CODE,
    AccessDeniedError,
    InternalStoreError,
    InvalidRequestError,
    LightningStoreError,
    UnsupportedOperationError,
)
from lightning_store.http.protocol import write_json

logger = logging.getLogger("lightning_store.http")

Failure = tuple[int, bytes]
"""Status and body of an answer."""

MOST_ERRORS: Final = 50
"""So many of the errors in one body are told."""

_QUOTED_CHARACTERS: Final = 500
_UNPROCESSABLE: Final = 422
_OURS: Final = 500


def failure_of(error: Exception, *, where: str, debug: bool) -> Failure:
    """The answer to a call that has raised an error.

    Args:
        error: What was raised.
        where: `body` or `query`, where the arguments came from.
        debug: Tell the traceback of what is our own fault.
    """
    if isinstance(error, ValidationError):
        return _UNPROCESSABLE, write_json({"detail": _details(error, where)})
    if isinstance(error, LightningStoreError):
        content: dict[str, Any] = {"detail": str(error), "error_type": error.code}
        status = error.http_status
    else:
        logger.error("A call failed", exc_info=error)
        status = _OURS
        content = {"detail": "Internal server error", "error_type": InternalStoreError.code}
    if debug and status >= _OURS:
        content["traceback"] = "".join(traceback.format_exception(error))
    return status, write_json(content)


def _details(error: ValidationError, where: str) -> list[dict[str, Any]]:
    return [
        {
            "type": each["type"],
            "loc": [where, *each["loc"]],
            "msg": each["msg"],
            "input": _quotable(each["input"]),
        }
        for each in error.errors(include_url=False, include_context=False)[:MOST_ERRORS]
    ]


def _quotable(value: Any) -> Any:
    """An input as it was, or the beginning of its text if it is long; a body that is no JSON is quoted as text."""
    if isinstance(value, bytes):
        value = value[:_QUOTED_CHARACTERS].decode("utf-8", "backslashreplace")
    text = repr(value)
    return value if len(text) <= _QUOTED_CHARACTERS else text[:_QUOTED_CHARACTERS]


def error_of(status: int, body: bytes, headers: Mapping[str, str]) -> LightningStoreError | None:
    """The error that an answer stands for; None when it says nothing of the call: the server is out of reach.

    Args:
        status: Not one of success.
        body: What came with it.
        headers: Of the answer.
    """
    content = _content(body)
    detail = content.get("detail")
    known = ERRORS_BY_CODE.get(str(content.get("error_type")))
    if known is not None:
        return known(str(detail))
    return _untold(status, detail, content)


def _untold(status: int, detail: Any, content: Mapping[str, Any]) -> LightningStoreError | None:
    """The same for a server that tells no code of ours."""
    text = f"HTTP {status}: {_text(detail)}"
    if status in {401, 403}:
        return AccessDeniedError(text)
    if status in {404, 405, 501}:
        return UnsupportedOperationError(text)
    if status == _UNPROCESSABLE:
        return InvalidRequestError(_text(detail))
    if status == _OURS and "error_type" in content:
        return _upstream(content)
    if status in {408, 429} or status >= _OURS:
        return None
    return InvalidRequestError(text)


def _upstream(content: Mapping[str, Any]) -> LightningStoreError:
    """What Agent Lightning's own server makes of an exception: its class, and its text as the end of a traceback."""
    from lightning_store.errors import AttemptNotFoundError, RolloutNotFoundError  # noqa: PLC0415

    kind, lines = content["error_type"], str(content.get("traceback", "")).strip().splitlines()
    text = lines[-1].partition(": ")[2] if lines else f"{kind}"
    if kind != "ValueError":
        return InternalStoreError(f"{kind}: {text}")
    if "Attempt " in text or "No attempts found" in text:
        return AttemptNotFoundError(text)
    if "not found" in text or "does not exist" in text:
        return RolloutNotFoundError(text)
    return InvalidRequestError(text)


def _content(body: bytes) -> Mapping[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _text(detail: Any) -> str:
    """A detail as one sentence: a text, or the list of what pydantic found."""
    if isinstance(detail, list):
        return "; ".join(f"{'.'.join(str(part) for part in each['loc'][1:])}: {each['msg']}" for each in detail)
    return str(detail)
