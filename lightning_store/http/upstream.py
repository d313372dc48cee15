"""How the client gets along with the server of Agent Lightning 0.3, which knows the contract and nothing beyond it.

What it lacks is composed of what it has, or refused with a clear error; it is never left out in silence.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final

from lightning_store.contract import DEFAULT_QUEUES
from lightning_store.errors import UnsupportedOperationError
from lightning_store.operations import OPERATIONS, Operation
from lightning_store.records import DEFAULT_QUEUE, PaginatedResult, Rollout, RolloutConfig
from lightning_store.requests import check_timeout
from lightning_store.spans import Span

Arguments = dict[str, Any]
Ask = Callable[[Operation, Arguments], Awaitable[Any]]

FIRST_POLL_SECONDS: Final = 0.1
LONGEST_POLL_SECONDS: Final = 1.0
"""Pauses between looks for something that its server cannot wait for."""

_TASK: Final = frozenset({"input", "mode", "resources_id", "config", "metadata"})
_PAGE: Final = frozenset({"sort_by", "sort_order", "limit", "offset"})
_KNOWN: Final[dict[str, frozenset[str]]] = {
    "statistics": frozenset(),
    "start_rollout": _TASK | {"worker_id"},
    "start_attempt": frozenset({"rollout_id", "worker_id"}),
    "query_rollouts": _PAGE | {"status_in", "rollout_id_in", "rollout_id_contains", "filter_logic"},
    "update_rollout": _TASK | {"rollout_id", "status"},
    "query_attempts": _PAGE | {"rollout_id"},
    "get_latest_attempt": frozenset({"rollout_id"}),
    "update_attempt": frozenset({"rollout_id", "attempt_id", "status", "worker_id", "last_heartbeat_time", "metadata"}),
    "query_spans": frozenset(OPERATIONS["query_spans"].signature.parameters),
    "add_resources": frozenset({"resources"}),
    "update_resources": frozenset({"resources_id", "resources"}),
    "get_resources_by_id": frozenset({"resources_id"}),
    "get_latest_resources": frozenset(),
    "query_resources": _PAGE | {"resources_id", "resources_id_contains"},
    "update_worker": frozenset({"worker_id", "heartbeat_stats"}),
    "get_worker_by_id": frozenset({"worker_id"}),
    "query_workers": _PAGE | {"status_in", "worker_id_contains", "filter_logic"},
}
"""Arguments of the calls that are sent as they are."""

_OLDER_NAMES: Final = {"status": "status_in", "rollout_ids": "rollout_id_in"}
_CONFIG_EXTENSIONS: Final = ("retry_delay_seconds", "max_worker_losses")


class Upstream:
    """Operations in terms of what that server can do."""

    def __init__(self, ask: Ask) -> None:
        """Set up.

        Args:
            ask: Sends one request for an operation that has a route there.
        """
        self._ask = ask
        self._composed: dict[str, Callable[[Arguments], Awaitable[Any]]] = {
            "enqueue_many_rollouts": self._enqueue,
            "dequeue_many_rollouts": self._dequeue,
            "get_rollout_by_id": self._rollout,
            "wait_for_rollouts": self._wait,
            "add_many_spans": self._add_spans,
            "get_many_span_sequence_ids": self._numbers,
            "query_many_spans": self._spans_of_many,
        }

    async def carry_out(self, operation: Operation, arguments: Arguments) -> Any:
        """Carry out one operation.

        Raises:
            UnsupportedOperationError: That server cannot do it, or has no such argument.
        """
        composed = self._composed.get(operation.name)
        if composed is not None:
            return await composed(arguments)
        if operation.name not in _KNOWN:
            raise UnsupportedOperationError(f"{operation.name}: the server of Agent Lightning 0.3 has no such operation")
        given = _without_defaults(operation, arguments)
        if operation.name == "query_rollouts":
            given = _with_new_names(given)
        _refuse_others(operation, given, _KNOWN[operation.name])
        _check_config(given.get("config"))
        if given.get("limit") == 0:
            return await self._empty_page(operation, given)
        return await self._ask(operation, given)

    async def _empty_page(self, operation: Operation, arguments: Arguments) -> PaginatedResult[Any]:
        """A page without items, which it refuses to make."""
        page = await self._ask(operation, {**arguments, "limit": 1})
        return PaginatedResult(items=[], limit=0, offset=page.offset, total=page.total)

    async def _enqueue(self, arguments: Arguments) -> list[Rollout]:
        for request in arguments["rollouts"]:
            _check_config(request.config)
            if request.rollout_id is not None or request.group_id is not None or request.queue != DEFAULT_QUEUE:
                raise UnsupportedOperationError(
                    "rollouts: the server of Agent Lightning 0.3 knows no rollout_id, group_id or queue"
                )
        return list(await self._ask(OPERATIONS["enqueue_many_rollouts"], {"rollouts": arguments["rollouts"]}))

    async def _dequeue(self, arguments: Arguments) -> list[Any]:
        operation = OPERATIONS["dequeue_many_rollouts"]
        given = _without_defaults(operation, arguments)
        timeout = check_timeout(given.pop("timeout", 0))
        if tuple(given.pop("queues", DEFAULT_QUEUES)) != DEFAULT_QUEUES:
            raise UnsupportedOperationError("queues: the server of Agent Lightning 0.3 knows one queue only")
        _refuse_others(operation, given, frozenset({"limit", "worker_id"}))
        if given.get("limit", 1) <= 0:
            return []
        return list(await _polled(lambda: self._ask(operation, given), bool, timeout))

    async def _rollout(self, arguments: Arguments) -> Rollout | None:
        """One rollout; its own way to say that there is none is a fault."""
        found = await self._ask(OPERATIONS["query_rollouts"], {"rollout_id_in": [arguments["rollout_id"]]})
        return found[0] if found else None

    async def _wait(self, arguments: Arguments) -> list[Rollout]:
        ids: list[str] = arguments["rollout_ids"]
        timeout = math.inf if arguments.get("timeout") is None else check_timeout(arguments["timeout"])
        known = await self._ask(OPERATIONS["query_rollouts"], {"rollout_id_in": ids}) if timeout > 0 else ()
        wanted = {rollout.rollout_id for rollout in known}
        operation = OPERATIONS["wait_for_rollouts"]
        finished = await _polled(
            lambda: self._ask(operation, {"rollout_ids": ids, "timeout": 0}),
            lambda found: wanted <= {rollout.rollout_id for rollout in found},
            timeout,
        )
        return list(finished)

    async def _add_spans(self, arguments: Arguments) -> list[Span]:
        stored: list[Span] = []
        for span in arguments["spans"]:
            numbered = span
            if arguments.get("renumber", False):
                number = await self._number(span.rollout_id, span.attempt_id)
                numbered = span.model_copy(update={"sequence_id": number})
            if await self._ask(OPERATIONS["add_span"], {"span": numbered}) is not None:
                stored.append(numbered)
        return stored

    async def _number(self, rollout_id: str, attempt_id: str) -> int:
        pair = {"rollout_id": rollout_id, "attempt_id": attempt_id}
        return int(await self._ask(OPERATIONS["get_next_span_sequence_id"], pair))

    async def _numbers(self, arguments: Arguments) -> list[int]:
        return [await self._number(*pair) for pair in arguments["rollout_attempt_ids"]]

    async def _spans_of_many(self, arguments: Arguments) -> dict[str, list[Span]]:
        attempt = {"attempt_id": arguments["attempt_id"]} if arguments.get("attempt_id") is not None else {}
        query = OPERATIONS["query_spans"]
        return {id: list(await self._ask(query, {"rollout_id": id, **attempt})) for id in arguments["rollout_ids"]}


async def _polled(look: Callable[[], Awaitable[Any]], is_enough: Callable[[Any], bool], timeout: float) -> Any:
    """Look until it is enough or the time is over."""
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout
    pause = FIRST_POLL_SECONDS
    while True:
        found = await look()
        left = until - loop.time()
        if is_enough(found) or left <= 0:
            return found
        await asyncio.sleep(min(pause, left))
        pause = min(2 * pause, LONGEST_POLL_SECONDS)


def _without_defaults(operation: Operation, arguments: Arguments) -> Arguments:
    """What was given and says something."""
    parameters = operation.signature.parameters
    return {name: value for name, value in arguments.items() if value != parameters[name].default}


def _with_new_names(arguments: Arguments) -> Arguments:
    older = {_OLDER_NAMES[name]: value for name, value in arguments.items() if name in _OLDER_NAMES}
    return older | {name: value for name, value in arguments.items() if name not in _OLDER_NAMES}


def _refuse_others(operation: Operation, arguments: Arguments, known: frozenset[str]) -> None:
    others = sorted(set(arguments) - known)
    if others:
        raise UnsupportedOperationError(
            f"{operation.name}: the server of Agent Lightning 0.3 knows no argument {', '.join(others)}"
        )


def _check_config(config: RolloutConfig | None) -> None:
    """Refuse limits that it would leave out."""
    for name in _CONFIG_EXTENSIONS:
        if config is not None and getattr(config, name) != RolloutConfig.model_fields[name].default:
            raise UnsupportedOperationError(f"config.{name}: the server of Agent Lightning 0.3 knows no such limit")
