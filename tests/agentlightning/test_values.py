"""Contract, section 1.4: free-form values survive, over upstream's store and ours; `UNSET` is told from None."""

import dataclasses
import math
import pickle

import agentlightning as al
import pytest
from agentlightning.store.base import UNSET
from agentlightning.types import EnqueueRolloutRequest
from pydantic import BaseModel

from lightning_store import UNSET as OUR_UNSET
from lightning_store import EnqueueRolloutRequest as OurRequest
from lightning_store import InvalidRequestError, RolloutConfig
from tests.agentlightning.support.making import ours_only

VALUES = {
    "": "empty key", "zero": "\x00", "text": "é \U0001f600 \u2028", "big": 2**70, "whole": 1, "float": 1.0, "yes": True,
    "none": None, "list": [], "object": {}, "deep": [[{"a": [1, 1.0, False]}]],
}  # fmt: skip


def same(one, other):
    """Equal, with `1`, `1.0` and `True` apart."""
    return repr(one) == repr(other)


async def test_values_survive(store):
    rollout = await store.enqueue_rollout(VALUES, metadata=VALUES)
    read = await store.get_rollout_by_id(rollout.rollout_id)
    assert same(read.input, VALUES)
    assert same(read.metadata, VALUES)
    claimed = await store.dequeue_rollout()
    assert same(claimed.input, VALUES)
    attempt = await store.update_attempt(rollout.rollout_id, "latest", metadata=VALUES)
    assert same(attempt.metadata, VALUES)
    worker = await store.update_worker("worker", VALUES)
    assert same(worker.heartbeat_stats, VALUES)
    llm = al.LLM(endpoint="e", model="m", sampling_parameters=VALUES)
    await store.add_resources({"llm": llm, "": llm})
    assert same((await store.get_latest_resources()).resources[""].sampling_parameters, VALUES)


@pytest.mark.parametrize("value", [None, 0, "", [], False, math.inf])
async def test_any_value_is_an_input(store, value):
    rollout = await store.enqueue_rollout(value)
    assert same((await store.get_rollout_by_id(rollout.rollout_id)).input, value)


async def test_not_a_number_is_an_input(store):
    rollout = await store.enqueue_rollout([math.nan])
    assert math.isnan((await store.get_rollout_by_id(rollout.rollout_id)).input[0])


@pytest.mark.parametrize("unset", [UNSET, pickle.loads(pickle.dumps(UNSET))], ids=["theirs", "pickled"])  # noqa: S301
async def test_unset_leaves_and_none_sets(store, unset):
    rollout = await store.enqueue_rollout(1, "train", "rs-1", metadata={"a": 1})
    kept = await store.update_rollout(rollout.rollout_id, unset, unset, unset, unset, unset, unset)
    assert (kept.input, kept.mode, kept.resources_id, kept.metadata) == (1, "train", "rs-1", {"a": 1})
    cleared = await store.update_rollout(rollout.rollout_id, None, None, None, unset, unset, None)
    assert (cleared.input, cleared.mode, cleared.resources_id, cleared.metadata) == (None, None, None, None)
    await store.dequeue_rollout("worker")
    attempt = await store.update_attempt(rollout.rollout_id, "latest", unset, unset, unset, unset)
    assert (attempt.status, attempt.worker_id) == ("preparing", "worker")
    await store.update_worker("worker", {"a": 1})
    assert (await store.update_worker("worker", unset)).heartbeat_stats == {"a": 1}


@ours_only
async def test_what_is_ours_is_taken_too(store):
    """For programs that use our extensions beside Agent Lightning's calls."""
    rollouts = await store.enqueue_many_rollouts(
        [OurRequest(input=1, rollout_id="own"), EnqueueRolloutRequest(input=2)]
    )
    assert rollouts[0].rollout_id == "own"
    await store.update_rollout("own", config=RolloutConfig(max_attempts=4), metadata=OUR_UNSET)
    read = await store.get_rollout_by_id("own")
    assert type(read.config) is al.RolloutConfig
    assert (read.config.max_attempts, read.metadata) == (4, {})


class Task(BaseModel):
    question: str
    tries: int = 2


@dataclasses.dataclass
class Card:
    suit: str


@ours_only
async def test_models_become_the_json_that_runners_would_see(store):
    """Upstream's store keeps the object, and its server sends it as JSON; ours keeps that JSON from the start."""
    rollout = await store.enqueue_rollout(
        [Task(question="6 * 7"), Card("spades"), (1, 2)], metadata={"task": Card("x")}
    )
    assert rollout.input == [{"question": "6 * 7", "tries": 2}, {"suit": "spades"}, [1, 2]]
    assert rollout.metadata == {"task": {"suit": "x"}}
    (many,) = await store.enqueue_many_rollouts([EnqueueRolloutRequest(input=Task(question="?"))])
    assert many.input == {"question": "?", "tries": 2}


@ours_only
async def test_what_has_no_json_is_refused(store):
    """With the field named, before anything is written; upstream's server would fail when a runner asks for it."""
    with pytest.raises(InvalidRequestError, match=r"input: expected a JSON value, got object"):
        await store.enqueue_rollout(object())
    with pytest.raises(InvalidRequestError, match=r"metadata\.a"):
        await store.start_rollout(1, metadata={"a": object()})
    assert len(await store.query_rollouts()) == 0


@ours_only
async def test_answers_are_copies(store):
    """Upstream's records share their objects with its store."""
    rollout = await store.enqueue_rollout({"a": [1]}, metadata={"b": [1]})
    rollout.input["a"].append(2)
    rollout.metadata["b"].append(2)
    rollout.config.retry_condition.append("failed")
    read = await store.get_rollout_by_id(rollout.rollout_id)
    assert (read.input, read.metadata, read.config.retry_condition) == ({"a": [1]}, {"b": [1]}, [])
