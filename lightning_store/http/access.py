"""Who calls, and what the caller may: checked where an operation is carried out, whichever route led there."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from lightning_store.contract import Capabilities, LightningStore
from lightning_store.errors import AccessDeniedError, ServerBusyError
from lightning_store.forwarding import ForwardingStore
from lightning_store.http.options import ServerOptions
from lightning_store.http.tokens import allows
from lightning_store.operations import Operation, Role


@dataclass
class Places:
    """How many requests are under way in this process, those that wait apart from the others.

    So runners that wait for work cannot keep others from being answered, however many they are.
    """

    requests: int = 0
    waits: int = 0
    body_bytes: int = 0


@dataclass
class Request:
    """What is known of the request that is being answered.

    Attributes:
        id: Its request id.
        role: Of its caller; None = nobody who may call operations.
        places: Where it is counted; None = nowhere.
        waits: It is counted among those that wait.
    """

    id: str
    role: Role | None = None
    places: Places | None = None
    waits: bool = False


REQUEST: Final[ContextVar[Request | None]] = ContextVar("lightning_store_request", default=None)


class ServedStore(ForwardingStore):
    """The store as callers over HTTP have it: what their role does not allow is refused.

    Attributes:
        store: The store behind it.
    """

    def __init__(self, store: LightningStore, options: ServerOptions) -> None:
        self.store = store
        self._options = options

    @property
    def capabilities(self) -> Capabilities:
        """Those of the store behind it."""
        return self.store.capabilities

    async def invoke(self, operation: Operation, arguments: dict[str, Any]) -> Any:
        """Carry out one operation.

        Raises:
            AccessDeniedError: The caller's role does not allow it.
            ServerBusyError: It would wait, and as many wait as may.
        """
        request = self.check(operation)
        if _may_wait(operation, arguments):
            self._count_as_waiting(request)
        return await getattr(self.store, operation.name)(**arguments)

    @staticmethod
    def check(operation: Operation) -> Request:
        """The request that is being answered, whose caller may have the operation.

        Raises:
            AccessDeniedError: The caller's role does not allow it.
        """
        request = REQUEST.get()
        role = None if request is None else request.role
        if request is None or role is None or not allows(role, operation.role):
            raise AccessDeniedError(
                f"{operation.name} needs a token with the role {operation.role}, got {role or 'none'}"
            )
        return request

    def _count_as_waiting(self, request: Request) -> None:
        """Count a request among those that wait, from now to its end."""
        places = request.places
        if places is None or request.waits:
            return
        if places.waits >= self._options.max_waits:
            raise ServerBusyError(f"{places.waits} requests wait already, as many as may: come again later")
        request.waits = True
        places.requests -= 1
        places.waits += 1


def leave(request: Request) -> None:
    """Count a request no more, because it is answered."""
    places, request.places = request.places, None
    if places is None:
        return
    if request.waits:
        places.waits -= 1
    else:
        places.requests -= 1


def _may_wait(operation: Operation, arguments: dict[str, Any]) -> bool:
    if not operation.waits:
        return False
    return bool(arguments.get("timeout", operation.signature.parameters["timeout"].default) != 0)
