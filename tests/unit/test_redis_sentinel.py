"""Which of the sentinels' answers counts, and which scripts wait for replicas."""

import pytest
from redis import exceptions as redis_errors

from lightning_store.backends.redis.failures import is_misplaced
from lightning_store.backends.redis.replication import Replication
from lightning_store.backends.redis.scripts import Scripts, Settings, lua_folder
from lightning_store.backends.redis.sentinel import Named, named, newest, unnamed
from lightning_store.errors import InvalidRequestError, NotReplicatedError

OLD, NEW = Named(1, True, "old", 1), Named(2, True, "new", 2)
READING = {
    "audit_spans", "locate_spans", "page_rollouts", "read_attempts", "read_deletable", "read_events", "read_finishes",
    "read_queues", "read_remains", "read_rewards", "read_rollouts", "read_workers",
}  # fmt: skip


def state(port="1", epoch="1", flags="master"):
    fields = {"name": "x", "ip": "old", "port": port, "flags": flags, "config-epoch": epoch}
    return [part.encode() for pair in fields.items() for part in pair]


@pytest.mark.parametrize(
    ("address", "answer", "expected"),
    [
        ([b"old", b"1"], state(), OLD),
        ([b"old", b"1"], state(flags="s_down,master"), OLD._replace(is_up=False)),
        ([b"old", b"1"], state(flags="master,o_down,s_down"), OLD._replace(is_up=False)),
        ([b"old", b"1"], state(flags="master,disconnected"), OLD),
        # It is failing over: who is down is the one before.
        ([b"new", b"2"], state(epoch="2", flags="s_down,o_down,master,failover_in_progress"), NEW),
    ],
)
def test_answer_is_understood(address, answer, expected):
    assert named(address, answer) == expected


def test_service_that_is_unknown_is_told():
    with pytest.raises(redis_errors.ConnectionError, match="it does not know the service"):
        named(None, redis_errors.ResponseError("No such master with that name"))


def test_refusal_of_a_sentinel_is_told():
    with pytest.raises(redis_errors.NoPermissionError):
        named(redis_errors.NoPermissionError("no"), redis_errors.NoPermissionError("no"))


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([], None),
        ([OLD], OLD),
        ([OLD, NEW, OLD], NEW),
        ([OLD._replace(is_up=False)], None),
        ([OLD._replace(is_up=False), OLD], OLD),
        ([OLD, NEW._replace(is_up=False)], None),
    ],
)
def test_latest_configuration_counts(answers, expected):
    assert newest(answers) == expected


def test_every_sentinel_is_quoted_when_none_names_a_primary():
    error = unnamed("x", {"a:1": OLD, "b:2": None, "c:3": redis_errors.ConnectionError("refused")})

    assert isinstance(error, redis_errors.ConnectionError)
    assert "'x'" in str(error)
    assert "(a:1: it cannot reach the primary; b:2: no answer; c:3: refused)" in str(error)


def test_sentinels_that_refuse_the_password_are_no_outage():
    answers = {"a:1": redis_errors.ConnectionError("refused"), "b:2": redis_errors.AuthenticationError("wrong")}

    assert isinstance(unnamed("x", answers), redis_errors.AuthenticationError)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (redis_errors.ReadOnlyError("You can't write against a read only replica."), True),
        (redis_errors.ResponseError("Error running script (call to f_1): @user_script:1: -READONLY You can't"), True),
        (redis_errors.MasterDownError("Link with MASTER is down"), True),
        (redis_errors.ResponseError("UNBLOCKED force unblock from blocking operation, instance state changed"), True),
        (redis_errors.ResponseError("NOREPLICAS Not enough good replicas to write."), True),
        (redis_errors.ResponseError("NOSCRIPT No matching script."), False),
        (redis_errors.ResponseError("ROLLOUT_NOT_FOUND ro-1"), False),
        (redis_errors.BusyLoadingError("Redis is loading the dataset in memory"), False),
    ],
)
def test_answers_of_a_server_that_takes_no_writes_are_known(error, expected):
    assert is_misplaced(error) == expected


def call_of(name, **values):
    script = Scripts(Settings())[name]
    given = {each: ([] if each in script.rest else "") for each in (*script.keys, *script.arguments)}
    return script.call(**(given | values))


def test_scripts_that_read_do_not_wait_and_all_others_do():
    names = {path.stem for path in lua_folder().glob("*.lua")}
    waiting = {name for name in names if Replication(2).commands([call_of(name)])}
    audits = {name for name in names - READING if name.startswith("audit_")}

    assert waiting == names - READING - audits
    assert {name for name in audits if Replication(2).commands([call_of(name, repair="1")])} == audits


def test_one_wait_is_sent_behind_many_calls():
    calls = [call_of("read_rollouts"), call_of("update_worker"), call_of("update_worker")]

    assert Replication(2, 1.5).commands(calls) == [("WAIT", 2, 1500)]
    assert Replication(0).commands(calls) == []
    assert Replication(2).commands([call.unawaited for call in calls]) == []


@pytest.mark.parametrize(("left", "milliseconds"), [(10.0, 1000), (1.0, 500), (0.0, 1), (-1.0, 1)])
def test_wait_leaves_time_for_the_answer_and_is_never_endless(left, milliseconds):
    assert Replication(1, 1.0).commands([call_of("update_worker")], left) == [("WAIT", 1, milliseconds)]


def test_too_few_confirmations_are_an_error():
    Replication(2).check([2])
    Replication(2).check([3])
    Replication(2).check([])
    with pytest.raises(NotReplicatedError, match="applied, not replicated: 1 of 2 replicas"):
        Replication(2).check([1])
    with pytest.raises(redis_errors.NoPermissionError):
        Replication(2).check([redis_errors.NoPermissionError("no")])


@pytest.mark.parametrize(
    "values", [(-1, 1.0), (1.5, 1.0), ("1", 1.0), (True, 1.0), (1, 0.0), (1, -1.0), (1, float("nan"))]
)
def test_numbers_out_of_range_are_refused(values):
    with pytest.raises(InvalidRequestError, match=r"min_replicas|replication_seconds"):
        Replication(*values)
