"""What an audit has found so far, each thing once, and the report of it."""

from dataclasses import dataclass, field
from typing import Final, get_args

from lightning_store.records import AuditExample, AuditFinding, AuditReport, AuditRule

MOST_EXAMPLES: Final = 10
"""So many of the things that break a rule are in the report."""


@dataclass
class Findings:
    """Collects what breaks the rules.

    Attributes:
        mended: How often something was mended.
    """

    mended: int = 0
    _found: dict[AuditRule, dict[tuple[str, str], bool]] = field(
        default_factory=lambda: {rule: {} for rule in get_args(AuditRule)}
    )

    def add(self, rule: AuditRule, id: str, problem: str, *, repaired: bool = False) -> None:
        """Note something; what is found once more is not counted again, and may be mended then."""
        of_rule = self._found[rule]
        of_rule[id, problem] = of_rule.get((id, problem), False) or repaired
        self.mended += repaired

    def report(self, *, rollouts: int, seconds: float, unchecked: list[str] | None = None) -> AuditReport:
        """All of it; the arguments are as in the report."""
        findings = [_finding(rule, found) for rule, found in self._found.items() if found]
        return AuditReport(findings=findings, rollouts=rollouts, seconds=seconds, unchecked=unchecked or [])


def _finding(rule: AuditRule, found: dict[tuple[str, str], bool]) -> AuditFinding:
    left_first = sorted(found.items(), key=lambda item: item[1])
    return AuditFinding(
        rule=rule,
        count=len(found),
        repaired=sum(found.values()),
        examples=[
            AuditExample(id=id, problem=problem, repaired=repaired)
            for (id, problem), repaired in left_first[:MOST_EXAMPLES]
        ],
    )
