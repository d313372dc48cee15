"""`lightning-store up`: a Redis for people without one, in the foreground."""

import os
import re
import shlex
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from lightning_store.cli.options import URL_VARIABLE, Debug, one_of
from lightning_store.cli.output import say
from lightning_store.exits import CommandError, ExitCode

LOOK_SECONDS: Final = 0.5
_SIZE: Final = re.compile(r"\d+([kmg]b?)?", re.IGNORECASE)
URL_FILE: Final = "url"


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("up")(up)


def up(
    *,
    data: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder of the data; kept, and found again by the next start.")
    ] = Path(".lightning-store"),
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port on 127.0.0.1; else a free one.")] = None,
    unix_socket: Annotated[bool, typer.Option("--unix-socket", help="A unix socket instead of a port.")] = False,
    appendfsync: Annotated[
        str,
        typer.Option(help="everysec: the last second may be lost if the machine dies; always: nothing, but slower."),
    ] = "everysec",
    maxmemory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="When this is full, new work is refused; such as 2gb.")
    ] = None,
    debug: Debug = False,
) -> int:
    """Run a Redis in the foreground.

    It is for this machine only, and runs until Ctrl-C or SIGTERM. The URL, which has the password, is written into
    the file `url` in the data folder; only you can read it.
    """
    from lightning_store.embedded import EmbeddedRedis  # noqa: PLC0415 - keeps `--help` fast
    from lightning_store.signals import stop_on_signals  # noqa: PLC0415

    fsync = one_of(appendfsync, ("everysec", "always"), "--appendfsync")
    if maxmemory is not None and not _SIZE.fullmatch(maxmemory):
        raise CommandError(f"--maxmemory: expected a size such as 512mb or 2gb, got {maxmemory!r}", ExitCode.USAGE)
    settings = {} if maxmemory is None else {"maxmemory": maxmemory}
    try:
        server = EmbeddedRedis(data, appendfsync=fsync, port=port, unix_socket=unix_socket, settings=settings)
    except ValueError as error:
        raise CommandError(str(error), ExitCode.USAGE) from error
    stop = threading.Event()
    with stop_on_signals(stop.set), server, _url_file(data.absolute() / URL_FILE, server.url) as file:
        binary = server.binary
        say(f"{binary.name.capitalize()} {binary.version_text} is running, its data is in {data}. In another terminal:")
        say()
        say(f'  export {URL_VARIABLE}="$(cat {shlex.quote(str(file))})"')
        say()
        say("Ctrl-C stops it.")
        while not stop.wait(LOOK_SECONDS):
            server.check()
        say("stopping")
    return ExitCode.OK


@contextmanager
def _url_file(path: Path, url: str) -> Generator[Path, None, None]:
    """A file with the URL that only its owner can read; it goes when the server goes."""
    unfinished = path.with_name(f".{path.name}-{os.urandom(4).hex()}")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(url + "\n")
    unfinished.rename(path)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
