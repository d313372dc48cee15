"""`lightning-store rollouts`: list, show, cancel, retry, prune."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lightning_store.cli.options import (
    AsJson,
    Debug,
    Namespace,
    StoreUrl,
    each_of,
    finished_statuses,
    given_ids,
    target,
    with_store,
)
from lightning_store.cli.output import clean, counted, note, say, say_json, show
from lightning_store.exits import CommandError, ExitCode

if TYPE_CHECKING:
    from lightning_store.cli.rollout_changes import Outcome

Statuses = Annotated[
    list[str] | None, typer.Option("--status", help="Only rollouts in these statuses; repeat or use commas.")
]
Group = Annotated[str | None, typer.Option("--group", help="Only rollouts of this group.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Rollout ids; '-' reads them from stdin.")]

app = typer.Typer(help="List, show, cancel, retry and prune rollouts.")


def add_to(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="rollouts")


@app.command("list")
def list_rollouts(
    *,
    statuses: Statuses = None,
    group: Group = None,
    contains: Annotated[str | None, typer.Option(help="Text that the id contains.")] = None,
    sort_by: Annotated[str | None, typer.Option(help="A field; else the order of creation.")] = None,
    descending: Annotated[bool, typer.Option("--desc", help="Largest first; needs --sort-by.")] = False,
    limit: Annotated[int, typer.Option(min=-1, help="Most rollouts to list; -1 = all.")] = 50,
    offset: Annotated[int, typer.Option(min=0, help="Rollouts to leave out at the beginning.")] = 0,
    store_url: StoreUrl = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """List rollouts, oldest first."""
    from lightning_store.cli.rollout_views import list_table  # noqa: PLC0415 - keeps `--help` fast

    place = target(store_url, namespace)
    status_in = _status_names(statuses)
    page = with_store(
        place,
        lambda store: store.query_rollouts(
            status_in=status_in,
            group_id=group,
            rollout_id_contains=contains,
            sort_by=sort_by,
            sort_order="desc" if descending else "asc",
            limit=limit,
            offset=offset,
        ),
    )
    if as_json:
        say_json({"total": page.total, "offset": page.offset, "items": [rollout.model_dump() for rollout in page]})
        return ExitCode.OK
    show(list_table(page.items))
    if len(page) < page.total:
        note(f"{len(page)} of {page.total} rollouts; --limit and --offset show others")
    return ExitCode.OK


@app.command("show")
def show_rollout(
    *,
    rollout_id: Annotated[str, typer.Argument(metavar="ID", help="A rollout id.")],
    store_url: StoreUrl = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Show one rollout with all that happened to it."""
    from lightning_store.cli.rollout_views import read_history  # noqa: PLC0415 - keeps `--help` fast

    history = with_store(target(store_url, namespace), lambda store: read_history(store, rollout_id))
    if history is None:
        raise CommandError(f"Rollout {rollout_id} not found", ExitCode.NOT_FOUND)
    if as_json:
        say_json(history.as_json())
    else:
        show(*history.as_tables())
    return ExitCode.OK


@app.command("cancel")
def cancel(
    *,
    ids: Ids = None,
    statuses: Statuses = None,
    group: Group = None,
    store_url: StoreUrl = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Cancel unfinished rollouts.

    Those that are named, or all of a group or in some statuses.
    """
    from lightning_store.cli.rollout_changes import cancel_rollouts  # noqa: PLC0415 - keeps `--help` fast

    place, chosen, status_in = target(store_url, namespace), given_ids(ids), _status_names(statuses)
    _need_condition(ids, group, status_in)
    outcome = with_store(
        place, lambda store: cancel_rollouts(store, chosen if ids else None, group_id=group, status_in=status_in)
    )
    return _report("cancelled", outcome, as_json=as_json)


@app.command("retry")
def retry(
    *,
    ids: Ids = None,
    statuses: Statuses = None,
    group: Group = None,
    store_url: StoreUrl = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Bring failed and cancelled rollouts back.

    They go to the tail of their queue: those that are named, or all of a group or status. Each gets one more attempt
    at least, whatever its limit of attempts says.
    """
    from lightning_store.cli.rollout_changes import RESTARTABLE, retry_rollouts  # noqa: PLC0415 - keeps `--help` fast

    place, chosen, status_in = target(store_url, namespace), given_ids(ids), _status_names(statuses)
    _need_condition(ids, group, status_in)
    for status in status_in or ():
        if status not in RESTARTABLE:
            allowed = " and ".join(sorted(RESTARTABLE))
            raise CommandError(f"--status: only {allowed} rollouts can be retried, got {status!r}", ExitCode.USAGE)
    outcome = with_store(
        place, lambda store: retry_rollouts(store, chosen if ids else None, group_id=group, status_in=status_in)
    )
    return _report("requeued", outcome, as_json=as_json)


@app.command("prune")
def prune(
    *,
    older_than: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Those that finished longer ago.")
    ] = None,
    keep_latest: Annotated[
        int | None, typer.Option(min=0, metavar="NUMBER", help="All but so many that finished last.")
    ] = None,
    statuses: Annotated[
        list[str] | None, typer.Option("--status", help="Only those that ended so; repeat or use commas.")
    ] = None,
    consumed: Annotated[
        bool, typer.Option("--consumed", help="Only those that every registered consumer has passed.")
    ] = False,
    store_url: StoreUrl = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Remove finished rollouts with all that belongs to them.

    Those that are too old or too many; with --status or --consumed alone, all of these.
    """
    from lightning_store.cli.rollout_changes import prune_rollouts  # noqa: PLC0415 - keeps `--help` fast

    place, status_in = target(store_url, namespace), finished_statuses(statuses, "--status")
    if older_than is None and keep_latest is None and status_in is None and not consumed:
        raise CommandError("say what to remove: --older-than, --keep-latest, --status or --consumed", ExitCode.USAGE)
    removed = with_store(
        place, lambda store: prune_rollouts(store, older_than, keep_latest, status_in, consumed=consumed)
    )
    if as_json:
        say_json({"removed": removed})
    else:
        say(f"removed {counted(removed, 'rollout')}")
    return ExitCode.OK


def _status_names(values: list[str] | None) -> Any:
    from lightning_store.status import ROLLOUT_STATUSES  # noqa: PLC0415 - keeps `--help` fast

    return each_of(values, ROLLOUT_STATUSES, "--status")


def _need_condition(ids: list[str] | None, group: str | None, status_in: list[str] | None) -> None:
    if ids is None and group is None and status_in is None:
        raise CommandError("name rollouts, or choose them by --group or --status", ExitCode.USAGE)


def _report(verb: str, outcome: "Outcome", *, as_json: bool) -> int:
    """Tell what became of each rollout; unknown ones weigh more than refused ones."""
    if as_json:
        say_json({verb: outcome.done, "refused": outcome.refused, "unknown": outcome.unknown})
    else:
        for rollout_id, reason in outcome.refused.items():
            note(f"{clean(rollout_id)}: {reason}")
        for rollout_id in outcome.unknown:
            note(f"{clean(rollout_id)}: not found")
        say(f"{verb} {counted(len(outcome.done), 'rollout')}")
    if outcome.unknown:
        return ExitCode.NOT_FOUND
    return ExitCode.NO if outcome.refused else ExitCode.OK
