"""The store on Redis: the operations of the contract, one atomic script each."""

from lightning_store.backends.redis.audit import AuditOperations
from lightning_store.backends.redis.consumers import ConsumerOperations
from lightning_store.backends.redis.events import EventOperations
from lightning_store.backends.redis.fleet import FleetOperations
from lightning_store.backends.redis.footprint import FootprintOperations
from lightning_store.backends.redis.removals import RemovalOperations
from lightning_store.backends.redis.rollouts import RolloutOperations
from lightning_store.backends.redis.spans import SpanOperations


class RedisLightningStore(
    RolloutOperations,
    RemovalOperations,
    ConsumerOperations,
    SpanOperations,
    FleetOperations,
    AuditOperations,
    EventOperations,
    FootprintOperations,
):
    """A rollout store that any number of hosts share through one Redis, with no server in between.

    Safe to use from many event loops and threads at once, after fork, and pickled: every loop has connections of its
    own. Every changing operation is one script, which takes effect once, however often it is sent. Times are the
    server's.
    """
