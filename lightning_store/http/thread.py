"""A server on a thread of this process."""

import concurrent.futures
import os
import socket
import threading
from contextlib import suppress
from typing import Final

from lightning_store.errors import InternalStoreError
from lightning_store.http.serving import Plan, Service, run_on_loop

ABANDON_SECONDS: Final = 3.0
"""How long the interpreter waits at its end for a server that nobody has stopped."""


class ServerThread:
    """One run of a server, on a daemon thread with an event loop of its own.

    Attributes:
        started: Done once requests are answered; fails when it could not start.
    """

    def __init__(self, plan: Plan, listener: socket.socket) -> None:
        """Start it.

        Args:
            plan: What is served.
            listener: Where; closed at the end.

        Raises:
            InvalidRequestError: The certificate cannot be read.
        """
        self.started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.started.set_running_or_notify_cancel()  # who waits for it may be cancelled, which must not end the start
        self._listener = listener
        self._service = Service(plan, listener, lambda: self.started.set_result(None))
        self._thread = threading.Thread(target=self._run, name="lightning-store-server", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Drain, and wait for the end."""
        self._service.stop()
        self._join(None)

    def abandon(self) -> None:
        """End soon: nobody needs it any more."""
        self._service.stop_at_once()
        self._join(ABANDON_SECONDS)

    def leave_to_parent(self) -> None:
        """In a forked child: let go of the parent's sockets, or their clients would never see them closed.

        Nothing but the descriptors is touched: the loop and its selector are shared with the parent.
        """
        transports = [connection.transport for connection in list(self._service.server_state.connections)]
        sockets = [transport.get_extra_info("socket") for transport in transports]
        for descriptor in {self._listener.detach(), *(found.fileno() for found in sockets if found is not None)}:
            with suppress(OSError):  # it was closed meanwhile
                os.close(descriptor)

    def _join(self, seconds: float | None) -> None:
        if threading.current_thread() is not self._thread:
            self._thread.join(seconds)

    def _run(self) -> None:
        try:
            run_on_loop(self._service)
        except BaseException as error:
            if self.started.done():
                raise
            self.started.set_exception(error)
        else:
            if not self.started.done():
                self.started.set_exception(InternalStoreError("the server was stopped before it had started"))
