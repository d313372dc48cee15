"""`lightning-store audit`: is anything lost, double or left over?"""

from typing import TYPE_CHECKING, Annotated

import typer

from lightning_store.cli.options import AsJson, Debug, Namespace, StoreUrl, target, with_store
from lightning_store.cli.output import Table, clean, counted, duration, note, say, say_json, show
from lightning_store.exits import ExitCode

if TYPE_CHECKING:
    from lightning_store.records import AuditReport


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("audit")(audit)


def audit(
    *,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what follows from the records themselves.")] = False,
    store_url: StoreUrl = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Prove that nothing is lost, double or left over, while work goes on."""
    report = with_store(target(store_url, namespace), lambda store: store.audit(repair=repair))
    if as_json:
        say_json(report.model_dump())
    else:
        _tell(report)
    return ExitCode.NO if report.unrepaired else ExitCode.OK


def _tell(report: "AuditReport") -> None:
    for what in report.unchecked:
        note(f"not checked: {clean(what)}")
    if report.findings:
        examples = [(finding.rule, example) for finding in report.findings for example in finding.examples]
        show(
            Table(
                "findings",
                ("rule", "found", "mended"),
                [(finding.rule, finding.count, finding.repaired) for finding in report.findings],
            ),
            Table(
                "examples",
                ("rule", "id", "problem", "mended"),
                [(rule, each.id, each.problem, "yes" if each.repaired else "no") for rule, each in examples],
            ),
        )
        say()
    found = sum(finding.count for finding in report.findings)
    outcome = f"{counted(found, 'finding')}, {found - report.unrepaired} mended" if found else "all is well"
    say(f"{counted(report.rollouts, 'rollout')} in {duration(report.seconds)}: {outcome}")
