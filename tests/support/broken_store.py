"""A store that breaks its promises now and then, so that the chaos report can be seen to find it."""

from collections import Counter
from typing import Any, Final

from lightning_store.contract import Capabilities, LightningStore
from lightning_store.forwarding import ForwardingStore
from lightning_store.operations import Operation

EVERY_SUCCESS: Final = 10
EVERY_PAGE: Final = 25


class BrokenStore(ForwardingStore):
    """Says of some successes that they are stored without sending them, and removes some rollouts behind all backs.

    The store itself is sound, so its audit finds nothing: only who compares what was told with what is stored does.
    """

    def __init__(self, store: LightningStore) -> None:
        self._store = store
        self._seen: Counter[str] = Counter()

    @property
    def capabilities(self) -> Capabilities:
        """Those of the store."""
        return self._store.capabilities

    async def invoke(self, operation: Operation, arguments: dict[str, Any]) -> Any:
        """Pass on, mostly."""
        if operation.name == "update_attempt" and arguments.get("status") == "succeeded":
            self._seen["successes"] += 1
            if self._seen["successes"] % EVERY_SUCCESS == 1:
                attempts = await self._store.query_attempts(arguments["rollout_id"])
                [mine] = [each for each in attempts if each.attempt_id == arguments["attempt_id"]]
                return mine.model_copy(update={"status": "succeeded"})
        answer = await getattr(self._store, operation.name)(**arguments)
        if operation.name == "completions":
            self._seen["pages"] += len(answer.items) > 0
            if answer.items and self._seen["pages"] % EVERY_PAGE == 1:
                await self._store.delete_rollouts([answer.items[0].rollout_id])
        return answer
