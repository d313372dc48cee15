"""`lightning-store demo`: a distributed learning loop on this machine."""

import os
from pathlib import Path
from typing import Annotated

import typer

from lightning_store.cli.options import SESSION, URL_VARIABLE, Debug, StoreUrl
from lightning_store.exits import CommandError, ExitCode


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    *,
    seed: Annotated[int, typer.Option(help="Decides tasks and moves; the same seed gives the same curve.")] = 0,
    iterations: Annotated[int, typer.Option(min=2, help="Batches to learn from.")] = 12,
    runners: Annotated[int, typer.Option(min=2, help="Runner processes.")] = 4,
    concurrency: Annotated[int, typer.Option(min=1, help="Rollouts that one runner works on at once.")] = 4,
    output: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder of the learning curve and of the logs.")
    ] = Path("demo-output"),
    plain: Annotated[bool, typer.Option("--plain", help="Lines of text also on a terminal.")] = False,
    store_url: StoreUrl = None,
    debug: Debug = False,
) -> int:
    """Watch a distributed learning loop on this machine.

    Runners and an algorithm learn a numbers game on a real store; one runner is killed midway. Uses the store that is
    named: on Redis in a namespace of its own which it removes, elsewhere if it is empty; else it starts a Redis for the
    time being.
    """
    from lightning_store.connect import check_url  # noqa: PLC0415 - keeps `--help` fast
    from lightning_store.demo.orchestrate import DemoOptions, run_demo  # noqa: PLC0415
    from lightning_store.signals import Terminated  # noqa: PLC0415

    SESSION.url = store_url or os.environ.get(URL_VARIABLE) or None
    if SESSION.url is not None:
        check_url(SESSION.url)
    try:
        options = DemoOptions(
            store_url=SESSION.url,
            seed=seed,
            iterations=iterations,
            runners=runners,
            concurrency=concurrency,
            output_dir=output,
            plain=plain,
        )
    except ValueError as error:
        raise CommandError(str(error), ExitCode.USAGE) from error
    try:
        return run_demo(options)
    except Terminated:
        return ExitCode.TERMINATED
