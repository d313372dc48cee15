"""Ids of an operation that may be sent again."""

import asyncio

from lightning_store.clock import RandomIds
from lightning_store.repeats import repeatable

IDS = RandomIds()


def _drawn() -> list[str]:
    return [IDS.rollout_id(), IDS.attempt_id(), IDS.resources_id(), IDS.token(), IDS.token()]


def test_repeat_draws_what_the_first_try_drew() -> None:
    with repeatable("one"):
        first = _drawn()
    with repeatable("one"):
        assert _drawn() == first
    assert len(set(first)) == len(first)
    assert [len(id) for id in first] == [27, 15, 15, 32, 32]


def test_other_operations_draw_others() -> None:
    with repeatable("one"):
        first = _drawn()
    with repeatable("two"):
        assert not set(_drawn()) & set(first)
    assert not set(_drawn()) & set(first)
    with repeatable("one"), repeatable(None):
        assert not set(_drawn()) & set(first)


async def test_operations_of_other_tasks_are_not_concerned() -> None:
    async def other() -> list[str]:
        await asyncio.sleep(0)
        with repeatable("other"):
            return _drawn()

    with repeatable("one"):
        first = _drawn()
    with repeatable("one"):
        begun = [IDS.rollout_id(), IDS.attempt_id()]
        await other()
        assert [*begun, IDS.resources_id(), IDS.token(), IDS.token()] == first
