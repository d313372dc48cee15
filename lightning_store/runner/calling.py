"""Calling an agent: a coroutine as a task of the runner's loop, a plain function on a thread of its own."""

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from opentelemetry.trace import Tracer

from lightning_store.errors import InvalidRequestError
from lightning_store.records import AttemptedRollout, ResourceUnion

AgentResult: TypeAlias = float | Mapping[str, float] | None
Agent: TypeAlias = Callable[
    [AttemptedRollout, Mapping[str, ResourceUnion], Tracer], AgentResult | Awaitable[AgentResult]
]
"""What runs a rollout; see `Runner` for its arguments and its result."""


@dataclass(frozen=True)
class Outcome:
    """How an agent ended.

    Attributes:
        value: What it returned.
        error: What it raised; None when it returned.
    """

    value: Any = None
    error: BaseException | None = None


def check_agent(agent: object, name: str) -> Agent:
    """An agent that can be called as agents are.

    Raises:
        InvalidRequestError: It cannot; each of its rollouts would fail.
    """
    if not callable(agent):
        raise InvalidRequestError(f"agent {name}: expected a function, got {type(agent).__name__}")
    try:
        signature = inspect.signature(agent)
    except ValueError:  # not every callable of C has one
        return cast("Agent", agent)
    try:
        signature.bind(None, None, None)
    except TypeError as error:
        raise InvalidRequestError(
            f"agent {name}: expected a function of rollout, resources and tracer, got {signature}: {error}"
        ) from error
    return cast("Agent", agent)


def is_coroutine_agent(agent: Agent) -> bool:
    """Whether calling the agent makes a coroutine; looks through partial functions and callable objects."""
    function: Any = agent
    while hasattr(function, "func") and hasattr(function, "keywords"):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def start_agent(
    agent: Agent, arguments: tuple[Any, ...], context: Context, after: Callable[[Any], None]
) -> "asyncio.Future[Outcome]":
    """Call an agent in a context.

    Args:
        agent: What to call.
        arguments: Its arguments.
        context: Its context variables; used by this call alone.
        after: Called with the result, in the same context; what it raises counts as raised by the agent.

    Returns:
        Its outcome, also when it raises `SystemExit`. Cancelling the future cancels a coroutine; a function on a thread
        goes on, and nobody hears of its end.
    """
    if is_coroutine_agent(agent):
        return context.run(asyncio.ensure_future, _await_agent(agent, arguments, after))
    return _start_on_thread(agent, arguments, context, after)


async def _await_agent(agent: Agent, arguments: tuple[Any, ...], after: Callable[[Any], None]) -> Outcome:
    try:
        value = await cast("Awaitable[AgentResult]", agent(*arguments))
        after(value)
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - an agent that calls sys.exit must not end the runner
        return Outcome(error=error)
    return Outcome(value)


def _start_on_thread(
    agent: Agent, arguments: tuple[Any, ...], context: Context, after: Callable[[Any], None]
) -> "asyncio.Future[Outcome]":
    loop = asyncio.get_running_loop()
    result: asyncio.Future[Outcome] = loop.create_future()

    def call() -> Outcome:
        try:
            value: Any = agent(*arguments)
            if inspect.isawaitable(value):
                value = asyncio.run(_finish(value))
            after(value)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the attempt failed and the runner goes on
            return Outcome(error=error)
        return Outcome(value)

    def work() -> None:
        outcome = context.run(call)
        with contextlib.suppress(RuntimeError):  # the runner's loop has ended, so nobody waits
            loop.call_soon_threadsafe(_settle, result, outcome)

    # Not an executor: its threads are joined at exit, and an agent that never returns would keep the process.
    threading.Thread(target=work, name="lightning-store-agent", daemon=True).start()
    return result


async def _finish(value: Awaitable[Any]) -> Any:
    """What a plain function left to be awaited, such as a decorated coroutine."""
    return await value


def _settle(result: "asyncio.Future[Outcome]", outcome: Outcome) -> None:
    if not result.done():
        result.set_result(outcome)
