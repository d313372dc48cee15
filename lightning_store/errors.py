"""The error tree, and the one table between error codes and classes."""

from typing import ClassVar, Final


class LightningStoreError(Exception):
    """Base of every error of the store.

    Attributes:
        code: First word of a script's error reply and `error_type` of an HTTP body.
        http_status: Status of the HTTP answer.
        retryable: The same call may succeed later.
    """

    code: ClassVar[str] = "ERROR"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False


class NotFoundError(LightningStoreError, ValueError):
    """A record that the call needs does not exist."""

    code = "NOT_FOUND"
    http_status = 404


class RolloutNotFoundError(NotFoundError):
    """No rollout has this id."""

    code = "ROLLOUT_NOT_FOUND"


class AttemptNotFoundError(NotFoundError):
    """The rollout has no attempt with this id."""

    code = "ATTEMPT_NOT_FOUND"


class ResourcesNotFoundError(NotFoundError):
    """No resources snapshot has this id."""

    code = "RESOURCES_NOT_FOUND"


class InvalidRequestError(LightningStoreError, ValueError):
    """An argument cannot be accepted; the message names it and what was expected."""

    code = "INVALID_REQUEST"
    http_status = 400


class SpansEvictedError(LightningStoreError, RuntimeError):
    """The spans of this rollout were dropped for lack of memory."""

    code = "SPANS_EVICTED"
    http_status = 410


class UnsupportedOperationError(LightningStoreError, NotImplementedError):
    """This store cannot do that."""

    code = "UNSUPPORTED_OPERATION"
    http_status = 501


class StoreUnavailableError(LightningStoreError, ConnectionError):
    """The backend or server is out of reach."""

    code = "STORE_UNAVAILABLE"
    http_status = 503
    retryable = True


class ServerBusyError(StoreUnavailableError):
    """The HTTP server before the store has no room for the call now, is stopping, or did not get all of it in time.

    The client has repeated it for as long as it may. If it was carried out after all, a repeat takes effect once.
    """

    code = "SERVER_BUSY"


class StoreFullError(StoreUnavailableError):
    """The backend has no memory left for new work; nothing was written."""

    code = "STORE_FULL"


class QueueFullError(LightningStoreError):
    """The queue has as many rollouts as it may (`max_queued`); nothing was enqueued."""

    code = "QUEUE_FULL"
    http_status = 429
    retryable = True


class NotReplicatedError(StoreUnavailableError):
    """Applied, but too few replicas have confirmed it: a failover may undo it. A repeat takes effect once."""

    code = "NOT_REPLICATED"


class AccessDeniedError(LightningStoreError, PermissionError):
    """The backend refuses these credentials, or what they are used for."""

    code = "ACCESS_DENIED"
    http_status = 403


class SchemaMismatchError(LightningStoreError, RuntimeError):
    """The namespace was written by another version of the data model; nothing was changed."""

    code = "SCHEMA_MISMATCH"


class MissingExtraError(LightningStoreError, ImportError):
    """A part of the package needs what is not installed; the message has the command that installs it."""

    code = "MISSING_EXTRA"

    @classmethod
    def of(cls, what: str, extra: str) -> "MissingExtraError":
        """The error of something that needs an extra."""
        return cls(f"{what} needs more packages: pip install 'lightning-store[{extra}]'")


class InternalStoreError(LightningStoreError):
    """A script or a stored record broke its own rules."""

    code = "INTERNAL"


ERRORS_BY_CODE: Final[dict[str, type[LightningStoreError]]] = {
    error.code: error
    for error in (
        NotFoundError,
        RolloutNotFoundError,
        AttemptNotFoundError,
        ResourcesNotFoundError,
        InvalidRequestError,
        SpansEvictedError,
        UnsupportedOperationError,
        StoreUnavailableError,
        ServerBusyError,
        StoreFullError,
        QueueFullError,
        NotReplicatedError,
        AccessDeniedError,
        SchemaMismatchError,
        InternalStoreError,
    )
}
