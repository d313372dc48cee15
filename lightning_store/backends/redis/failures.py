"""What the driver's errors mean: which of them are worth another try, and which error of ours says the same."""

import re
import ssl
from typing import Final

from redis import exceptions as redis_errors

from lightning_store.errors import (
    ERRORS_BY_CODE,
    AccessDeniedError,
    InternalStoreError,
    LightningStoreError,
    StoreFullError,
    StoreUnavailableError,
)

_TRANSIENT_CODES: Final = frozenset({"BUSY", "LOADING", "MISCONF", "NOREPLICAS", "READONLY", "UNBLOCKED"})
_TRANSIENT_ERRORS: Final = (
    redis_errors.ConnectionError,
    redis_errors.TimeoutError,
    redis_errors.ReadOnlyError,
    redis_errors.ClusterDownError,
    redis_errors.TryAgainError,
    redis_errors.AskError,  # and with it MovedError
    redis_errors.MasterDownError,
    OSError,
)
_MISPLACED_CODES: Final = frozenset({"NOREPLICAS", "READONLY", "UNBLOCKED"})
_MISPLACED_ERRORS: Final = (redis_errors.ReadOnlyError, redis_errors.MasterDownError)
_REFUSED_CODES: Final = frozenset({"NOPERM", "WRONGPASS", "NOAUTH"})
_REFUSED_ERRORS: Final = (
    redis_errors.AuthenticationError,
    redis_errors.AuthorizationError,
    redis_errors.NoPermissionError,
)
# What a script may not do is told without a code: by Redis before 7.2, and since.
_REFUSED_IN_SCRIPT: Final = ("The user executing the script can't", "ACL failure in script")
# What a script is told whose slot is on its way to another node, or whose node has lost its Cluster. Nothing was
# written then, see open() in lua/shared/clock.lua.
_ON_ITS_WAY: Final = ("non local key in a cluster node", "while the cluster is down")
# Redis 6.2 wraps the refusal of a command in a script's own error: "Error running script (call to f_…): @user_script:1:
# @user_script: 1: -OOM command not allowed …"; later ones answer "OOM command not allowed …".
_WRAPPED: Final = re.compile(r"^Error running script .*?: -([A-Z]+ .*)", re.DOTALL)


def _message(error: Exception) -> str:
    """What the server said, unwrapped; its first word is the code, unless the driver's class stands for it."""
    text = str(error)
    if isinstance(error, redis_errors.MovedError):
        return f"the server is a node of a Cluster and leads to another (MOVED {text}); its URL is redis+cluster://"
    if isinstance(error, redis_errors.AskError):
        return f"the slot is on its way to another node of the Cluster (ASK {text})"
    if _is_on_its_way(error):
        return f"the slot is on its way to another node of the Cluster, or the Cluster is down ({text})"
    wrapped = _WRAPPED.match(text)
    return wrapped.group(1) if wrapped else text


def _is_on_its_way(error: Exception) -> bool:
    return isinstance(error, redis_errors.ResponseError) and any(text in str(error) for text in _ON_ITS_WAY)


def _code(error: Exception) -> str:
    return _message(error).partition(" ")[0]


def _is_refusal(error: Exception) -> bool:
    if isinstance(error, _REFUSED_ERRORS) or _code(error) in _REFUSED_CODES:
        return True
    return isinstance(error, redis_errors.ResponseError) and any(text in str(error) for text in _REFUSED_IN_SCRIPT)


def is_distrusted(error: Exception) -> bool:
    """Whether the server has shown a certificate that we do not trust; the driver makes a lost connection of it."""
    return isinstance(error.__cause__ or error.__context__ or error, ssl.SSLCertVerificationError)


def is_transient(error: Exception) -> bool:
    """Whether the same call may succeed in a moment."""
    if _is_refusal(error) or is_distrusted(error):
        return False
    return isinstance(error, _TRANSIENT_ERRORS) or _code(error) in _TRANSIENT_CODES or _is_on_its_way(error)


def is_misplaced(error: Exception) -> bool:
    """Whether the server is not, or no longer, one that takes writes: another may be by now."""
    return isinstance(error, _MISPLACED_ERRORS) or _code(error) in _MISPLACED_CODES


def out_of_time(seconds: float) -> redis_errors.TimeoutError:
    """The error of a call that has waited for its answers for so long."""
    return redis_errors.TimeoutError(f"no answer within {max(0.0, seconds):.3g} s")


def translated(error: Exception) -> Exception:
    """The error of ours that says what a driver's exception means; other exceptions as they are."""
    if isinstance(error, LightningStoreError) or not isinstance(error, redis_errors.RedisError | OSError):
        return error
    message = _message(error)
    code, _, rest = message.partition(" ")
    if _is_refusal(error):
        return AccessDeniedError(f"Redis refused access: {message}")
    if isinstance(error, redis_errors.OutOfMemoryError) or code == "OOM":
        return StoreFullError("Redis has reached its memory limit (maxmemory); nothing was written")
    if is_transient(error) or is_distrusted(error):
        return StoreUnavailableError(f"Redis is out of reach: {message or type(error).__name__}")
    if code in ERRORS_BY_CODE:
        return ERRORS_BY_CODE[code](rest)
    return InternalStoreError(f"Redis refused a command: {message}")
