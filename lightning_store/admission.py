"""How many rollouts may wait in a queue: the limits of a store, and the refusal of what does not fit."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lightning_store.errors import InvalidRequestError, QueueFullError
from lightning_store.requests import check_limit, check_name

MaxQueued = int | Mapping[str, int] | None


@dataclass(frozen=True)
class QueueLimits:
    """Most rollouts that may wait in each queue.

    Attributes:
        everywhere: In any queue; None = no limit.
        by_name: By queue; queues that are not named have no limit. None = `everywhere` holds.
    """

    everywhere: int | None = None
    by_name: Mapping[str, int] | None = None

    @classmethod
    def of(cls, max_queued: MaxQueued) -> "QueueLimits":
        """The limits that a store is given.

        Raises:
            InvalidRequestError: One is no integer of at least 1, or a queue is no name.
        """
        if max_queued is None:
            return cls()
        if not isinstance(max_queued, Mapping):
            return cls(everywhere=check_limit(max_queued, "max_queued", 1))
        named = {
            check_name(name, "max_queued"): check_limit(most, f"max_queued[{name}]", 1)
            for name, most in max_queued.items()
        }
        return cls(by_name=named)

    def among(self, queues: Iterable[str]) -> dict[str, int]:
        """Those of the queues that have a limit, each once and sorted by name, with their limits."""
        if self.everywhere is not None:
            return dict.fromkeys(sorted(set(queues)), self.everywhere)
        return (
            {name: self.by_name[name] for name in sorted(set(queues)) if name in self.by_name} if self.by_name else {}
        )


def check_room(limits: Mapping[str, int], depths: Mapping[str, int], new: Counter[str]) -> None:
    """Refuse rollouts that do not fit; `lua/shared/admission.lua` says the same.

    Args:
        limits: Limits by queue.
        depths: Rollouts that can be claimed there now.
        new: Rollouts that are to be created, by queue.

    Raises:
        InvalidRequestError: They would not fit into an empty queue.
        QueueFullError: They do not fit now.
    """
    for name, most in limits.items():
        if new[name] > most:
            raise InvalidRequestError(
                f"max_queued: {new[name]} new rollouts never fit into queue {name}, which takes {most}; "
                "expected fewer in one call"
            )
    for name, most in limits.items():
        if new[name] and depths[name] + new[name] > most:
            raise QueueFullError(f"queue {name} has {depths[name]} rollouts of at most {most}, no room for {new[name]}")
