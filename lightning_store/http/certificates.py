"""Follows the files of a certificate, so that a renewed one needs no restart."""

import asyncio
import logging
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lightning_store.errors import InvalidRequestError
from lightning_store.http.listening import load_certificate
from lightning_store.http.options import ServerOptions

logger = logging.getLogger("lightning_store")

LOOK_SECONDS: Final = 1.0

FileState = tuple[int, int, int] | None
"""What differs when a file was written; None = it is not there."""


def certificate_state(options: ServerOptions) -> Sequence[FileState]:
    """What differs when certificate or key were written; to be taken before they are read."""
    return [_state_of(Path(file)) for file in (options.tls_cert, options.tls_key) if file is not None]


async def follow_certificate(
    context: ssl.SSLContext | None, options: ServerOptions, known: Sequence[FileState]
) -> None:
    """Read the files again whenever they change, for as long as this is not cancelled.

    Files that do not fit each other, as between the two writes of a renewal, leave the old certificate in use.

    Args:
        context: The context to renew; None = there is nothing to follow.
        options: Where the files are.
        known: Their state before the context read them.
    """
    if context is None:
        return
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        found = certificate_state(options)
        if found == known:
            continue
        known = found
        try:
            # Tried first on a context of its own: a key that does not fit would leave this one with half of each.
            load_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), options)
            load_certificate(context, options)
        except InvalidRequestError as error:
            logger.error("%s; the certificate of before is still used", error)  # noqa: TRY400 - the message says it all
        else:
            logger.warning("the certificate was read again")


def _state_of(file: Path) -> FileState:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
