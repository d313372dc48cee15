"""The page of the chaos report tells what was found, and nothing of the machine."""

from collections import Counter

from chaos.findings import Fate, Finding, Judgement, Verdict
from chaos.plan import Fault, Strike
from chaos.recovery import Recovery, Struck
from chaos.report import Run, render
from lightning_store.records import AuditExample, AuditFinding, AuditReport
from tests.support.chaos_story import sound_story

STRIKE = Strike(Fault.POWER_CUT, 1.0, 0.0, False, 1)


def make_run(**changes):
    fields = {
        "fsync": "everysec",
        "seed": 5,
        "lease_seconds": 3.0,
        "seconds": 100.0,
        "redis_version": "7.0.15",
        "calls": sound_story().calls,
        "struck": [Struck(STRIKE, 1.0, 1.5), Struck(STRIKE, 3.0, 3.5, alone=False)],
        "recoveries": {Fault.POWER_CUT: [Recovery(0.25, 1.5), Recovery(0.75, None, 4.0)]},
        "judgement": Judgement(
            fates=Counter({Fate.FINISHED: 1234}), excused=Counter({(Fault.POWER_CUT, "claims"): 3}),
            longest_excused_seconds=0.5,
        ),
        "audit": AuditReport(findings=[], rollouts=1234, seconds=1.0),
        "invariants": [],
        "incidents": [],
    }  # fmt: skip
    return Run(**(fields | changes))


def test_page_has_each_figure_and_says_that_it_is_generated():
    page = render([make_run()], "make chaos")

    assert "Written by `make chaos`; not to be edited." in page
    for row in (
        "| lost | 0 |",
        "| findings of `store.audit()` on 1,234 rollouts | 0 |",
        f"| {Fate.FINISHED.value} | 1,234 |",
        f"| {Fault.POWER_CUT.value} | claims | 3 |",
        f"| {Fault.POWER_CUT.value} | 2 | 2 | 0.25 | 0.75 | 1.50 | 1.50 | 4.00 | 4.00 |",
        "| `enqueue_many_rollouts` | 3 | 1 | 2 |",
    ):
        assert row in page
    assert "Seed 5" in page
    assert "Failed" not in page


def test_everything_that_is_wrong_is_a_problem_and_named():
    example = AuditExample(id="ro-2", problem="is in no queue")
    run = make_run(
        judgement=Judgement([Finding(Verdict.LOST, "ro-1", "not there"), Finding(Verdict.LOST, "ro-1", "at all")]),
        audit=AuditReport(
            findings=[AuditFinding(rule="queue", count=2, examples=[example])],
            rollouts=5, seconds=1.0, unchecked=["spans: no time"],
        ),
        invariants=["live_counters_are_true: 1"],
        incidents=["runner-1.1 ended with 1: no word"],
    )  # fmt: skip
    page = render([run], "make chaos")

    assert len(run.problems) == 6
    assert all(problem in page for problem in run.problems)
    assert "| lost | 1 |" in page
    assert "| findings of `store.audit()` on 5 rollouts | 3 |" in page
    assert make_run().problems == []
