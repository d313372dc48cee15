"""The span record and its parts, as OpenTelemetry data that the store keeps whole.

Models accept fields that they do not know and keep them: what an OpenTelemetry object carries survives the store.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, PlainValidator

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

Scalar: TypeAlias = str | bool | int | float
_SCALARS = (str, bool, int, float)
_NUMBERS = (bool, int, float)


def checked_attribute(value: Any) -> Any:
    """What OpenTelemetry allows as an attribute; numbers of several kinds in a list become the widest kind.

    Raises:
        ValueError: It allows nothing of the sort.
    """
    if isinstance(value, _SCALARS):
        return value
    if isinstance(value, list | tuple):
        kinds = {type(item) for item in value}
        if len(kinds) <= 1 and all(issubclass(kind, _SCALARS) for kind in kinds):
            return list(value)
        if all(issubclass(kind, str) for kind in kinds):
            return list(value)
        if all(issubclass(kind, _NUMBERS) for kind in kinds):
            widest = float if any(issubclass(kind, float) for kind in kinds) else int
            return [widest(item) for item in value]
    raise ValueError(
        f"expected a string, bool, integer, float or a list of one of these kinds, got {type(value).__name__}"
    )


AttributeValue: TypeAlias = Annotated[
    str | bool | int | float | list[str] | list[bool] | list[int] | list[float], PlainValidator(checked_attribute)
]
Attributes: TypeAlias = dict[str, AttributeValue]


class _Open(BaseModel):
    # JSON that a span is read back from: null is no attribute.
    model_config = ConfigDict(extra="allow", ser_json_inf_nan="constants")


class SpanContext(_Open):
    """Identity of a span across processes."""

    trace_id: str
    span_id: str
    is_remote: bool
    trace_state: dict[str, str]


class TraceStatus(_Open):
    """How the operation ended: UNSET, OK or ERROR."""

    status_code: str
    description: str | None = None


class Event(_Open):
    """Something that happened during a span; `timestamp` in seconds since the epoch."""

    name: str
    attributes: Attributes = Field(default_factory=dict)
    timestamp: float | None = None


class Link(_Open):
    """A reference to another span."""

    context: SpanContext
    attributes: Attributes | None = None


class OtelResource(_Open):
    """Who produced the span."""

    attributes: Attributes
    schema_url: str


class Span(_Open):
    """One operation of an agent; identified by rollout, attempt and span id together.

    Attributes:
        sequence_id: Orders the spans of a rollout; not unique.
        trace_id: 32 hex digits by convention, not enforced; `span_id` 16.
        start_time: Seconds since the epoch; None when unknown.
    """

    rollout_id: str
    attempt_id: str
    sequence_id: int = Field(ge=0)
    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    status: TraceStatus
    attributes: Attributes
    events: list[Event]
    links: list[Link]
    start_time: float | None
    end_time: float | None
    context: SpanContext | None
    parent: SpanContext | None
    resource: OtelResource

    @classmethod
    def from_opentelemetry(cls, src: "ReadableSpan", rollout_id: str, attempt_id: str, sequence_id: int) -> "Span":
        """Convert an OpenTelemetry span, keeping everything that is found on it.

        Ids become zero-padded hex; times above 1e12 are taken as nanoseconds; zero or missing times become None.
        Whatever has no field of its own is kept as an extra field, unknown objects by their string form.

        Args:
            src: A readable span, or any object with the same attributes.
            rollout_id: Rollout that the span belongs to.
            attempt_id: Attempt that the span belongs to.
            sequence_id: Its place among the spans of the rollout.

        Source: Span.from_opentelemetry, Agent Lightning v0.3.0.
        """
        from lightning_store.conversion import span_from_opentelemetry  # noqa: PLC0415 - OpenTelemetry is slow to import

        return span_from_opentelemetry(src, rollout_id, attempt_id, sequence_id)

    @classmethod
    def from_attributes(
        cls,
        *,
        attributes: Mapping[str, Any],
        rollout_id: str,
        attempt_id: str,
        sequence_id: int,
        trace_id: str = "0" * 32,
        span_id: str | None = None,
        parent_id: str | None = None,
        name: str = "span",
        start_time: float | None = None,
        end_time: float | None = None,
        events: Sequence[Event] = (),
        links: Sequence[Link] = (),
        status: TraceStatus | None = None,
        resource: OtelResource | None = None,
    ) -> "Span":
        """Make a span by hand; a missing `span_id` is drawn at random.

        Source: Span.from_attributes, Agent Lightning v0.3.0.
        """
        from lightning_store.clock import random_hex  # noqa: PLC0415 - keeps the module free of other imports

        return cls(
            rollout_id=rollout_id,
            attempt_id=attempt_id,
            sequence_id=sequence_id,
            trace_id=trace_id,
            span_id=span_id or random_hex(16),
            parent_id=parent_id,
            name=name,
            status=status or TraceStatus(status_code="OK"),
            attributes=dict(attributes),
            events=list(events),
            links=list(links),
            start_time=start_time,
            end_time=end_time,
            context=None,
            parent=None,
            resource=resource or OtelResource(attributes={}, schema_url=""),
        )
