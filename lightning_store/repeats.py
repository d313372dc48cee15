"""The token of an operation that may be sent again, so that everything a store draws for it comes out the same.

A server sets the token that a client sent along; the store behind it then makes the same ids and tokens for the repeat
as for the first try, and its backend answers the repeat as it answered the first, whichever process carries it out.
"""

import hashlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import Final, Protocol, runtime_checkable

_SEED: Final[ContextVar[Iterator[str] | None]] = ContextVar("lightning_store_operation", default=None)


@runtime_checkable
class TakesBack(Protocol):
    """A store that can end a claim that another process has begun, or has made."""

    async def take_back(self) -> None:
        """Hand back what the dequeue with the present operation's token has claimed, and let it claim nothing later.

        What cannot be handed back is logged; its lease has to end it.
        """
        ...


@contextmanager
def repeatable(token: str | None) -> Generator[None, None, None]:
    """While this lasts, ids and tokens of this task follow from `token`; None = they are drawn at random."""
    reset = _SEED.set(None if token is None else _digests(token))
    try:
        yield
    finally:
        _SEED.reset(reset)


def next_digest() -> str | None:
    """64 hex digits that follow from the present operation's token, others at each call; None without a token."""
    digests = _SEED.get()
    return None if digests is None else next(digests)


def _digests(token: str) -> Iterator[str]:
    return (hashlib.sha256(f"{token}:{number}".encode()).hexdigest() for number in count())
