"""A store whose calls can be made to fail, to wait, or be counted."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from lightning_store.contract import Capabilities, LightningStore
from lightning_store.forwarding import ForwardingStore
from lightning_store.operations import Operation


class FaultyStore(ForwardingStore):
    """Passes calls on to another store, unless told otherwise for an operation.

    Attributes:
        errors: By operation, what its calls raise instead of being passed on; a function may decide per call.
        gates: By operation, what its calls wait for first, however long that takes.
        calls: How often each operation was called.
        under_way: How many calls of each operation the other store has now.
    """

    def __init__(self, store: LightningStore) -> None:
        self.store = store
        self.errors: dict[str, Exception | Callable[[dict[str, Any]], Exception | None]] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.calls: Counter[str] = Counter()
        self.under_way: Counter[str] = Counter()

    @property
    def capabilities(self) -> Capabilities:
        return self.store.capabilities

    async def invoke(self, operation: Operation, arguments: dict[str, Any]) -> Any:
        self.calls[operation.name] += 1
        fault = self.errors.get(operation.name)
        error = fault(arguments) if callable(fault) else fault
        if error is not None:
            raise error
        gate = self.gates.get(operation.name)
        while gate is not None and not gate.is_set():  # noqa: ASYNC110 - gates are opened from other loops
            await asyncio.sleep(0.005)
        self.under_way[operation.name] += 1
        try:
            return await getattr(self.store, operation.name)(**arguments)
        finally:
            self.under_way[operation.name] -= 1
