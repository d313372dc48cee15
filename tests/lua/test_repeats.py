"""A call that is sent again, with the same token or id, takes effect once and answers for what it did."""

import pytest
from redis.exceptions import ResponseError

from tests.lua.world import event, fields_of, new_rollout


def record(reply):
    """A reply of a rollout with its attempt, whatever the order of the fields."""
    rollout_id, fields, task, metadata, (attempt_id, attempt_fields, attempt_metadata) = reply
    return rollout_id, fields_of(fields), task, metadata, attempt_id, fields_of(attempt_fields), attempt_metadata


def claim(world, token, attempt_id, **values):
    arguments = {
        "call": "",
        "worker_id": "",
        "lease": "",
        "again": "",
        "queue_count": 1,
        "wanted": ["default", attempt_id],
    }
    return world.call("dequeue_many_rollouts", token=token, **arguments | values)


def test_claim_answers_the_same_attempts(world):
    world.rollout("ro-1")
    world.rollout("ro-2")
    first = claim(world, "t1", "at-1", wanted=["default", "at-1", "at-2"])

    again = claim(world, "t1", "at-1", wanted=["default", "at-1", "at-2"])

    assert list(map(record, again[2])) == list(map(record, first[2]))
    assert [reply[4][0] for reply in again[2]] == ["at-1", "at-2"]
    assert world.changes() == {}


def test_claim_does_not_answer_an_attempt_of_somebody_else(world):
    world.rollout("ro-1", retry="unresponsive", max_attempts="5")
    claim(world, "t1", "at-1", lease="10.0")
    second = claim(world, "t2", "at-2", lease="10.0", now="1011.000000")  # the first one's lease is over
    assert second[2][0][4][0] == "at-2"

    assert claim(world, "t1", "at-1", now="1012.000000") == [0, "", []]


def test_claim_does_not_answer_an_attempt_that_has_ended(world):
    world.rollout("ro-1")
    claim(world, "t1", "at-1")
    world.hash("attempt", "ro-1:at-1", status="failed")

    assert claim(world, "t1", "at-1") == [0, "", []]


def test_claim_of_nothing_tells_what_its_token_has_claimed(world):
    world.rollout("ro-1")
    claimed = claim(world, "t1", "at-1")

    held = claim(world, "t1", "", wanted=["default"])

    assert list(map(record, held[2])) == list(map(record, claimed[2]))
    assert world.changes() == {}


def test_claim_that_arrives_after_a_claim_of_nothing_under_its_token_claims_nothing(world):
    world.rollout("ro-1")
    assert claim(world, "t1", "", wanted=["default"])[2] == []
    world.client.delete(world.keys.control("wake", "default"))  # a wait that ended took the hint along

    assert claim(world, "t1", "at-1")[2] == []
    assert world.client.lrange(world.keys.control("wake", "default"), 0, -1) == [b"1"]  # for somebody else
    assert claim(world, "t2", "at-2")[2][0][4][0] == "at-2"


def test_claim_that_arrives_after_its_repeat_has_found_nothing_claims_nothing(world):
    """The first was held up on its way; nobody would learn of what it claims."""
    assert claim(world, "t1", "at-1", again="1")[2] == []
    world.rollout("ro-1")

    assert claim(world, "t1", "at-1")[2] == []
    assert claim(world, "t2", "at-2")[2][0][4][0] == "at-2"


def test_claim_under_the_token_of_a_whole_wait_is_known_by_it(world):
    world.rollout("ro-1")
    claimed = claim(world, "t2", "at-1", call="whole")

    assert list(map(record, claim(world, "whole", "", wanted=["default"])[2])) == list(map(record, claimed[2]))
    other_look = claim(world, "t3", "at-2", call="whole")
    assert (other_look[0], list(map(record, other_look[2]))) == (0, list(map(record, claimed[2])))


def test_look_that_finds_nothing_leaves_the_whole_wait_open(world):
    for again in ("", "1"):
        assert claim(world, f"t{again}", "at-1", call="whole", again=again)[2] == []
    world.rollout("ro-1")

    assert claim(world, "t2", "at-1", call="whole")[2][0][4][0] == "at-1"


