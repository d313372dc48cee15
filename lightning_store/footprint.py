"""How much memory a namespace takes, as far as a bounded number of questions can tell."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

KINDS: Final = ("rollouts", "attempts", "spans", "workers", "resources", "indexes", "logs")


@dataclass(frozen=True)
class Footprint:
    """Memory in bytes.

    Attributes:
        used: What the server uses, whoever fills it; of a Cluster, the fullest server.
        limit: What it may use; None when it does not tell.
        by_kind: Of the namespace, by what it is for, all of `KINDS`: the last two nearly exact, the others estimated
            from a sample.
    """

    used: int
    limit: int | None
    by_kind: Mapping[str, float]
