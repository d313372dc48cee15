"""How long recoveries are taken to be."""

import pytest

from chaos.plan import Fault, Strike
from chaos.recovery import Recovery, Struck, recoveries
from chaos.report import percentile
from tests.support.chaos_story import START, Story


def struck(fault: Fault, began: float, ended: float, process: str | None = None, *, alone: bool = True) -> Struck:
    return Struck(Strike(fault, 0.0, ended - began, not alone, 0), began, ended, process, alone)


def recovered(story: Story, strike: Struck) -> Recovery:
    [found] = recoveries(story.calls, [strike])[strike.strike.fault]
    return found


@pytest.fixture
def story():
    """Two runners have each claimed; calls of a second each begin at START, START + 2, ..."""
    story = Story()
    for task, process in ((1, "runner-0.1"), (2, "runner-1.1")):
        story.claim(story.enqueue(task), process=process)
    return story


def test_work_flows_when_a_claim_and_an_end_were_acknowledged(story):
    fault = struck(Fault.FREEZE_3, story.now - 3.0, story.now)
    story.enqueue(3)
    story.report("ro-1", "at-1")
    story.call("dequeue_rollout", {"worker": "w"}, None)
    assert recovered(story, fault).flows is None
    story.claim("ro-3")

    assert recovered(story, fault).flows == pytest.approx(7.0)


def test_everybody_is_back_when_each_who_lived_on_had_an_answer(story):
    fault = struck(Fault.CUT, story.now, story.now)
    story.report("ro-1", "at-1")
    story.enqueue(3)
    story.call("renew", {"worker": "w", "attempts": []}, [], process="runner-1.1", outcome="unknown")
    assert recovered(story, fault).all_back is None
    story.renew("ro-2", "at-1")
    story.claim("ro-3", process="runner-1.1")
    story.claim("ro-3", process="runner-2.1")

    assert recovered(story, fault).all_back == pytest.approx(9.0)


def test_who_was_killed_is_not_waited_for(story):
    fault = struck(Fault.KILL_RUNNER, story.now, story.now, "runner-1.1")
    story.report("ro-1", "at-1")
    story.enqueue(3)

    assert recovered(story, fault).all_back == pytest.approx(3.0)


def test_what_the_killed_one_held_is_taken_over_when_another_has_all_of_it(story):
    story.claim(story.enqueue(3), process="runner-1.1")
    fault = struck(Fault.KILL_RUNNER, story.now, story.now, "runner-1.1")
    story.claim("ro-2")
    assert recovered(story, fault).taken_over == float("inf")
    story.claim("ro-3")

    assert recovered(story, fault).taken_over == pytest.approx(3.0)


def test_what_was_cancelled_ended_or_claimed_by_others_before_is_not_held(story):
    for task in (3, 4, 5):
        story.claim(story.enqueue(task), process="runner-1.1")
    story.claim("ro-2", process="runner-0.1")
    story.cancel("ro-3")
    story.report("ro-4", "at-1", outcome="unknown")
    fault = struck(Fault.KILL_RUNNER, story.now, story.now, "runner-1.1")
    story.cancel("ro-5")

    assert recovered(story, fault).taken_over == pytest.approx(1.0)


def test_nothing_is_taken_over_from_one_who_held_nothing(story):
    story.report("ro-2", "at-1")
    fault = struck(Fault.SUSPEND_RUNNER, story.now, story.now, "runner-1.1")

    assert recovered(story, fault).taken_over is None


def test_strikes_that_overlap_others_are_not_measured(story):
    assert recoveries(story.calls, [struck(Fault.CUT, START, START, alone=False)]) == {}


def test_percentiles_are_values_that_were_measured():
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 99) == 4.0
    assert percentile([float(number) for number in range(1, 201)], 99) == 198.0
