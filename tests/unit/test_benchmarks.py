"""What the benchmarks make of their measurements."""

import pytest

from benchmarks.measuring import Figure, Goal, Sample, check_once, in_turns, percentile


async def test_contenders_run_in_turns_and_the_first_round_only_warms_up():
    ran: list[str] = []

    async def run(name: str) -> int:
        ran.append(name)
        return len(ran)

    results = await in_turns(2, store=lambda: run("store"), limit=lambda: run("limit"))

    assert ran == ["store", "limit"] * 3
    assert results == {"store": [3, 5], "limit": [4, 6]}


@pytest.mark.parametrize(("came_out", "complaint"), [(["a"], "1 of 2 lost"), (["a", "b", "b"], "1 more than once")])
def test_what_is_lost_or_comes_out_twice_is_found(came_out: list[str], complaint: str):
    with pytest.raises(AssertionError, match=complaint):
        check_once(["a", "b"], came_out)


def test_what_came_out_once_in_another_order_passes():
    check_once(["a", "b"], ["b", "a"])


def test_ratios_are_taken_round_by_round():
    figure = Figure("any", "ms", Sample((2.0, 30.0, 4.0)), Sample((1.0, 10.0, 4.0)), Goal("ratio", 2.0))

    assert figure.ratio == Sample((2.0, 3.0, 1.0))
    assert figure.is_met


def test_a_goal_is_held_against_the_median():
    assert not Figure("any", "B", Sample((1.0, 9.0, 8.0)), goal=Goal("store", 7.0)).is_met
    assert Figure("any", "B", Sample((1.0,))).is_met is None


def test_percentiles_are_values_that_were_measured():
    values = [float(number) for number in range(100, 0, -1)]

    assert percentile(values, 50) == 51.0
    assert percentile(values, 99) == 100.0
    assert percentile([5.0], 99) == 5.0
