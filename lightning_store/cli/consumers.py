"""`lightning-store consumers`: who reads the completion log, and how far they have got."""

from typing import Annotated

import typer

from lightning_store.cli.options import AsJson, Debug, Namespace, StoreUrl, target, with_store
from lightning_store.cli.output import Table, clean, moment, say, say_json, show
from lightning_store.exits import CommandError, ExitCode

app = typer.Typer(help="List and forget the consumers of completions.")


def add_to(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="consumers")


@app.command("list")
def list_consumers(
    *, store_url: StoreUrl = None, namespace: Namespace = None, as_json: AsJson = False, debug: Debug = False
) -> int:
    """List the consumers, each with the cursor that it has acknowledged, and when that moved last."""
    consumers = with_store(target(store_url, namespace), lambda store: store.query_consumers())
    if as_json:
        say_json([consumer.model_dump() for consumer in consumers])
    else:
        rows = [(each.name, each.cursor, moment(each.update_time)) for each in consumers]
        show(Table("", ("consumer", "cursor", "moved"), list(rows)))
    return ExitCode.OK


@app.command("forget")
def forget(
    *,
    consumer: Annotated[str, typer.Argument(metavar="NAME", help="A consumer.")],
    store_url: StoreUrl = None,
    namespace: Namespace = None,
    debug: Debug = False,
) -> int:
    """Forget a consumer: what it has not read may be pruned and evicted then."""
    if not with_store(target(store_url, namespace), lambda store: store.forget_consumer(consumer)):
        raise CommandError(f"Consumer {consumer} not found", ExitCode.NOT_FOUND)
    say(f"forgot {clean(consumer)}")
    return ExitCode.OK
