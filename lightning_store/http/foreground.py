"""A server that is all its process does, as `lightning-store serve` runs it."""

import signal
from collections.abc import Callable

from lightning_store.contract import LightningStore
from lightning_store.exits import ExitCode
from lightning_store.http.listening import check_exposure, listen, tls_context
from lightning_store.http.options import ServerOptions
from lightning_store.http.processes import main_process
from lightning_store.http.server import check_shareable
from lightning_store.http.serving import Plan, Service, run_on_loop
from lightning_store.http.tokens import Tokens
from lightning_store.signals import end_without_sweep, stop_on_signals


def serve_here(
    store: LightningStore,
    options: ServerOptions,
    tokens: Tokens | None,
    *,
    workers: int,
    log_level: str,
    started: Callable[[str], None],
) -> int:
    """Serve until SIGTERM or SIGINT, which drain; a second one ends the process, or the processes, at once.

    Args:
        store: The store; only this server uses it.
        options: Where and how.
        tokens: Who may call; None = this machine's programs.
        workers: Number of processes; 1 = this one.
        log_level: Level of the log of processes that are started.
        started: Told the URL once requests are answered.

    Returns:
        The exit code; 130 or 143 after a second signal.

    Raises:
        InvalidRequestError: What is asked for cannot be.
        CannotListenError: The address cannot be listened on.
    """
    end_without_sweep()
    check_exposure(options, has_tokens=tokens is not None)
    if workers > 1:
        check_shareable(store, "workers")
    tls_context(options)  # told here, once, and not by each process
    listener = listen(options)
    url = options.url_at(listener.getsockname()[1])
    plan = Plan(store, options, tokens)
    # Files of tokens and certificates are followed anyway, but who is used to saying so must not end the server by it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if workers > 1:
        return main_process(plan, listener, workers, log_level, lambda: started(url))
    service = Service(plan, listener, lambda: started(url))
    with stop_on_signals(service.stop):
        run_on_loop(service)
    return ExitCode.OK
