"""The status machine: every set of statuses and every transition, once.

Python rules import these tables; `lua/shared/status.lua` and the table in README.md are rendered from them.
"""

from collections.abc import Mapping
from typing import Any, Final, get_args

from lightning_store.records import AttemptCause, AttemptStatus, RolloutStatus, WorkerStatus

ROLLOUT_STATUSES: Final[tuple[RolloutStatus, ...]] = get_args(RolloutStatus)
ATTEMPT_STATUSES: Final[tuple[AttemptStatus, ...]] = get_args(AttemptStatus)

QUEUED: Final[frozenset[RolloutStatus]] = frozenset({"queuing", "requeuing"})
ACTIVE: Final[frozenset[RolloutStatus]] = frozenset({"preparing", "running"})
FINISHED: Final[frozenset[RolloutStatus]] = frozenset({"succeeded", "failed", "cancelled"})

LIVE: Final[frozenset[AttemptStatus]] = frozenset({"preparing", "running"})
"""Attempts that somebody is working on; all others have ended, though `unresponsive` ones can be revived."""

RETRYABLE: Final[frozenset[AttemptStatus]] = frozenset({"failed", "timeout", "unresponsive"})
"""Ends of an attempt after which its rollout may be requeued."""

STAMPS_END_TIME: Final[frozenset[AttemptStatus]] = frozenset({"succeeded", "failed", "timeout"})
"""Attempt statuses that set `end_time`."""

# What is born, what the store itself makes of an attempt, and what workers are.
NEW_ROLLOUT: Final[RolloutStatus] = "queuing"
NEW_ATTEMPT: Final[AttemptStatus] = "preparing"
CANCELLED: Final[RolloutStatus] = "cancelled"
OVERDUE: Final[AttemptStatus] = "timeout"
SILENT: Final[AttemptStatus] = "unresponsive"
RELEASED: Final[AttemptStatus] = "failed"
REVIVED: Final[AttemptStatus] = "running"
BUSY: Final[WorkerStatus] = "busy"
IDLE: Final[WorkerStatus] = "idle"
UNKNOWN: Final[WorkerStatus] = "unknown"
RELEASED_CAUSE: Final[AttemptCause] = "released"

ROLLOUT_AFTER_ATTEMPT: Final[Mapping[AttemptStatus, RolloutStatus]] = {
    "preparing": "preparing",
    "running": "running",
    "succeeded": "succeeded",
    "failed": "failed",  # these three: "requeuing" while tries are left
    "timeout": "failed",
    "unresponsive": "failed",
}
"""What the latest attempt makes of its unfinished rollout."""

RETRY_STATUS: Final[RolloutStatus] = "requeuing"
"""What a rollout becomes instead of failed while tries are left."""

ATTEMPT_AFTER_SPAN: Final[Mapping[AttemptStatus, AttemptStatus]] = {
    "preparing": "running",
    "running": "running",
    "succeeded": "succeeded",
    "failed": "failed",
    "timeout": "timeout",
    "unresponsive": "running",
}
"""What a new span makes of its attempt."""

ROLLOUT_AFTER_SPAN: Final[Mapping[RolloutStatus, RolloutStatus]] = {
    "queuing": "running",
    "requeuing": "running",
    "preparing": "running",
    "running": "running",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
}
"""What a new span of the latest attempt makes of its rollout, if that attempt is `running` after the span."""

WORKER_AFTER_ATTEMPT: Final[Mapping[AttemptStatus, WorkerStatus]] = {
    "preparing": "busy",
    "running": "busy",
    "succeeded": "idle",
    "failed": "idle",
    "timeout": "unknown",
    "unresponsive": "unknown",
}
"""What an attempt makes of its worker; all but `busy` clear what the worker holds."""

CAUSE_OF_END: Final[Mapping[AttemptStatus, AttemptCause | None]] = {
    "preparing": None,
    "running": None,
    "succeeded": "agent",
    "failed": "agent",
    "timeout": "timeout",
    "unresponsive": "worker_lost",
}
"""Why an attempt ended, unless the caller knows better (`released`, `cancelled`)."""

