"""Parts of the command line that a real server does not easily show."""

from typing import Any

from lightning_store import InMemoryLightningStore
from lightning_store.cli.rollout_changes import retry_rollouts
from lightning_store.cli.rollout_views import read_history
from lightning_store.contract import LightningStore
from lightning_store.errors import RolloutNotFoundError, SpansEvictedError
from lightning_store.forwarding import ForwardingStore
from lightning_store.operations import Operation


class Failing(ForwardingStore):
    """A store of which one operation fails."""

    def __init__(self, inner: LightningStore, operation: str, error: Exception) -> None:
        self._inner = inner
        self._operation = operation
        self._error = error

    async def invoke(self, operation: Operation, arguments: dict[str, Any]) -> Any:
        if operation.name == self._operation:
            raise self._error
        return await getattr(self._inner, operation.name)(**arguments)


async def test_history_goes_without_rewards_of_spans_that_were_evicted():
    store = InMemoryLightningStore()
    await store.start_rollout("task", rollout_id="ro-1")

    history = await read_history(Failing(store, "query_spans", SpansEvictedError("evicted")), "ro-1")

    assert history is not None
    assert history.as_json()["rewards"] is None
    assert [table.title for table in history.as_tables()] == ["rollout", "attempts", "events"]


async def test_a_rollout_that_is_deleted_before_it_is_retried_is_unknown():
    store = InMemoryLightningStore()
    await store.enqueue_rollout("task", rollout_id="ro-1")
    await store.update_rollout("ro-1", status="failed")
    failing = Failing(store, "update_rollout", RolloutNotFoundError("Item ro-1 does not exist"))

    outcome = await retry_rollouts(failing, ["ro-1"], group_id=None, status_in=None)

    assert (outcome.done, outcome.unknown) == ([], ["ro-1"])
