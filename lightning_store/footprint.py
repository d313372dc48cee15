"""How much memory a namespace takes, as far as a bounded number of questions can tell."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Footprint:
    """Memory in bytes.

    Attributes:
        used: What the server uses, whoever fills it; of a Cluster, the fullest server.
        limit: What it may use; None when it does not tell.
        by_kind: Of the namespace, by what it is for: `rollouts`, `attempts`, `spans`, `workers`, `resources` are
            estimates from a sample, `indexes` and `logs` nearly exact.
    """

    used: int
    limit: int | None
    by_kind: Mapping[str, float]
