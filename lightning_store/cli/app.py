"""The command `lightning-store`: its commands, and how every error becomes one line and an exit code."""

import io
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from lightning_store.cli import (
    audit,
    capacity,
    consumers,
    demo,
    enqueue,
    examine,
    rollouts,
    serve,
    spans,
    status,
    up,
    wait,
    work,
)
from lightning_store.cli.options import SESSION, Debug
from lightning_store.cli.output import clean, note, say
from lightning_store.errors import AccessDeniedError, LightningStoreError
from lightning_store.exits import CommandError, ExitCode, exit_code_of

app = typer.Typer(
    name="lightning-store",
    help="The rollout store for agent reinforcement learning on Redis.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if sys.stdout.isatty() else None,  # in a pipe the help is plain, and faster
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - keeps `--help` fast

        try:
            say(version("lightning-store"))
        except PackageNotFoundError:
            say("unknown: not installed, run from a checkout")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Debug = False,
) -> None:
    pass


demo.add_to(app)
up.add_to(app)
serve.add_to(app)
work.add_to(app)
enqueue.add_to(app)
status.add_to(app)
rollouts.add_to(app)
spans.add_to(app)
consumers.add_to(app)
wait.add_to(app)
examine.add_to(app)
audit.add_to(app)
capacity.add_to(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: What stands behind the program's name; None takes it from the process.

    Returns:
        The exit code.
    """
    SESSION.start()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a narrow locale must not end in a traceback
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = app(given or ["--help"], prog_name="lightning-store", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except typer.Exit as end:
        return end.exit_code
    except Exception as error:  # noqa: BLE001 - the last place: whatever it is becomes one line
        return _report(error)
    return code if isinstance(code, int) else ExitCode.OK


def _report(error: Exception) -> int:
    """Say what went wrong in one line, without secrets."""
    from lightning_store.connect import redact  # noqa: PLC0415 - keeps `--help` fast

    if SESSION.debug:
        note(redact("".join(traceback.format_exception(error)).rstrip(), SESSION.url))
    message, code = _usage_error(error) or _other_error(error)
    note(f"error: {clean(redact(' '.join(message.split()), SESSION.url))}")
    return code


def _usage_error(error: Exception) -> tuple[str, ExitCode] | None:
    """Message of a mistake on the command line; None if it is another error.

    The parser's exceptions have no public home that all its versions share, but they all know how to tell themselves.
    """
    tell = getattr(error, "format_message", None)
    if tell is None:
        return None
    command = getattr(getattr(error, "ctx", None), "command_path", "lightning-store")
    return f"{str(tell()).rstrip('.')} (see `{command} --help`)", ExitCode.USAGE


def _other_error(error: Exception) -> tuple[str, ExitCode]:
    message, code = str(error) or type(error).__name__, exit_code_of(error)
    if isinstance(error, AccessDeniedError) and (SESSION.url or "").startswith(("http://", "https://")):
        from lightning_store.connect import TOKEN_VARIABLE  # noqa: PLC0415 - keeps `--help` fast

        return f"{message} (the token for a server is read from {TOKEN_VARIABLE})", code
    if isinstance(error, CommandError | LightningStoreError):
        return message, code
    return f"{type(error).__name__}: {message} (`--debug` shows the traceback)", code
