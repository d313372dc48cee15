"""`lightning-store spans`: the spans of a rollout as a tree with durations."""

from typing import Annotated

import typer

from lightning_store.cli.options import AsJson, Debug, Namespace, StoreUrl, target, with_store
from lightning_store.cli.output import note, say, say_json
from lightning_store.exits import CommandError, ExitCode


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("spans")(spans)


def spans(
    *,
    rollout_id: Annotated[str, typer.Argument(metavar="ID", help="A rollout id.")],
    attempt: Annotated[str | None, typer.Option(help="Only this attempt's; 'latest' = the latest attempt's.")] = None,
    attributes: Annotated[bool, typer.Option("--attributes", help="Show attributes and events too.")] = False,
    store_url: StoreUrl = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Show the spans of a rollout as a tree."""
    from lightning_store.cli.span_tree import read_spans, tree_lines  # noqa: PLC0415 - keeps `--help` fast

    found = with_store(target(store_url, namespace), lambda store: read_spans(store, rollout_id, attempt))
    if found is None:
        raise CommandError(f"Rollout {rollout_id} not found", ExitCode.NOT_FOUND)
    if as_json:
        say_json([span.model_dump() for span in found])
        return ExitCode.OK
    if not found:
        note("no spans")
    for line in tree_lines(found, with_attributes=attributes):
        say(line)
    return ExitCode.OK
