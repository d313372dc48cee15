"""`lightning-store serve`: the store over HTTP."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from lightning_store.cli.options import SESSION, AsJson, Debug, Namespace, StoreUrl, Target, target
from lightning_store.cli.output import say, say_json
from lightning_store.cli.work import LogLevel, check_access, log_at
from lightning_store.exits import CommandError, ExitCode

if TYPE_CHECKING:
    from lightning_store.http.options import ServerOptions

DEFAULT_PORT: Final = 4747
_MIB: Final = 1024 * 1024
_EXTRA: Final = "`serve` needs FastAPI and uvicorn: pip install 'lightning-store[server]'"


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve")(serve)


def serve(
    *,
    store_url: StoreUrl = None,
    namespace: Namespace = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; other than this machine's own only with tokens. 0.0.0.0 = all.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 = a free one.")] = DEFAULT_PORT,
    workers: Annotated[int, typer.Option(min=1, help="Processes; one that dies is started again.")] = 1,
    tokens_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Lines of `role token`; else LIGHTNING_STORE_TOKENS. Followed when it changes."
        ),
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate (PEM); serves HTTPS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key (PEM).")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Demand client certificates of these authorities (PEM).")
    ] = None,
    cors_origin: Annotated[
        list[str] | None, typer.Option(metavar="ORIGIN", help="Web pages of it may call; repeat it for more, * = all.")
    ] = None,
    max_body_mib: Annotated[float, typer.Option(min=0.001, help="Largest body of a request, unpacked, in MiB.")] = 64,
    max_requests: Annotated[
        int, typer.Option(min=1, help="Most requests at once that do not wait, per process.")
    ] = 512,
    max_waits: Annotated[int, typer.Option(min=1, help="Most requests at once that wait, per process.")] = 8192,
    max_connections: Annotated[int, typer.Option(min=1, help="Most connections at once, per process.")] = 10_000,
    drain_seconds: Annotated[
        float, typer.Option(min=0, help="Time for requests in flight to end after SIGTERM.")
    ] = 10.0,
    access_log: Annotated[bool, typer.Option(help="One line per request.")] = True,
    log_level: LogLevel = "INFO",
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Serve a store over HTTP, to clients of ours, of Agent Lightning, and to senders of OTLP traces.

    Runs until Ctrl-C or SIGTERM: then it accepts nothing new, ends waits, and lets requests in flight end.
    """
    try:
        from lightning_store.http.options import ServerOptions  # noqa: PLC0415 - keeps `--help` fast
    except ImportError as error:
        raise CommandError(_EXTRA, ExitCode.FAILED) from error
    body_bytes = int(max_body_mib * _MIB)
    options = ServerOptions(
        host=host,
        port=port,
        tls_cert=_text(tls_cert),
        tls_key=_text(tls_key),
        tls_client_ca=_text(tls_client_ca),
        cors_origins=tuple(cors_origin or ()),
        debug=SESSION.debug,
        access_log=access_log,
        max_body_bytes=body_bytes,
        max_buffered_bytes=max(body_bytes, ServerOptions.max_buffered_bytes),
        max_requests=max_requests,
        max_waits=max_waits,
        max_connections=max_connections,
        drain_seconds=drain_seconds,
    )
    place = target(store_url, namespace)
    level = log_at(log_level)
    return _serve(place, options, workers, tokens_file, level, _teller(place, as_json=as_json))


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _serve(
    place: Target,
    options: "ServerOptions",
    workers: int,
    tokens_file: Path | None,
    level: str,
    tell: Callable[[str], None],
) -> int:
    try:
        from lightning_store.connect import kind_of, open_store  # noqa: PLC0415 - keeps `--help` fast
        from lightning_store.http.foreground import serve_here  # noqa: PLC0415
        from lightning_store.http.listening import CannotListenError  # noqa: PLC0415
        from lightning_store.http.tokens import Tokens  # noqa: PLC0415
    except ImportError as error:
        raise CommandError(_EXTRA, ExitCode.FAILED) from error
    tokens = Tokens(file=tokens_file) if tokens_file is not None else Tokens.from_environment()
    store = open_store(place.url, place.namespace)
    try:
        # A store in memory is there once this process is, and a server makes it one for all.
        if kind_of(place.url) != "memory" and (missing := check_access(place)):
            import logging  # noqa: PLC0415 - keeps `--help` fast

            logging.getLogger("lightning_store").warning("the store is waited for: %s", missing)
        return serve_here(store, options, tokens, workers=workers, log_level=level, started=tell)
    except CannotListenError as error:
        raise CommandError(f"--host, --port: {error.strerror}", ExitCode.USAGE) from error


def _teller(place: Target, *, as_json: bool) -> Callable[[str], None]:
    """Says that the server answers, and where: once, on standard output."""

    def tell(url: str) -> None:
        if as_json:
            say_json({"url": url, "namespace": place.namespace}, one_line=True)
        else:
            say(f"serving {place} at {url}")

    return tell