CAUSE_IN_CANCELLED: Final[Mapping[AttemptStatus, AttemptCause]] = {"failed": "cancelled"}
"""Why an attempt ended whose rollout is cancelled, where that makes a difference."""


def _lua_set(name: str, members: frozenset[str]) -> str:
    body = ", ".join(f"{member} = true" for member in sorted(members))
    return f"local {name} = {{ {body} }}"


def _lua_map(name: str, table: Mapping[Any, str | None]) -> str:
    body = "".join(f'  {key} = "{value}",\n' for key, value in table.items() if value is not None)
    return f"local {name} = {{\n{body}}}"


_CONSTANTS: Final[Mapping[str, str]] = {
    "RETRY_STATUS": RETRY_STATUS,
    "NEW_ROLLOUT": NEW_ROLLOUT,
    "NEW_ATTEMPT": NEW_ATTEMPT,
    "NEW_ATTEMPT_ROLLOUT": ROLLOUT_AFTER_ATTEMPT[NEW_ATTEMPT],
    "NEW_ATTEMPT_WORKER": WORKER_AFTER_ATTEMPT[NEW_ATTEMPT],
    "CANCELLED": CANCELLED,
    "OVERDUE": OVERDUE,
    "SILENT": SILENT,
    "RELEASED": RELEASED,
    "REVIVED": REVIVED,
    "BUSY": BUSY,
    "IDLE": IDLE,
    "UNKNOWN": UNKNOWN,
    "RELEASED_CAUSE": RELEASED_CAUSE,
}


def render_lua() -> str:
    """The text of `lua/shared/status.lua`."""
    parts = [
        "-- Statuses and transitions. Generated from lightning_store/status.py by `make generate`; do not edit.",
        _lua_set("QUEUED", frozenset(QUEUED)),
        _lua_set("ACTIVE", frozenset(ACTIVE)),
        _lua_set("FINISHED", frozenset(FINISHED)),
        _lua_set("LIVE", frozenset(LIVE)),
        _lua_set("RETRYABLE", frozenset(RETRYABLE)),
        _lua_set("STAMPS_END_TIME", frozenset(STAMPS_END_TIME)),
        *(f'local {name} = "{value}"' for name, value in _CONSTANTS.items()),
        _lua_map("ROLLOUT_AFTER_ATTEMPT", ROLLOUT_AFTER_ATTEMPT),
        _lua_map("ATTEMPT_AFTER_SPAN", ATTEMPT_AFTER_SPAN),
        _lua_map("ROLLOUT_AFTER_SPAN", ROLLOUT_AFTER_SPAN),
        _lua_map("WORKER_AFTER_ATTEMPT", WORKER_AFTER_ATTEMPT),
        _lua_map("CAUSE_OF_END", CAUSE_OF_END),
        _lua_map("CAUSE_IN_CANCELLED", CAUSE_IN_CANCELLED),
    ]
    return "\n".join(parts) + "\n"


def render_markdown() -> str:
    """The status table of README.md."""
    rows = [
        "| latest attempt | its rollout becomes | its worker becomes | a span makes it | sets `end_time` | cause |",
        "|---|---|---|---|---|---|",
    ]
    for status in ATTEMPT_STATUSES:
        after = f"`{ROLLOUT_AFTER_ATTEMPT[status]}`"
        if status in RETRYABLE:
            after = f"`{RETRY_STATUS}` while tries are left, else {after}"
        cells = (
            f"`{status}`",
            after,
            f"`{WORKER_AFTER_ATTEMPT[status]}`",
            f"`{ATTEMPT_AFTER_SPAN[status]}`",
            "yes" if status in STAMPS_END_TIME else "no",
            f"`{CAUSE_OF_END[status]}`" if CAUSE_OF_END[status] else "none",
        )
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"
