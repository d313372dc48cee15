"""Whether a store can be reached, whatever its kind, and the figures of what it lies on."""

import asyncio
import os
from typing import Final

from lightning_store.connect import check_url, kind_of, open_client, open_store, redact, sqlite_path
from lightning_store.errors import InvalidRequestError, StoreUnavailableError
from lightning_store.serverinfo import Memory, check_server, read_memory_and_time

ANSWER_SECONDS: Final = 10.0


def check_reachable(url: str) -> None:
    """See that a store answers and lets us in, so that a wrong URL is told at once. Not to be called on an event loop.

    Raises:
        InvalidRequestError: The URL cannot be used, or names a store that nobody else could see.
        StoreUnavailableError: It cannot be reached, or is still loading.
        AccessDeniedError: It does not let us in.
        SchemaMismatchError: The file is no store, or one of another version.
    """
    check_url(url)
    kind = kind_of(url)
    if kind == "redis":
        check_server(url)
    elif kind == "memory":
        raise InvalidRequestError("memory:// is a store of one process, empty and gone with it; expected another URL")
    else:
        if kind == "sqlite":
            _check_folder(url)
        asyncio.run(_ask(url))


def _check_folder(url: str) -> None:
    folder = sqlite_path(url).absolute().parent
    if not folder.is_dir():
        raise StoreUnavailableError(f"there is no folder {folder} for the file of {url}")
    if not os.access(folder, os.W_OK):
        raise StoreUnavailableError(f"nothing can be written into {folder}, where {url} is")


async def _ask(url: str) -> None:
    # Told at once instead of after retries.
    store = open_client(url, retry_seconds=0) if kind_of(url) == "http" else open_store(url)
    try:
        await asyncio.wait_for(store.statistics(), ANSWER_SECONDS)
    except asyncio.TimeoutError:
        raise StoreUnavailableError(f"no answer from {redact(url)} within {ANSWER_SECONDS:g} s") from None
    finally:
        await store.close()


def read_place(url: str) -> tuple[Memory | None, float | None]:
    """Memory of a Redis server, and its time in seconds since the epoch; None for what cannot be told.

    Raises:
        StoreUnavailableError: A server cannot be reached.
    """
    return read_memory_and_time(url) if kind_of(url) == "redis" else (None, None)
