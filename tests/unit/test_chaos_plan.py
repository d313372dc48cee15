"""The plan of faults: a pure function of the seed in which each fault strikes."""

from itertools import pairwise

import pytest

from chaos.plan import Fault, course, plan

COURSES = {
    "always": course("always", 330.0),
    "everysec": course("everysec", 110.0),
    "short": course("always", 0.0, is_short=True),
}
SEEDS = range(30)
EVERY = pytest.mark.parametrize("name", COURSES)


@EVERY
def test_same_seed_gives_the_same_plan_and_another_another(name):
    plans = [plan(seed, COURSES[name]) for seed in SEEDS]

    assert plans == [plan(seed, COURSES[name]) for seed in SEEDS]
    assert all(one != other for one, other in pairwise(plans))


@EVERY
def test_every_fault_strikes_by_itself_at_least_once(name):
    for seed in SEEDS:
        strikes = plan(seed, COURSES[name])
        alone = {strike.fault for strike, after in pairwise([*strikes, None])
                 if not strike.overlaps and not (after and after.overlaps)}  # fmt: skip
        assert alone == set(COURSES[name].natures)


def test_all_faults_of_the_issue_are_there():
    assert set(COURSES["always"].natures) == set(Fault) - {Fault.POWER_CUT}
    assert {Fault.POWER_CUT, Fault.KILL_REDIS} <= set(COURSES["everysec"].natures)
    assert set(Fault) - set(COURSES["short"].natures) == {Fault.POWER_CUT, Fault.FREEZE_10, Fault.FREEZE_60}


@EVERY
def test_time_is_filled_and_not_overrun(name):
    for seed in SEEDS:
        seconds = sum(strike.gap_seconds + strike.seconds for strike in plan(seed, COURSES[name]))
        assert 0.8 * COURSES[name].seconds <= seconds <= COURSES[name].seconds + 60


@EVERY
def test_who_is_suspended_is_so_for_longer_than_the_lease(name):
    strikes = [strike for seed in SEEDS for strike in plan(seed, COURSES[name])]
    suspended = [strike for strike in strikes if strike.fault in {Fault.SUSPEND_RUNNER, Fault.SUSPEND_DAEMON}]

    assert min(strike.seconds for strike in suspended) > COURSES[name].lease_seconds


def test_only_faults_with_different_victims_overlap_and_never_three():
    natures = COURSES["always"].natures
    overlapping = 0
    for seed in SEEDS:
        strikes = plan(seed, COURSES["always"])
        for before, strike in pairwise(strikes):
            if strike.overlaps:
                overlapping += 1
                assert natures[before.fault].victim != natures[strike.fault].victim
                assert not before.overlaps
    assert overlapping > len(SEEDS)
