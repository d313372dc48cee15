"""A rollout as one transaction sees it: read by index, changed by the rules, written back where it differs."""

from dataclasses import dataclass, field
from typing import Any, Final

from lightning_store.backends.sqlite import codec
from lightning_store.backends.sqlite.codec import Row
from lightning_store.lifecycle import AttemptState, RolloutState
from lightning_store.records import Rollout, RolloutConfig

CHANGING: Final = (
    "end_time", "mode", "resources_id", "status", "config", "uncounted", "losses", "attempts", "deadline",
    "queued_time", "queue_place", "ready_time", "finish_number", "last_sequence_id", "spans", "span_bytes", "evicted",
)  # fmt: skip
"""Columns of `rollouts` that change; in the order of `StoredRollout.values`."""


@dataclass(eq=False)
class StoredRollout:
    """A rollout with what belongs to it in its row.

    Attributes:
        number: Its creation number.
        digest: Tells whether a caller's own id is used again for the same task; None when the store made the id.
        attempts: How many it has; also the number of the latest.
        latest: The attempt with the highest number.
        deadline: None = never.
        queued_time: When it began to wait, or will have, for a delayed retry.
        queue_place: Place of its entry in its queue; None = it has none. Void unless its status is a queued one.
        ready_time: When its delay is over; None = it waits for none.
        finish_number: Number of its last completion.
        last_sequence_id: The highest number of its spans that was handed out or stored.
        evicted: Attempts with this number or a lower one have lost their spans for lack of memory.
    """

    number: int
    digest: str | None
    state: RolloutState
    attempts: int
    latest: AttemptState | None
    deadline: float | None
    queued_time: float
    queue_place: int | None
    ready_time: float | None
    finish_number: int | None
    last_sequence_id: int
    spans: int
    span_bytes: int
    evicted: int
    written: Row = ()
    _config: tuple[RolloutConfig, bytes | None] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, row: Row, latest: AttemptState | None) -> "StoredRollout":
        """From the values of `ROLLOUT_COLUMNS`."""
        stored = cls(row[0], row[2], codec.state_from(row), row[13], latest, *row[14:])
        stored._config = (stored.record.config, row[8])
        stored.written = stored.values()
        return stored

    @property
    def id(self) -> str:
        """Its id."""
        return self.state.record.rollout_id

    @property
    def record(self) -> Rollout:
        """The rollout itself, without its payloads."""
        return self.state.record

    def values(self) -> Row:
        """Values of `CHANGING`."""
        record = self.state.record
        return (
            record.end_time,
            record.mode,
            record.resources_id,
            record.status,
            self.config(),
            self.state.uncounted,
            self.state.losses,
            self.attempts,
            self.deadline,
            self.queued_time,
            self.queue_place,
            self.ready_time,
            self.finish_number,
            self.last_sequence_id,
            self.spans,
            self.span_bytes,
            self.evicted,
        )

    def config(self) -> bytes | None:
        """Its config as it is stored; encoded only when it has changed."""
        config = self.state.record.config
        if self._config is None or self._config[0] is not config:
            self._config = (config, codec.config_to(config))
        return self._config[1]

    def differences(self) -> dict[str, Any]:
        """Columns that differ from what is written, which counts as written then."""
        values, written = self.values(), self.written
        self.written = values
        if values == written:
            return {}
        return {name: value for name, value, old in zip(CHANGING, values, written, strict=True) if value != old}
