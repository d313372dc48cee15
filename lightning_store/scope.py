"""Which attempt the running code works for: kept in OpenTelemetry's context, with fallbacks for code that lost it.

Agents start threads and call libraries that hand no context on. A span without one is still attributed when its trace
is known, or when this process works on one attempt only.
"""

import threading
from collections import deque
from contextvars import Context as VariableContext
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context

from lightning_store.conversion import Identity

if TYPE_CHECKING:
    from lightning_store.exporter import LightningSpanExporter

REMEMBERED_SCOPES: Final = 1000
"""Spans that end after their attempt find its exporter if not more attempts have ended since."""

_KEY: Final = otel_context.create_key("lightning_store.attempt")
_NOBODY: Final = object()
# The SDK's own exporters use this name too; there is no public one.
_SUPPRESS: Final[str] = otel_context._SUPPRESS_INSTRUMENTATION_KEY  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


@dataclass(eq=False)
class AttemptScope:
    """One attempt while its agent runs.

    Attributes:
        exporter: Where its spans go.
        cancelled: Set when the agent's work is no longer wanted.
        root: The span around the agent's work; none before it has begun.
    """

    rollout_id: str
    attempt_id: str
    exporter: "LightningSpanExporter"
    cancelled: threading.Event = field(default_factory=threading.Event)
    root: trace.Span = trace.INVALID_SPAN

    @property
    def identity(self) -> Identity:
        """Rollout and attempt id."""
        return self.rollout_id, self.attempt_id

    def context(self) -> Context:
        """The OpenTelemetry context in which code works for this attempt; a new trace before the root span is there."""
        return trace.set_span_in_context(self.root, otel_context.set_value(_KEY, self, Context()))


class _Scopes:
    """All attempts of this process that are running, and those that ended lately."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[Identity, AttemptScope] = {}
        self._ended: dict[Identity, AttemptScope] = {}
        self._order: deque[Identity] = deque()

    def add(self, scope: AttemptScope) -> None:
        with self._lock:
            self._running[scope.identity] = scope

    def end(self, scope: AttemptScope, *, remember: bool) -> None:
        """The agent has ended; `remember`: spans of threads that it left behind are still wanted."""
        with self._lock:
            self._running.pop(scope.identity, None)
            if not remember:
                return
            self._ended[scope.identity] = scope
            self._order.append(scope.identity)
            if len(self._order) > REMEMBERED_SCOPES:
                self._ended.pop(self._order.popleft(), None)

    def find(self, identity: Identity) -> AttemptScope | None:
        with self._lock:
            return self._running.get(identity) or self._ended.get(identity)

    def running(self) -> list[AttemptScope]:
        with self._lock:
            return list(self._running.values())


SCOPES: Final = _Scopes()


def current_scope(context: Context | None = None) -> AttemptScope | None:
    """The attempt that the running code works for; None if it is nobody's or cannot be told.

    Args:
        context: OpenTelemetry context to look in first; None = the current one only.
    """
    for found in (otel_context.get_value(_KEY, context), otel_context.get_value(_KEY)):
        if isinstance(found, AttemptScope):
            return found
        if found is _NOBODY:
            return None
    running = SCOPES.running()
    trace_id = trace.get_current_span(context).get_span_context().trace_id
    return scope_of_trace(trace_id) or (running[0] if len(running) == 1 else None)


def scope_of_trace(trace_id: int) -> AttemptScope | None:
    """The running attempt whose root span began this trace; None if there is none."""
    running = SCOPES.running()
    return next((scope for scope in running if scope.root.get_span_context().trace_id == trace_id != 0), None)


def cancelled() -> bool:
    """Whether the work of the agent that asks is no longer wanted: its rollout was cancelled or given to another.

    A synchronous agent that runs for long asks now and then and returns early; what it returns is dropped. Outside of
    an attempt the answer is False.
    """
    scope = current_scope()
    return scope is not None and scope.cancelled.is_set()


def detached_context() -> VariableContext:
    """A context whose spans belong to no attempt and in which instrumented libraries keep still."""
    context = copy_context()
    context.run(detach)
    return context


def detach() -> None:
    """Make the current context one of `detached_context`, for good."""
    nobody = otel_context.set_value(_KEY, _NOBODY, Context())
    otel_context.attach(otel_context.set_value(_SUPPRESS, True, nobody))
