"""How large free-form values may be, and the refusal of what is larger."""

from dataclasses import dataclass, fields
from typing import Any, Final

from lightning_store.errors import InvalidRequestError
from lightning_store.jsonvalue import encode_json
from lightning_store.requests import check_limit
from lightning_store.span_json import encode_span
from lightning_store.spans import Span

MIB: Final = 1 << 20

LEAST_BYTES: Final = 1024
"""Smallest limit: what runners write of themselves, such as the stats of their heartbeats, has to fit."""


@dataclass(frozen=True)
class PayloadLimits:
    """Most bytes of JSON in UTF-8, before any compression, that one value may have; None = no limit.

    Attributes:
        max_task_bytes: Of the input of a rollout.
        max_span_bytes: Of a span without the ids of its rollout and attempt and its number.
        max_resources_bytes: Of a resources snapshot.
        max_metadata_bytes: Of the metadata of a rollout or attempt, and of heartbeat stats.
    """

    max_task_bytes: int | None = 16 * MIB
    max_span_bytes: int | None = 16 * MIB
    max_resources_bytes: int | None = 16 * MIB
    max_metadata_bytes: int | None = MIB

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                check_limit(value, field.name, LEAST_BYTES)

    def task(self, value: Any, what: str) -> bytes:
        """The JSON of an input; `what` names it in the error.

        Raises:
            InvalidRequestError: It is too large.
        """
        return _bounded(encode_json(value), self.max_task_bytes, "max_task_bytes", what)

    def metadata(self, value: Any, what: str) -> bytes:
        """The JSON of metadata or heartbeat stats, as `task`."""
        return _bounded(encode_json(value), self.max_metadata_bytes, "max_metadata_bytes", what)

    def resources(self, value: Any) -> bytes:
        """The JSON of a resources snapshot, as `task`."""
        return _bounded(encode_json(value), self.max_resources_bytes, "max_resources_bytes", "resources")

    def span(self, span: Span, place: int) -> bytes:
        """The JSON of a span without what is stored apart, as `task`; `place` is its place in the call."""
        data = encode_span(span)
        if self.max_span_bytes is not None and len(data) > self.max_span_bytes:
            what = f"spans[{place}] ({span.name!r:.200}, span_id {span.span_id:.64})"
            _bounded(data, self.max_span_bytes, "max_span_bytes", what)
        return data


DEFAULT_LIMITS: Final = PayloadLimits()


def _bounded(data: bytes, most: int | None, setting: str, what: str) -> bytes:
    if most is not None and len(data) > most:
        raise InvalidRequestError(f"{what}: {len(data)} bytes of JSON, expected at most {most} ({setting})")
    return data