def test_whole_wait_that_was_ended_claims_nothing_and_is_told_so(world):
    claim(world, "whole", "", wanted=["default"])
    world.rollout("ro-1")
    world.client.delete(world.keys.control("wake", "default"))  # the wait that ends took the hint along

    assert claim(world, "t1", "at-1", call="whole") == [2, "", []]
    assert world.client.lrange(world.keys.control("wake", "default"), 0, -1) == [b"1"]  # for somebody else
    assert claim(world, "t2", "at-2", call="other")[2][0][4][0] == "at-2"


def test_claim_does_not_answer_what_was_deleted(world):
    world.rollout("ro-1")
    claim(world, "t1", "at-1")
    world.client.delete(world.keys.control("rollout", "ro-1"))

    assert claim(world, "t1", "at-1") == [0, "", []]


@pytest.mark.parametrize(
    ("script", "values"),
    [
        ("update_rollout", {"rollout_id": "ro-1", "status": "failed", "task": "", "metadata": "", "changes": []}),
        (
            "update_attempt",
            {"rollout_id": "ro-1", "attempt_id": "latest", "status": "failed", "metadata": "", "changes": []},
        ),
        ("release_attempt", {"rollout_id": "ro-1", "attempt_id": "at-1"}),
    ],
)
def test_change_of_what_was_deleted_since_is_refused_as_unknown(world, script, values):
    world.rollout("ro-1", "running")
    world.attempt("ro-1", "at-1")
    world.call(script, token="t", **values)
    world.client.delete(world.keys.control("rollout", "ro-1"), world.keys.control("attempt", "ro-1:at-1"))

    assert world.refusal(script, token="t", **values).startswith("ROLLOUT_NOT_FOUND")


def test_update_of_an_attempt_answers_for_the_attempt_that_was_the_latest(world):
    world.rollout("ro-1", "running")
    world.attempt("ro-1", "at-1")
    values = {"rollout_id": "ro-1", "attempt_id": "latest", "status": "failed", "metadata": "", "changes": []}
    world.call("update_attempt", token="t", **values)
    world.attempt("ro-1", "at-2")

    attempt_id, fields, _ = world.call("update_attempt", token="t", **values)

    assert (attempt_id, fields_of(fields)["status"]) == ("at-1", "failed")
    assert world.changes() == {}


@pytest.mark.parametrize("digest", ["", "same"])
def test_enqueue_changes_nothing(world, digest):
    items = [*new_rollout("ro-1", digest=digest), *new_rollout("ro-2", digest=digest)]
    world.call("enqueue_many_rollouts", limits="", rollouts=items)

    again = world.call("enqueue_many_rollouts", limits="", rollouts=items)

    assert [reply[0] for reply in again] == ["ro-1", "ro-2"]
    assert world.changes() == {}


@pytest.mark.parametrize(("age", "comes_back"), [(0, False), (200, False), (300, True)])
def test_creation_that_arrives_after_its_deletion_creates_nothing_for_as_long_as_calls_are_sent_again(
    world, age, comes_back
):
    items = new_rollout("ro-1", resources="rs-1")
    [created] = world.call("enqueue_many_rollouts", limits="", rollouts=items)
    world.call("cancel_rollouts", token="t1", group="", statuses="*", rollout_ids=["ro-1"])
    later = {"now": f"{1000 + age}.000000"}
    spans = {"spans": [world.keys.spans("ro-1")], "items": ["ro-1", world.keys.span_ids("ro-1"), ""]}
    world.call("delete_rollouts", token="t2", **spans, **later)
    world.changes()

    again = world.call("enqueue_many_rollouts", limits="", rollouts=items, **later)
    assert (again != [created]) is comes_back
    assert world.client.exists(world.keys.control("rollout", "ro-1")) == comes_back
    if not comes_back:
        start = {"attempt_id": "at-1", "worker_id": "", "lease": "", "rollout": items}
        with pytest.raises(ResponseError, match="ROLLOUT_NOT_FOUND Rollout ro-1 not found"):
            world.call("start_rollout", **start, **later)
        assert world.changes() == {}


