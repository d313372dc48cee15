"""What is kept of an exception that an agent raised: on its root span, and in its attempt's metadata."""

import traceback
from typing import Any, Final

from opentelemetry.trace import Span, Status, StatusCode

MESSAGE_CHARACTERS: Final = 1_000
TRACEBACK_CHARACTERS: Final = 8_000


def describe(error: BaseException) -> dict[str, Any]:
    """Type, message and the end of the traceback of an exception, each of bounded length."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return {"type": name, "message": _message(error), "traceback": _traceback(error)}


def record(span: Span, error: BaseException) -> None:
    """Put an exception on a span, as an event and as its status."""
    facts = describe(error)
    attributes = {f"exception.{name}": value for name, value in facts.items() if name != "traceback"}
    attributes["exception.stacktrace"] = facts["traceback"]
    span.add_event("exception", attributes)
    span.set_status(Status(StatusCode.ERROR, f"{facts['type']}: {facts['message']}"))


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an exception may be unable to tell itself
        text = ""
    return text if len(text) <= MESSAGE_CHARACTERS else text[:MESSAGE_CHARACTERS] + " ..."


def _traceback(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - as above
        text = "".join(traceback.format_tb(error.__traceback__))
    return text if len(text) <= TRACEBACK_CHARACTERS else "... " + text[-TRACEBACK_CHARACTERS:]
