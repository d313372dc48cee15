"""`lightning-store doctor`: is this server fit for a store?"""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from lightning_store.cli.options import AsJson, Debug, Namespace, StoreUrl, target
from lightning_store.cli.output import clean, is_terminal, say, say_json
from lightning_store.exits import ExitCode

if TYPE_CHECKING:
    from lightning_store.doctor import Report
    from lightning_store.doctor_checks import Finding

COLOURS: Final = {"ok": "green", "warning": "yellow", "problem": "red", "unknown": "cyan"}


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as wrong too.")] = False,
    store_url: StoreUrl = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Say whether a Redis server, a SQLite file or our own server is fit for a store.

    Tells what is wrong, why it matters, and the command that mends it.
    """
    from lightning_store.doctor import examine  # noqa: PLC0415 - keeps `--help` fast

    place = target(store_url, namespace)
    report = examine(place.url, place.namespace)
    if as_json:
        say_json(report.as_json())
    else:
        _tell(report)
    is_good = report.is_healthy and not (strict and any(finding.level == "warning" for finding in report.findings))
    return ExitCode.OK if is_good else ExitCode.NO


def _tell(report: "Report") -> None:
    say(f"{clean(report.url)}, namespace {report.namespace}")
    width = max(len(finding.check) for finding in report.findings)
    for finding in report.findings:
        _tell_finding(finding, width)
    if any("CONFIG SET" in finding.mend for finding in report.findings):
        say()
        say("CONFIG SET lasts until Redis restarts; CONFIG REWRITE writes it into redis.conf.")
    counts = {level: sum(finding.level == level for finding in report.findings) for level in COLOURS}
    say()
    say(", ".join(f"{count} {level}" for level, count in counts.items() if count))


def _tell_finding(finding: "Finding", width: int) -> None:
    level = finding.level.ljust(7)
    if is_terminal():
        level = typer.style(level, fg=COLOURS[finding.level])
    say(f"{level}  {finding.check.ljust(width)}  {clean(finding.what)}")
    for name, text in (("why", finding.why), ("mend", finding.mend)):
        if text:
            say(f"         {' ' * width}  {name}: {clean(text)}")
