"""`lightning-store enqueue`: rollouts from a file of JSON lines."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from lightning_store.cli.options import AsJson, Debug, Namespace, RedisUrl, each_of, one_of, target, with_store
from lightning_store.cli.output import clean, counted, note, say, say_json
from lightning_store.exits import CommandError, ExitCode

if TYPE_CHECKING:
    from lightning_store.cli.tasks import BadLine, Tasks
    from lightning_store.contract import LightningStore
    from lightning_store.records import EnqueueRolloutRequest

BATCH: Final = 1000
"""Rollouts per atomic step: a larger one would hold up everybody else's."""

SHOWN_BAD_LINES: Final = 20


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("enqueue")(enqueue)


def enqueue(
    *,
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON lines, one task each; '-' is standard input.")],
    requests: Annotated[
        bool,
        typer.Option("--requests", help="Lines are objects with the fields of EnqueueRolloutRequest, not inputs."),
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Enqueue the good lines; else one bad line stops all.")
    ] = False,
    ids: Annotated[bool, typer.Option("--ids", help="Print the rollout ids, one per line.")] = False,
    queue: Annotated[str, typer.Option(help="Queue to wait in.")] = "default",
    group: Annotated[str | None, typer.Option(help="Group of these rollouts.")] = None,
    mode: Annotated[str | None, typer.Option(help="train, val or test.")] = None,
    resources_id: Annotated[str | None, typer.Option(help="Resources to use; else the latest.")] = None,
    max_attempts: Annotated[int, typer.Option(min=1, help="Most attempts, the first included.")] = 1,
    retry_on: Annotated[
        list[str] | None, typer.Option(help="Ends to retry after: failed, timeout, unresponsive; repeat or use commas.")
    ] = None,
    timeout_seconds: Annotated[float | None, typer.Option(help="Longest duration of one attempt.")] = None,
    unresponsive_seconds: Annotated[float | None, typer.Option(help="Longest silence of one attempt.")] = None,
    retry_delay_seconds: Annotated[float, typer.Option(help="Time before a retry can be claimed.")] = 0.0,
    max_worker_losses: Annotated[
        int | None, typer.Option(min=0, help="So many lost workers do not count as attempts.")
    ] = None,
    redis_url: RedisUrl = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Enqueue rollouts from a file of JSON lines.

    Each line is one task, any JSON value. One bad line stops all, unless --skip-bad is given.
    """
    from lightning_store.cli.tasks import read_tasks  # noqa: PLC0415 - keeps `--help` fast
    from lightning_store.status import ATTEMPT_STATUSES  # noqa: PLC0415

    place = target(redis_url, namespace)
    defaults: dict[str, Any] = {
        "queue": queue,
        "group_id": group,
        "mode": one_of(mode, ("train", "val", "test"), "--mode"),
        "resources_id": resources_id,
        "config": {
            "max_attempts": max_attempts,
            "retry_condition": each_of(retry_on, ATTEMPT_STATUSES, "--retry-on") or [],
            "timeout_seconds": timeout_seconds,
            "unresponsive_seconds": unresponsive_seconds,
            "retry_delay_seconds": retry_delay_seconds,
            "max_worker_losses": max_worker_losses,
        },
    }
    _check_defaults(defaults)
    tasks = read_tasks(_lines(file), defaults, whole_requests=requests)
    _report_bad_lines(tasks.bad_lines)
    if tasks.bad_lines and not skip_bad:
        count = counted(len(tasks.bad_lines), "bad line")
        raise CommandError(f"{count}, nothing was enqueued (--skip-bad leaves them out)", ExitCode.USAGE)
    stored = with_store(place, lambda store: _enqueue(store, tasks.requests))
    _report(stored, tasks, as_json=as_json, ids=ids)
    return ExitCode.OK


def _check_defaults(defaults: dict[str, Any]) -> None:
    """Tell a bad option once, before it shows as an error of every line."""
    from lightning_store.cli.tasks import read_tasks  # noqa: PLC0415 - keeps `--help` fast

    for bad in read_tasks([b"null"], defaults, whole_requests=False).bad_lines:
        raise CommandError(bad.error, ExitCode.USAGE)


def _lines(file: str) -> list[bytes]:
    try:
        # Not splitlines(): JSON text may hold other line separators than the newline.
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror or error}", ExitCode.USAGE) from error
    return data.split(b"\n")


async def _enqueue(store: "LightningStore", requests: "Sequence[EnqueueRolloutRequest]") -> list[str]:
    stored: list[str] = []
    for start in range(0, len(requests), BATCH):
        try:
            rollouts = await store.enqueue_many_rollouts(requests[start : start + BATCH])
        except Exception:
            if stored:
                note(f"{len(stored)} of {counted(len(requests), 'rollout')} were enqueued before this error:")
            raise
        stored += [rollout.rollout_id for rollout in rollouts]
    return stored


def _report_bad_lines(bad_lines: "Sequence[BadLine]") -> None:
    for bad in bad_lines[:SHOWN_BAD_LINES]:
        note(f"line {bad.line}: {clean(bad.error)}")
    if len(bad_lines) > SHOWN_BAD_LINES:
        note(f"... and {len(bad_lines) - SHOWN_BAD_LINES} more bad lines, the last is {bad_lines[-1].line}")


def _report(stored: list[str], tasks: "Tasks", *, as_json: bool, ids: bool) -> None:
    if as_json:
        skipped = [{"line": bad.line, "error": bad.error} for bad in tasks.bad_lines]
        say_json({"enqueued": len(stored), "rollout_ids": stored, "skipped": skipped})
        return
    for rollout_id in stored if ids else ():
        say(rollout_id)
    left_out = f", {counted(len(tasks.bad_lines), 'bad line')} left out" if tasks.bad_lines else ""
    (note if ids else say)(f"enqueued {counted(len(stored), 'rollout')}{left_out}")
