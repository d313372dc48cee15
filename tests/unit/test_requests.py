"""Validated requests: what is refused before anything is written."""

import math

import pytest
from pydantic import ValidationError

from lightning_store.contract import UNSET
from lightning_store.errors import InvalidRequestError
from lightning_store.records import LLM, Consumer, EnqueueRolloutRequest, RolloutConfig
from lightning_store.requests import (
    attempt_changes,
    check_cancel,
    check_free_id,
    check_ids,
    check_lease,
    check_limit,
    check_name,
    check_pairs,
    check_prune,
    check_resources,
    check_timeout,
    claim_request,
    lowest_cursor,
    new_rollout,
    parse_cursor,
    rollout_changes,
    worker_stats,
)
from tests.support.ids import CountingIds


@pytest.mark.parametrize("name", ["a", "A-z_0.9", "x" * 128])
def test_names_within_bounds(name):
    assert check_name(name, "queue") == name


@pytest.mark.parametrize("name", ["", "a b", "ä", "a:b", "a\n", "x" * 129, None, 1])
def test_names_out_of_bounds(name):
    with pytest.raises(InvalidRequestError, match="queue"):
        check_name(name, "queue")


@pytest.mark.parametrize("value", ["w", "ü {x}:*", "x" * 512])
def test_free_ids_within_bounds(value):
    assert check_free_id(value, "worker_id") == value


@pytest.mark.parametrize("value", ["", "a\x00", "a\x85", "ü" * 257, "\ud800", None, 7])
def test_free_ids_out_of_bounds(value):
    with pytest.raises(InvalidRequestError, match="worker_id"):
        check_free_id(value, "worker_id")


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan, "1", True])
def test_lease_is_a_positive_time(value):
    with pytest.raises(InvalidRequestError, match="lease_seconds"):
        check_lease(value)


def test_timeout_below_zero_means_zero():
    assert (check_timeout(-3), check_timeout(math.inf)) == (0.0, math.inf)


@pytest.mark.parametrize("value", [1.0, "1", True, 0])
def test_limit_is_an_integer_of_at_least(value):
    with pytest.raises(InvalidRequestError, match="limit"):
        check_limit(value, "limit", 1)


@pytest.mark.parametrize("values", ["ro-1", b"ro-1", 3, None, [3], ["ro-1", None]])
def test_what_is_no_sequence_of_texts_is_refused(values):
    with pytest.raises(InvalidRequestError, match="rollout_ids"):
        check_ids(values, "rollout_ids")


def test_ids_may_come_one_by_one():
    assert check_ids((f"ro-{number}" for number in range(2)), "rollout_ids") == ["ro-0", "ro-1"]


def test_pairs_are_pairs_of_text():
    assert check_pairs([["a", "b"]], "attempts") == [("a", "b")]
    with pytest.raises(InvalidRequestError, match="attempts"):
        check_pairs([("a",)], "attempts")


def test_same_task_has_the_same_digest_whatever_the_order_of_keys():
    def digest(task, **config):
        request = EnqueueRolloutRequest(input=task, rollout_id="mine", config=RolloutConfig(**config))
        return new_rollout(request, CountingIds()).digest

    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest(1) != digest(1.0)
    assert digest(1) != digest(1, max_attempts=2)


def test_id_made_by_the_store_has_no_digest():
    new = new_rollout(EnqueueRolloutRequest(input=None), CountingIds())
    assert (new.digest, new.rollout_id, new.metadata) == (None, "ro-" + "1".zfill(24), {})


def test_default_configs_share_nothing_that_can_change():
    first, second = (new_rollout(EnqueueRolloutRequest(input=1), CountingIds()).config for _ in range(2))
    first.retry_condition.append("timeout")

    assert second == RolloutConfig()


def test_given_config_is_copied():
    given = RolloutConfig(retry_condition=["timeout"])
    config = new_rollout(EnqueueRolloutRequest(input=1, config=given), CountingIds()).config
    given.retry_condition.append("failed")

    assert config == RolloutConfig(retry_condition=["timeout"])


def test_config_that_was_changed_after_its_making_is_validated_again():
    config = RolloutConfig()
    config.max_attempts = 0
    with pytest.raises(ValidationError):
        new_rollout(EnqueueRolloutRequest.model_construct(
            input=1, mode=None, resources_id=None, config=config, metadata=None, rollout_id=None, group_id=None,
            queue="default",
        ), CountingIds())  # fmt: skip


def test_claim_request_keeps_queues_in_order_and_once():
    request = claim_request(1, "", ["b", "a", "b"], -1, None)
    assert (request.queues, request.worker_id, request.timeout) == (("b", "a"), None, 0.0)


@pytest.mark.parametrize("queues", [[], "default", [""], [1]])
def test_claims_need_queues(queues):
    with pytest.raises(InvalidRequestError, match="queues"):
        claim_request(1, None, queues, 0, None)


def test_changes_leave_out_what_is_unset():
    assert rollout_changes({"input": UNSET, "mode": None}) == {"mode": None}
    assert attempt_changes({"status": "running", "worker_id": UNSET}) == {"status": "running"}


@pytest.mark.parametrize("field", ["status", "config"])
def test_rollout_fields_that_cannot_be_none(field):
    with pytest.raises(InvalidRequestError, match=field):
        rollout_changes({field: None})


@pytest.mark.parametrize("field", ["status", "worker_id", "last_heartbeat_time", "metadata"])
def test_attempt_fields_that_cannot_be_none(field):
    with pytest.raises(InvalidRequestError, match=field):
        attempt_changes({field: None})


def test_unknown_status_is_a_validation_error():
    with pytest.raises(ValidationError, match=r"\nstatus\n"):
        rollout_changes({"status": "lost"})
    with pytest.raises(ValidationError, match=r"\nstatus\n"):
        attempt_changes({"status": "queuing"})


def test_unknown_mode_is_a_validation_error():
    with pytest.raises(ValidationError, match=r"\nmode\n"):
        rollout_changes({"mode": "demo"})


def test_worker_stats_of_none_are_a_type_error():
    with pytest.raises(TypeError):
        worker_stats(None)
    assert worker_stats(UNSET) is UNSET


def test_cancel_and_prune_need_a_condition():
    with pytest.raises(InvalidRequestError):
        check_cancel(None, None, None)
    with pytest.raises(InvalidRequestError):
        check_prune(None, None, None, None)
    with pytest.raises(InvalidRequestError, match="keep_latest"):
        check_prune(None, -1, None, None)
    with pytest.raises(InvalidRequestError, match="status_in"):
        check_prune(None, None, ["running"], None)
    with pytest.raises(InvalidRequestError, match="consumed_cursor"):
        check_prune(None, None, None, "7")
    check_prune(None, None, [], None)


def test_cursors_are_compared_as_numbers():
    assert parse_cursor("9-10", "after") < parse_cursor("10-2", "after") < parse_cursor("10-11", "after")
    consumers = [Consumer(name=cursor, cursor=cursor, update_time=0) for cursor in ("10-2", "9-10", "9-9")]
    assert lowest_cursor(consumers) == "9-9"
    assert lowest_cursor([]) is None


def test_resources_are_copied_and_told_apart_by_type():
    llm = LLM(endpoint="e", model="m")
    copied = check_resources({"main": llm, "other": {"resource_type": "proxy_llm", "endpoint": "e", "model": "m"}})
    assert copied["main"] == llm
    assert copied["main"] is not llm
    assert copied["other"].resource_type == "proxy_llm"
    with pytest.raises(ValidationError):
        check_resources({"main": {"resource_type": "gpu"}})
