"""`lightning-store enqueue`: rollouts from a file of JSON lines."""

import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, cast

import typer

from lightning_store.cli.options import AsJson, Debug, Namespace, StoreUrl, each_of, one_of, target, with_store
from lightning_store.cli.output import clean, counted, note, say, say_json
from lightning_store.exits import CommandError, ExitCode

if TYPE_CHECKING:
    from io import BufferedReader

    from lightning_store.cli.tasks import BadLine
    from lightning_store.contract import LightningStore
    from lightning_store.records import EnqueueRolloutRequest


BATCH: Final = 1000
"""Rollouts per atomic step: a larger one would hold up everybody else's."""

SHARE: Final = 4
"""A step takes at most such a part of a queue that has a limit, so that it need not be empty before there is room."""

PROGRESS_SECONDS: Final = 5.0
"""Who waits for room tells so that often."""

CHUNK_BYTES: Final = 1 << 20

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
    max_queued: Annotated[
        int | None, typer.Option(min=1, help="Most rollouts that may wait in a queue; beyond it, they are refused.")
    ] = None,
    wait_for_room: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Wait so long for room, 'inf' without end; standard input is read only as there is room.",
        ),
    ] = None,
    store_url: StoreUrl = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Enqueue rollouts from a file of JSON lines.

    Each line is one task, any JSON value. One bad line stops all, unless --skip-bad is given. With --wait-for-room,
    what comes from standard input is enqueued as it comes, and a bad line stops what has not been read.
    """
    from lightning_store.cli.tasks import read_tasks  # noqa: PLC0415 - keeps `--help` fast
    from lightning_store.status import ATTEMPT_STATUSES  # noqa: PLC0415

    place = target(store_url, namespace)
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
    room = _room(max_queued, wait_for_room)
    total = Total()
    try:
        for number, lines in _chunks(file, is_stream=wait_for_room is not None):
            tasks = read_tasks(lines, defaults, whole_requests=requests, first_line=number)
            _report_bad_lines(tasks.bad_lines)
            if tasks.bad_lines and not skip_bad:
                _stop(tasks.bad_lines, total)
            total.bad_lines += tasks.bad_lines
            if tasks.requests or wait_for_room is None:
                with_store(place, partial(_enqueue, requests=tasks.requests, room=room, total=total), max_queued)
    except KeyboardInterrupt:
        # The step under way may have taken effect.
        note(f"interrupted: {counted(len(total.stored), 'rollout')} or a step more were enqueued")
        raise
    _report(total, as_json=as_json, ids=ids)
    return ExitCode.OK


@dataclass(frozen=True)
class Room:
    """How many rollouts go in one step, and for how many seconds a step waits for room."""

    batch: int = BATCH
    seconds: float = 0.0


@dataclass
class Total:
    """What has become of the lines so far."""

    stored: list[str] = field(default_factory=list[str])
    bad_lines: "list[BadLine]" = field(default_factory=list)


def _room(max_queued: int | None, wait_for_room: float | None) -> Room:
    if max_queued is None:
        if wait_for_room is not None:
            raise CommandError("--wait-for-room needs --max-queued", ExitCode.USAGE)
        return Room()
    seconds = 0.0 if wait_for_room is None else wait_for_room
    if math.isnan(seconds) or seconds < 0:
        raise CommandError(f"--wait-for-room: expected seconds of 0 or more, got {seconds}", ExitCode.USAGE)
    return Room(max(1, min(BATCH, max_queued // SHARE)), seconds)


def _check_defaults(defaults: dict[str, Any]) -> None:
    """Tell a bad option once, before it shows as an error of every line."""
    from lightning_store.cli.tasks import read_tasks  # noqa: PLC0415 - keeps `--help` fast

    for bad in read_tasks([b"null"], defaults, whole_requests=False).bad_lines:
        raise CommandError(bad.error, ExitCode.USAGE)


def _chunks(file: str, *, is_stream: bool) -> Iterator[tuple[int, list[bytes]]]:
    """The lines, with the number of the first of them: all at once, or those of a stream as they come."""
    try:
        # Not splitlines(): JSON text may hold other line separators than the newline.
        if file != "-" or not is_stream:
            yield 1, (sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()).split(b"\n")
            return
        number, rest = 1, b""
        stream = cast("BufferedReader", sys.stdin.buffer)
        while data := stream.read1(CHUNK_BYTES):
            *lines, rest = (rest + data).split(b"\n")
            yield number, lines
            number += len(lines)
        yield number, [rest]
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror or error}", ExitCode.USAGE) from error


async def _enqueue(
    store: "LightningStore", requests: "Sequence[EnqueueRolloutRequest]", room: Room, total: Total
) -> None:
    for start in range(0, len(requests), room.batch):
        try:
            await _enqueue_batch(store, requests[start : start + room.batch], room.seconds, total)
        except Exception:
            if total.stored:
                of = len(total.stored) + len(requests) - start
                note(f"{len(total.stored)} of {counted(of, 'rollout')} were enqueued before this error:")
            raise


async def _enqueue_batch(
    store: "LightningStore", batch: "Sequence[EnqueueRolloutRequest]", seconds: float, total: Total
) -> None:
    """Enqueue one step, and tell from time to time that it waits."""
    from lightning_store.errors import QueueFullError  # noqa: PLC0415 - keeps `--help` fast

    until = time.monotonic() + seconds
    while True:
        left = max(0.0, until - time.monotonic())
        try:
            rollouts = await store.enqueue_many_rollouts(batch, timeout=min(left, PROGRESS_SECONDS))
        except QueueFullError as error:
            if left <= PROGRESS_SECONDS:
                raise
            note(f"enqueued {counted(len(total.stored), 'rollout')}, waiting for room: {error}")
        else:
            total.stored += [rollout.rollout_id for rollout in rollouts]
            return


def _stop(bad_lines: "Sequence[BadLine]", total: Total) -> NoReturn:
    before = f"{counted(len(total.stored), 'rollout')} before were enqueued" if total.stored else "nothing was enqueued"
    count = counted(len(bad_lines), "bad line")
    raise CommandError(f"{count}, {before} (--skip-bad leaves them out)", ExitCode.USAGE)


def _report_bad_lines(bad_lines: "Sequence[BadLine]") -> None:
    for bad in bad_lines[:SHOWN_BAD_LINES]:
        note(f"line {bad.line}: {clean(bad.error)}")
    if len(bad_lines) > SHOWN_BAD_LINES:
        note(f"... and {len(bad_lines) - SHOWN_BAD_LINES} more bad lines, the last is {bad_lines[-1].line}")


def _report(total: Total, *, as_json: bool, ids: bool) -> None:
    if as_json:
        skipped = [{"line": bad.line, "error": bad.error} for bad in total.bad_lines]
        say_json({"enqueued": len(total.stored), "rollout_ids": total.stored, "skipped": skipped})
        return
    for rollout_id in total.stored if ids else ():
        say(rollout_id)
    left_out = f", {counted(len(total.bad_lines), 'bad line')} left out" if total.bad_lines else ""
    (note if ids else say)(f"enqueued {counted(len(total.stored), 'rollout')}{left_out}")
