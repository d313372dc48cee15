"""Writes that count only once replicas have them: WAIT behind each writing script, on the same connection.

The server waits for all that it has written up to the connection's last command, so also for what an earlier try wrote.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from lightning_store.backends.redis.scripts import Argument, Call
from lightning_store.errors import InvalidRequestError, NotReplicatedError
from lightning_store.requests import check_positive

_SHARE_OF_TIME: Final = 0.5  # servers see a tenth of a second late that the time is over, and the call is not lost then


@dataclass(frozen=True)
class Replication:
    """How many replicas have to have a write before it is acknowledged.

    Attributes:
        min_replicas: So many; 0 waits for none.
        seconds: For how long one try waits for them.
    """

    min_replicas: int = 0
    seconds: float = 1.0

    def __post_init__(self) -> None:
        if type(self.min_replicas) is not int or self.min_replicas < 0:
            raise InvalidRequestError(f"min_replicas: expected a whole number from 0, got {self.min_replicas!r}")
        check_positive(self.seconds, "replication_seconds")

    @property
    def try_seconds(self) -> float:
        """What a try needs to wait for so long, and to be answered."""
        return self.seconds / _SHARE_OF_TIME

    @property
    def extra_seconds(self) -> float:
        """For how long a writing call may block its connection by this."""
        return self.seconds if self.min_replicas else 0.0

    def commands(self, calls: Sequence[Call], seconds: float = float("inf")) -> list[tuple[Argument, ...]]:
        """What to send behind these calls: WAIT if one of them writes, else nothing.

        Args:
            calls: What is sent on the same connection.
            seconds: The most that there is time for.
        """
        if not self.min_replicas or not any(call.writes and call.is_awaited for call in calls):
            return []
        milliseconds = max(1, int(1000 * min(self.seconds, _SHARE_OF_TIME * seconds)))  # 0 would wait for ever
        return [("WAIT", self.min_replicas, milliseconds)]

    def check(self, answers: Sequence[Any]) -> None:
        """See that enough replicas have confirmed.

        Args:
            answers: Those to `commands`.

        Raises:
            NotReplicatedError: Too few have.
            RedisError: The server refused to wait.
        """
        for confirmed in answers:
            if isinstance(confirmed, Exception):
                raise confirmed
            if confirmed < self.min_replicas:
                raise NotReplicatedError(
                    f"applied, not replicated: {confirmed} of {self.min_replicas} replicas (min_replicas) have "
                    "confirmed it in time; are as many connected?"
                )


NONE_AWAITED: Final = Replication()


def chosen(given: tuple[int | None, float | None], in_url: tuple[int | None, float | None]) -> Replication:
    """What was given as `min_replicas` and `replication_seconds`, else what the URL says, else the defaults.

    Raises:
        InvalidRequestError: A number is out of range.
    """
    replicas = in_url[0] if given[0] is None else given[0]
    seconds = in_url[1] if given[1] is None else given[1]
    return Replication(
        NONE_AWAITED.min_replicas if replicas is None else replicas,
        NONE_AWAITED.seconds if seconds is None else seconds,
    )
