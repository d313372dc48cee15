"""`lightning-store capacity`: what a workload asks of Redis."""

from typing import TYPE_CHECKING, Annotated

import typer

from lightning_store.cli.options import AsJson, Debug
from lightning_store.cli.output import NOTHING, Table, say, say_json, show, size
from lightning_store.exits import ExitCode

if TYPE_CHECKING:
    from lightning_store.capacity import Estimate


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("capacity")(capacity)


def capacity(
    *,
    rollouts_per_second: Annotated[float, typer.Option(help="Rollouts that are enqueued and finished per second.")],
    spans_per_rollout: Annotated[float, typer.Option(help="Spans of each.")],
    span_bytes: Annotated[float, typer.Option(help="Bytes of a span as JSON; over 2 kB, compressed.")],
    input_bytes: Annotated[float, typer.Option(help="Bytes of the input of a rollout as JSON.")] = 200,
    keep_seconds: Annotated[
        float | None, typer.Option(help="How long finished rollouts are kept; an hour, unless --keep is given.")
    ] = None,
    keep: Annotated[int | None, typer.Option(help="How many finished rollouts are kept.")] = None,
    queued: Annotated[int, typer.Option(help="How many rollouts wait at most.")] = 0,
    hosts: Annotated[int, typer.Option(help="Hosts with runners.")] = 1,
    processes: Annotated[int, typer.Option(help="Runner processes per host.")] = 1,
    concurrency: Annotated[int, typer.Option(help="Rollouts at once, per process.")] = 1,
    spans_per_call: Annotated[
        float, typer.Option(help="Spans sent together: those of an attempt that end within 0.2 s.")
    ] = 1,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Reckon what a workload asks of Redis, and whether one carries it; nothing is connected to."""
    from lightning_store.capacity import Workload, estimate  # noqa: PLC0415 - keeps `--help` fast

    found = estimate(
        Workload(
            rollouts_per_second=rollouts_per_second,
            spans_per_rollout=spans_per_rollout,
            span_bytes=span_bytes,
            input_bytes=input_bytes,
            keep_seconds=keep_seconds,
            keep=keep,
            queued=queued,
            hosts=hosts,
            processes=processes,
            concurrency=concurrency,
            spans_per_call=spans_per_call,
        )
    )
    if as_json:
        say_json(_as_json(found))
    else:
        show(*_tables(found))
        say()
        for line in _words(found):
            say(line)
    return ExitCode.OK


def _tables(found: "Estimate") -> list[Table]:
    memory = [
        (part.name, f"{part.number:,.0f}", size(round(part.bytes_each)), _size(part.bytes)) for part in found.memory
    ]
    memory.append(("total", NOTHING, NOTHING, _size(found.bytes)))
    loads = [(load.name, f"{load.per_second:,.1f}", _share(load.core)) for load in found.loads]
    loads.append(("total", NOTHING, _share(found.core)))
    return [
        Table("memory", ("part", "count", "each", "all"), list(memory)),
        Table("processor", ("what", "per second", "of a core"), list(loads)),
        Table(
            "in all",
            (),
            [
                ("maxmemory, at least", _size(found.maxmemory)),
                ("commands per second", f"{found.commands:,.0f}"),
                ("network from clients", f"{_size(found.bytes_in)}/s"),
                ("network to clients", f"{_size(found.bytes_out)}/s"),
                ("connections of runners", f"{found.workload.connections:,}"),
            ],
        ),
    ]


def _words(found: "Estimate") -> list[str]:
    """The verdict, and what has to be set besides."""
    from lightning_store.capacity import ENOUGH  # noqa: PLC0415 - keeps `--help` fast
    from lightning_store.measured_costs import MAXCLIENTS  # noqa: PLC0415

    share, most = _share(found.core), _share(ENOUGH)
    if found.verdict == "enough":
        lines = [f"one Redis is enough: {share} of a core, under {most}"]
    else:
        spread = found.cluster
        lines = [
            f"one Redis is {found.verdict}: {share} of a core, {most} is well",
            f"a Cluster needs {spread.primaries} primaries, and the work in {spread.namespaces} namespaces or more, "
            "whose control planes lie on different primaries",
        ]
    if found.workload.connections > MAXCLIENTS:
        lines.append(f"raise maxclients ({MAXCLIENTS:,} by default) and the limit of open files of Redis")
    return lines


def _as_json(found: "Estimate") -> dict[str, object]:
    return {
        "memory": {part.name: {"number": part.number, "bytes": part.bytes} for part in found.memory},
        "processor": {load.name: {"per_second": load.per_second, "core": load.core} for load in found.loads},
        "memory_bytes": found.bytes,
        "maxmemory_bytes": found.maxmemory,
        "core": found.core,
        "commands_per_second": found.commands,
        "network_in_bytes_per_second": found.bytes_in,
        "network_out_bytes_per_second": found.bytes_out,
        "connections": found.workload.connections,
        "verdict": found.verdict,
        "cluster": {"primaries": found.cluster.primaries, "namespaces": found.cluster.namespaces},
    }


def _size(count: float) -> str:
    return size(round(count))


def _share(core: float) -> str:
    return f"{100 * core:.1f} %" if 100 * core % 1 else f"{100 * core:.0f} %"
