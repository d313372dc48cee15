"""One of the processes of a server; started by the supervisor with the number of a pipe, and ended when that closes."""

import logging
import os
import pickle
import socket
import sys
from typing import BinaryIO, Final

from lightning_store.errors import LightningStoreError
from lightning_store.exits import ExitCode, exit_code_of
from lightning_store.signals import end_without_sweep
from lightning_store.supervision import CHILD_LOG_FORMAT, end_with_parent

ORPHAN_SECONDS: Final = 10.0
"""After the drain, when the parent has gone: then this process ends whatever it does."""


def main() -> int:
    """Serve as the parent says, until a signal, or until the parent is gone."""
    end_without_sweep()
    lifeline = int(sys.argv[1])
    os.set_inheritable(lifeline, False)  # what the store may start must not be bound to it
    with os.fdopen(os.dup(lifeline), "rb", buffering=0) as pipe:
        try:
            return _serve(pipe, lifeline)
        except EOFError:
            return ExitCode.OK  # the parent has gone already
        except LightningStoreError as error:
            sys.stderr.write(f"error: {error}\n")
            return exit_code_of(error)


def _serve(pipe: BinaryIO, lifeline: int) -> int:
    sys.path[:] = pickle.load(pipe)  # noqa: S301 - only our parent can write into the pipe
    from lightning_store.http.processes import READY, Order  # noqa: PLC0415 - found by the path above
    from lightning_store.http.serving import Service, run_on_loop  # noqa: PLC0415
    from lightning_store.signals import stop_on_signals  # noqa: PLC0415

    order: Order = pickle.load(pipe)  # noqa: S301 - see above
    if order.log_level is not None:
        logging.basicConfig(level=order.log_level, format=CHILD_LOG_FORMAT)
    listener = socket.socket(fileno=order.descriptor)
    listener.setblocking(False)
    service = Service(order.plan, listener, lambda: _report(READY))
    with stop_on_signals(service.stop):
        end_with_parent(lifeline, service.stop, order.plan.options.drain_seconds + ORPHAN_SECONDS)
        run_on_loop(service)
    return ExitCode.OK


def _report(word: bytes) -> None:
    os.write(sys.stdout.fileno(), word)


if __name__ == "__main__":
    sys.exit(main())
