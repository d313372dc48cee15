"""A store whose every operation funnels into one method, so that a wrapper is written once."""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from lightning_store.contract import LightningStore
from lightning_store.operations import OPERATIONS, Operation


class ForwardingStore(LightningStore):
    """Base of wrappers and clients: implement `invoke`, and every operation of the contract follows."""

    async def invoke(self, operation: Operation, arguments: dict[str, Any]) -> Any:
        """Carry out one operation.

        Args:
            operation: Its row in the table.
            arguments: What the caller gave, by name; what was left out is absent, so `UNSET` never travels.
        """
        raise NotImplementedError


def innermost(store: Any) -> Any:
    """The store inside of wrappers such as ours."""
    while isinstance(inner := getattr(store, "store", None), LightningStore):
        store = inner
    return store


def _forward(operation: Operation) -> Callable[..., Coroutine[Any, Any, Any]]:
    @wraps(getattr(LightningStore, operation.name))
    async def method(self: ForwardingStore, *args: Any, **kwargs: Any) -> Any:
        return await self.invoke(operation, operation.bind(args, kwargs))

    return method


for _operation in OPERATIONS.values():
    setattr(ForwardingStore, _operation.name, _forward(_operation))
