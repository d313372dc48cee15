"""Tracing for agents: spans find the exporter of the attempt that they were made for, and rewards are spans.

Libraries trace through OpenTelemetry's global provider. If a program has set up none, ours becomes the global one;
if it has, spans of ours go through it too, so that its other exporters see them.
"""

import logging
import threading
import time
import weakref
from collections.abc import Mapping
from numbers import Real
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from lightning_store.conversion import ATTEMPT_ID, ROLLOUT_ID, identity_of
from lightning_store.errors import InvalidRequestError
from lightning_store.rewards import ANNOTATION_SPAN, PRIMARY_REWARD, REWARD_PREFIX
from lightning_store.scope import SCOPES, AttemptScope, current_scope, scope_of_trace

__all__ = ["AttemptSpanProcessor", "agent_tracer", "emit_reward", "start_root_span"]

logger = logging.getLogger("lightning_store")

INSTRUMENTATION: Final = "lightning_store"
SERVICE_NAME: Final = "lightning-store-runner"


class AttemptSpanProcessor(SpanProcessor):
    """Stamps each span with the attempt that it is made for, and hands it over when it ends. Others are left alone."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Write the ids of the attempt on the span, unless it has some."""
        if identity_of(span.attributes) is None:
            scope = current_scope(parent_context)
            if scope is not None:
                span.set_attributes({ROLLOUT_ID: scope.rollout_id, ATTEMPT_ID: scope.attempt_id})

    def on_end(self, span: ReadableSpan) -> None:
        """Give the span to its attempt's exporter."""
        scope = self._scope_of(span)
        if scope is not None and span.context and span.context.trace_flags.sampled:
            scope.exporter.offer(scope.identity, span)

    def shutdown(self) -> None:
        """Nothing to do: exporters belong to runners."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until the spans of all running attempts are stored or lost; False when time is up."""
        deadline = time.monotonic() + timeout_millis / 1000
        scopes = SCOPES.running()
        return all(scope.exporter.flush(*scope.identity, max(0.0, deadline - time.monotonic())) for scope in scopes)

    def _scope_of(self, span: ReadableSpan) -> AttemptScope | None:
        identity = identity_of(span.attributes)
        if identity is not None:
            return SCOPES.find(identity)
        # A provider that limits the number of attributes drops the oldest, which are ours.
        return scope_of_trace(span.context.trace_id if span.context else 0) or current_scope()


class _Providers:
    """The providers that our processor sits on, made when first used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processor = AttemptSpanProcessor()
        self._own: TracerProvider | None = None
        self._foreign: weakref.WeakSet[TracerProvider] = weakref.WeakSet()

    def own(self) -> TracerProvider:
        """A provider that records everything, whole."""
        with self._lock:
            return self._make_own()

    def current(self) -> TracerProvider:
        """The global provider if it is the SDK's, else our own, which becomes the global one if none was set."""
        with self._lock:
            provider = trace.get_tracer_provider()
            if isinstance(provider, trace.ProxyTracerProvider):
                provider = self._make_own()
                trace.set_tracer_provider(provider)
            if not isinstance(provider, TracerProvider):
                return self._make_own()
            if provider is not self._own and provider not in self._foreign:
                provider.add_span_processor(self._processor)
                self._foreign.add(provider)
            return provider

    def is_foreign(self, provider: trace.TracerProvider) -> bool:
        """Whether somebody else set it up, so that spans outside of attempts may be of use there."""
        return isinstance(provider, TracerProvider) and provider is not self._own

    def _make_own(self) -> TracerProvider:
        if self._own is None:
            # What happens to be in every span should be little: it is stored with each of them.
            resource = Resource({"service.name": SERVICE_NAME}).merge(OTELResourceDetector().detect())
            unlimited = SpanLimits.UNSET
            limits = SpanLimits(
                max_attributes=unlimited, max_events=unlimited, max_links=unlimited, max_span_attributes=unlimited,
                max_event_attributes=unlimited, max_link_attributes=unlimited,
            )  # fmt: skip
            self._own = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False, span_limits=limits)
            self._own.add_span_processor(self._processor)
        return self._own


_PROVIDERS: Final = _Providers()


def agent_tracer() -> trace.Tracer:
    """The tracer that agents are given; its spans reach the exporter of the attempt that they are made for."""
    return _PROVIDERS.current().get_tracer(INSTRUMENTATION)


def start_root_span(name: str, scope: AttemptScope) -> trace.Span:
    """Begin the span around an agent's work, as the first of a new trace; it becomes the scope's root."""
    scope.root = _start_recorded_span(name, scope.context(), {})
    return scope.root


def emit_reward(
    reward: float | Mapping[str, float],
    *,
    primary_key: str | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Record a reward for the attempt that the calling code works for.

    May be called from any thread, as often as wanted; the last one of the latest attempt is the rollout's reward.

    Args:
        reward: A number, or several by name.
        primary_key: Which of several is the reward that `rewards` reads; None = `primary` if there, else the first.
        attributes: Further attributes of the span.

    Raises:
        InvalidRequestError: `reward` is no number, has none, or has no `primary_key`.
        RuntimeError: OpenTelemetry is switched off (`OTEL_SDK_DISABLED`), so the reward would be lost.

    Source: emit_reward, Agent Lightning v0.3.0, which wants a `primary_key` for several.
    """
    values: dict[str, Any] = dict(attributes or {})
    for number, (name, value) in enumerate(_dimensions(reward, primary_key)):
        values[f"{REWARD_PREFIX}.{number}.name"] = name
        values[f"{REWARD_PREFIX}.{number}.value"] = _number(value, name)
    scope = current_scope()
    if scope is None and not _PROVIDERS.is_foreign(trace.get_tracer_provider()):
        logger.warning("emit_reward was called outside of an attempt, and no tracer provider is set up: reward dropped")
        return
    has_parent = trace.get_current_span().get_span_context().is_valid
    context = None if scope is None or has_parent else scope.context()
    span = _start_recorded_span(ANNOTATION_SPAN, context, values)
    if not span.is_recording():
        raise RuntimeError("the reward cannot be recorded: OpenTelemetry is switched off by OTEL_SDK_DISABLED")
    span.end()


def _start_recorded_span(name: str, context: Context | None, attributes: Mapping[str, Any]) -> trace.Span:
    """A span of the current provider, or of our own one if that one's sampler leaves it out."""
    span = agent_tracer().start_span(name, context, attributes=attributes)
    if span.is_recording():
        return span
    return _PROVIDERS.own().get_tracer(INSTRUMENTATION).start_span(name, context, attributes=attributes)


def _dimensions(reward: float | Mapping[str, float], primary_key: str | None) -> list[tuple[str, Any]]:
    """Names and values, the primary one first."""
    if not isinstance(reward, Mapping):
        return [(primary_key or PRIMARY_REWARD, reward)]
    if not reward:
        raise InvalidRequestError("reward: expected at least one number, got none")
    first = primary_key or (PRIMARY_REWARD if PRIMARY_REWARD in reward else next(iter(reward)))
    if first not in reward:
        raise InvalidRequestError(f"reward: expected one named {first!r}, the primary_key")
    return [(first, reward[first]), *((name, value) for name, value in reward.items() if name != first)]


def _number(value: object, name: str) -> float:
    if not isinstance(value, Real):
        raise InvalidRequestError(f"reward: {name}: expected a number, got {type(value).__name__}")
    try:
        return float(value)
    except OverflowError as error:
        raise InvalidRequestError(f"reward: {name}: the number is too large") from error
