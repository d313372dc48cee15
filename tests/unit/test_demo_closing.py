"""The closing figures, counted on a store in which everything that can go wrong went wrong."""

import dataclasses

import pytest

from lightning_store import InMemoryLightningStore
from lightning_store.demo.accident import Accident, count_run_again
from lightning_store.demo.closing import Figures, count
from lightning_store.demo.policy import Policy
from lightning_store.demo.training import BatchReport, TrainingResult, decode, encode
from lightning_store.records import RolloutConfig
from tests.support.clock import SettableClock
from tests.support.factories import claim, requests_for

GOOD = Figures(enqueued=100, succeeded=100, retried=3, lost=0, twice=0, seconds=10.0, first=0.2, last=0.5, versions=13)
CONFIG = RolloutConfig(max_attempts=3, retry_condition=["unresponsive"])


def result_of(rollouts):
    return TrainingResult(Policy(), versions=2, rollouts=rollouts, curve=[0.1], first=0.2, last=0.4)


def test_good_figures_raise_no_complaint():
    assert GOOD.complaints() == []
    assert GOOD.rise == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"lost": 1}, "1 rollouts were lost"),
        ({"twice": 2}, "2 rollouts finished twice"),
        ({"succeeded": 99}, "only 99 of 100 rollouts succeeded"),
        ({"retried": 0}, "no rollout was retried after the kill"),
        ({"last": 0.29}, "the mean reward rose to 1.45 times only, not 1.5"),
        ({"first": 0.0}, "the mean reward rose to 0.00 times only, not 1.5"),
    ],
)
def test_each_thing_that_is_wrong_is_told(change, complaint):
    assert dataclasses.replace(GOOD, **change).complaints() == [complaint]


def test_figures_are_told_one_a_line():
    lines = GOOD.lines()
    assert "rollouts enqueued           100" in lines
    assert "rollouts per second         10.0" in lines
    assert lines[-1].endswith("0.500  (version 13: 2.50 times the first)")


async def test_rollouts_are_counted_in_the_store():
    clock = SettableClock()
    store = InMemoryLightningStore(clock=clock)
    rollouts = await store.enqueue_many_rollouts(requests_for(range(4), config=CONFIG))
    held = await claim(store, "worker-1", lease_seconds=2)
    accident = Accident("runner-1", 1, (held.rollout_id,), frozenset({"worker-1"}))
    assert await count_run_again(store, accident) == 0
    clock.advance(3)
    for _ in range(4):
        taken = await claim(store, "worker-2", lease_seconds=2)
        await store.update_attempt(taken.rollout_id, "latest", status="succeeded")
    assert await count_run_again(store, accident) == 1
    again = rollouts[1].rollout_id
    await store.update_rollout(again, status="running")
    clock.advance(1)
    await store.update_rollout(again, status="succeeded")

    figures = await count(store, result_of(5), accident)

    assert figures == Figures(
        enqueued=5, succeeded=4, retried=1, lost=1, twice=1, seconds=4.0, first=0.2, last=0.4, versions=2
    )


async def test_a_retry_that_has_nothing_to_do_with_the_kill_does_not_count():
    clock = SettableClock()
    store = InMemoryLightningStore(clock=clock)
    await store.enqueue_many_rollouts(requests_for([1], config=CONFIG))
    held = await claim(store, "worker-1", lease_seconds=2)
    clock.advance(3)
    await claim(store, "worker-2")
    accident = Accident("runner-3", 3, (held.rollout_id,), frozenset({"worker-3"}))
    assert (await count(store, result_of(1), accident)).retried == 0
    assert (await count(store, result_of(1), None)).retried == 0


@pytest.mark.parametrize("message", [BatchReport("finished", 3, "train", 128, 0.25), result_of(7)])
def test_what_the_algorithm_tells_survives_the_pipe(message):
    assert decode(encode(message)) == message
