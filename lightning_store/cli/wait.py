"""`lightning-store wait`: until rollouts have finished."""

from collections.abc import Sequence
from typing import Annotated, Final

import typer

from lightning_store.cli.options import AsJson, Debug, Namespace, StoreUrl, given_ids, target, with_store
from lightning_store.cli.output import clean, note, say, say_json
from lightning_store.exits import CommandError, ExitCode

SHOWN: Final = 20


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("wait")(wait)


def wait(
    *,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Rollout ids; '-' reads them from stdin.")
    ] = None,
    group: Annotated[str | None, typer.Option(help="All rollouts that this group has now.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All rollouts that are there now.")] = False,
    timeout: Annotated[float | None, typer.Option(min=0, help="Most seconds to wait; else without end.")] = None,
    any_end: Annotated[
        bool, typer.Option("--any-end", help="Exit 0 when all have finished, also those that failed.")
    ] = False,
    store_url: StoreUrl = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Wait until rollouts have finished.

    Exit code 1 when one did not succeed, or did not finish in time.
    """
    from lightning_store.cli.waiting import wait_for  # noqa: PLC0415 - keeps `--help` fast

    if [bool(ids), group is not None, everything].count(True) != 1:
        raise CommandError("name rollouts, or choose them by --group or --all, one of the three", ExitCode.USAGE)
    place, chosen = target(store_url, namespace), given_ids(ids)
    outcome = with_store(place, lambda store: wait_for(store, chosen if ids else None, group=group, timeout=timeout))
    if as_json:
        say_json(outcome.as_json())
    else:
        _tell([(rollout_id, "not found") for rollout_id in outcome.unknown])
        _tell(outcome.without_success)
        say(outcome.summary())
    if outcome.unknown:
        return ExitCode.NOT_FOUND
    is_good = not outcome.unfinished and (any_end or not outcome.without_success)
    return ExitCode.OK if is_good else ExitCode.NO


def _tell(failures: Sequence[tuple[str, str]]) -> None:
    """The first of the rollouts that did not succeed, with what became of them."""
    for rollout_id, what in failures[:SHOWN]:
        note(f"{clean(rollout_id)}: {what}")
    if len(failures) > SHOWN:
        note(f"... and {len(failures) - SHOWN} more (--json has all)")
