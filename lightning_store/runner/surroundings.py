"""What all slots of a runner share."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from opentelemetry.trace import Tracer

from lightning_store.contract import LightningStore
from lightning_store.exporter import LightningSpanExporter
from lightning_store.patience import Reach
from lightning_store.runner.calling import Agent
from lightning_store.runner.stats import RunnerStats


@dataclass(eq=False)
class Surroundings:
    """What all slots of a runner share; made on the runner's loop.

    Attributes:
        store: Safe to call from any thread.
        agent_name: Name of the root spans.
        poll_seconds: Longest time that one claim waits for work.
        cancel_seconds: How long an agent may take to stop after its work became unwanted.
        stopping: Set when no more work is to be claimed.
    """

    store: LightningStore
    agent: Agent
    agent_name: str
    tracer: Tracer
    exporter: LightningSpanExporter
    queues: Sequence[str]
    lease_seconds: float
    poll_seconds: float
    cancel_seconds: float
    reach: Reach
    stats: RunnerStats
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
