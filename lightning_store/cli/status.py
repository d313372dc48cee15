"""`lightning-store status`: queues, rollouts, workers and memory, once or again and again."""

from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from lightning_store.cli.options import AsJson, Debug, Namespace, StoreUrl, Target, opened, target
from lightning_store.cli.output import clean, drawn, is_terminal, note, say, say_json, show
from lightning_store.errors import StoreUnavailableError
from lightning_store.exits import ExitCode

if TYPE_CHECKING:
    from lightning_store.cli.snapshot import Snapshot


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status")(status)


def status(
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Again and again, until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks of --watch.")] = 2.0,
    workers: Annotated[int, typer.Option(min=-1, help="How many workers to list; -1 = all.")] = 10,
    store_url: StoreUrl = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Show queues, rollouts, workers and memory."""
    import asyncio  # noqa: PLC0415 - keeps `--help` fast

    place = target(store_url, namespace)
    if not watch:
        asyncio.run(_once(place, workers, as_json=as_json))
        return ExitCode.OK
    with suppress(asyncio.CancelledError, KeyboardInterrupt):
        asyncio.run(_watch(place, workers, interval, as_json=as_json))
    return ExitCode.OK


async def _once(place: Target, workers: int, *, as_json: bool) -> None:
    async with opened(place) as store:
        from lightning_store.cli.snapshot import take_snapshot  # noqa: PLC0415 - keeps `--help` fast

        snapshot = await take_snapshot(store, place.url, place.namespace, most_workers=workers)
    if as_json:
        say_json(snapshot.as_json())
    else:
        show(*snapshot.as_tables())


async def _watch(place: Target, workers: int, interval: float, *, as_json: bool) -> None:
    _cancel_on_signals()
    if is_terminal() and not as_json:
        await _watch_live(place, workers, interval)
        return
    async for seen in _looks(place, workers, interval):
        if isinstance(seen, StoreUnavailableError):
            note(f"waiting: {seen}")
        elif as_json:
            say_json(seen.as_json(), one_line=True)
        else:
            show(*seen.as_tables())
            say()


def _cancel_on_signals() -> None:
    """Have the signals that end a process cancel the running task, wherever it waits."""
    import asyncio  # noqa: PLC0415 - keeps `--help` fast

    from lightning_store.signals import STOP_SIGNALS  # noqa: PLC0415

    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - called by a coroutine
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


async def _watch_live(place: Target, workers: int, interval: float) -> None:
    from rich.console import Group  # noqa: PLC0415 - keeps `--help` fast
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    view = Group()
    with Live(auto_refresh=False, vertical_overflow="crop") as live:
        async for seen in _looks(place, workers, interval):
            if isinstance(seen, StoreUnavailableError):
                live.update(Group(Text(f"waiting: {clean(seen)}", style="red"), view), refresh=True)
            else:
                view = drawn(seen.as_tables())
                live.update(view, refresh=True)


async def _looks(
    place: Target, workers: int, interval: float
) -> "AsyncGenerator[Snapshot | StoreUnavailableError, None]":
    """Snapshots without end. An outage is told and waited out: who watches wants to see the end of it."""
    import asyncio  # noqa: PLC0415 - keeps `--help` fast

    from lightning_store.cli.snapshot import take_snapshot  # noqa: PLC0415

    async with opened(place) as store:
        while True:
            try:
                seen = await take_snapshot(store, place.url, place.namespace, most_workers=workers)
            except StoreUnavailableError as error:
                yield error
            else:
                yield seen
            await asyncio.sleep(interval)