def test_caller_may_use_an_id_of_his_own_again_after_deletion(world):
    items = new_rollout("mine", digest="same")
    world.call("enqueue_many_rollouts", limits="", rollouts=items)
    world.call("cancel_rollouts", token="t1", group="", statuses="*", rollout_ids=["mine"])
    spans = {"spans": [world.keys.spans("mine")], "items": ["mine", world.keys.span_ids("mine"), ""]}
    world.call("delete_rollouts", token="t2", **spans)

    world.call("enqueue_many_rollouts", limits="", rollouts=items)
    assert world.client.exists(world.keys.control("rollout", "mine"))


def test_spans_are_answered_as_stored(world):
    world.rollout("ro-1", "running")
    world.attempt("ro-1", "at-1")
    spans = [part for id in ("7", "7", ":x") for part in (id, "0", "", "{}")]
    values = {
        "spans": world.keys.spans("ro-1"), "span_ids": world.keys.span_ids("ro-1"), "token": "t", "rollout_id": "ro-1",
        "attempt_id": "at-1", "renumber": "1", "call": "ro-1", "items": spans,
    }  # fmt: skip
    first = world.call("add_many_spans", **values)

    assert first == ["1", "", "2"]
    assert world.call("add_many_spans", **values) == first
    assert world.changes() == {}
    assert world.call("add_many_spans", **values | {"token": "another"}) == ["", "", ""]


def test_numbers_are_handed_out_again(world):
    world.rollout("ro-1", "running")
    first = world.call("get_many_span_sequence_ids", token="t", rollout_ids=["ro-1", "ro-1"])

    assert world.call("get_many_span_sequence_ids", token="t", rollout_ids=["ro-1", "ro-1"]) == first == ["1", "2"]
    assert world.changes() == {}


def test_cancel_and_delete_answer_what_they_did(world):
    world.rollout("ro-1", "running")
    cancel = {"token": "t1", "group": "", "statuses": "*", "rollout_ids": ["ro-1", "ro-2"]}
    delete = {
        "token": "t2", "spans": [world.keys.spans("ro-1")], "items": ["ro-1", world.keys.span_ids("ro-1"), ""],
    }  # fmt: skip

    assert [world.call("cancel_rollouts", **cancel) for _ in range(2)] == [["ro-1"], ["ro-1"]]
    assert world.changes() == {}
    assert [world.call("delete_rollouts", **delete) for _ in range(2)] == [["ro-1"], ["ro-1"]]
    assert world.changes() == {}


def test_resources_count_one_version(world):
    values = {"resources_id": "rs-1", "body": "{}"}
    world.call("set_resources", token="", **values)
    assert world.call("set_resources", token="", **values)[2] == "1"
    assert world.changes() == {}
    world.call("set_resources", token="t", **values)
    assert world.call("set_resources", token="t", **values)[2] == "2"
    assert world.changes() == {}


def test_release_requeues_once(world):
    world.rollout("ro-1", "preparing")
    world.attempt("ro-1", "at-1", "preparing")
    world.call("release_attempt", token="t", rollout_id="ro-1", attempt_id="at-1")
    assert world.changes()["events"][""] == [event("ro-1", "requeuing", "released", "at-1", "failed")]

    world.call("release_attempt", token="t", rollout_id="ro-1", attempt_id="at-1")
    assert world.changes() == {}


def test_start_creates_once(world):
    values = {"attempt_id": "at-1", "worker_id": "w", "lease": "", "rollout": new_rollout("ro-1")}
    first = world.call("start_rollout", **values)
    assert record(world.call("start_rollout", **values)) == record(first)
    assert world.changes() == {}

    values = {"rollout_id": "ro-1", "attempt_id": "at-2", "worker_id": "", "lease": ""}
    first = world.call("start_attempt", **values)
    assert record(world.call("start_attempt", **values)) == record(first)
    assert world.changes() == {}
