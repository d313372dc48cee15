"""Which node has which slot, as far as can be told without a Cluster; tests/cluster has the rest."""

import pickle

import pytest
import redis
import redis.asyncio
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, ResponseError

from lightning_store.backends.redis.cluster import SlotMap, slot_of
from lightning_store.backends.redis.failures import is_transient, translated
from lightning_store.backends.redis.scripts import Settings, load_script
from lightning_store.backends.redis.settings import settings_for
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.connect import check_url, redact
from lightning_store.errors import InvalidRequestError, StoreUnavailableError

A, B, C = ("a", 1), ("b", 2), ("c", 3)
ANSWER = [
    [0, 8191, [b"a", 1, b"id-1", []], [b"c", 3, b"id-3"]],
    [8192, 16000, [b"", 2, b"id-2"]],
    [16001, 16001, [None, 2, b"id-2"]],
]


@pytest.fixture
def slots():
    slots = SlotMap([A])
    slots.learn(ANSWER, B)
    return slots


def test_slots_are_those_that_a_node_has_told(slots):
    assert [slots.primary_of(slot) for slot in (0, 8191, 8192, 16001)] == [A, A, B, B]
    assert slots.primaries() == [A, B]
    assert set(slots.to_ask()) == {A, B, C}


def test_slot_of_nobody_is_an_outage_and_looked_for_again(slots):
    assert not slots.is_due
    with pytest.raises(ClusterDownError):
        slots.primary_of(16002)
    assert slots.is_due


def test_slot_that_has_moved_is_known_at_once_and_the_rest_is_asked_for(slots):
    slots.move(5, B)
    assert (slots.primary_of(5), slots.primary_of(6)) == (B, A)
    assert slots.is_due


def test_nobody_asks_again_at_once(slots):
    slots.suspect()
    slots.looked()
    assert not slots.is_due


def test_start_nodes_are_asked_last():
    slots = SlotMap([C, A])
    assert (slots.to_ask(), slots.is_known, slots.is_due) == ([C, A], False, True)
    slots.learn([[0, 16383, [b"b", 2, b"id"]]], A)
    assert slots.to_ask() == [B, C, A]


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("HGET", "{x}:a", "f"), b"{x}:a"),
        (("XINFO", "STREAM", b"{y}:s"), b"{y}:s"),
        (("BLPOP", "{z}:1", "{z}:2", "1"), b"{z}:1"),
        (("XREAD", "COUNT", 1, "BLOCK", 5, "STREAMS", "{w}:log", "0"), b"{w}:log"),
    ],
)
def test_commands_go_by_their_first_key(command, key):
    assert slot_of(command) == key_slot(key)


def test_scripts_go_by_the_first_key_that_they_declare():
    call = load_script("read_rewards", Settings()).call(meta="{ls:x}:meta", rollout_ids=["a"])
    assert slot_of(call.by_sha) == slot_of(call.by_text) == key_slot(b"{ls:x}:meta")


@pytest.mark.parametrize("command", [("TIME",), ("SCAN", "0"), ("SCRIPT", "FLUSH")])
def test_some_commands_have_no_key(command):
    assert slot_of(command) is None


# -- settings --------------------------------------------------------------------------------------------------------


def test_settings_of_a_cluster_are_those_of_each_node():
    settings = settings_for("redis+cluster://u:p@a:1,b:2?socket_keepalive=yes", max_connections=3)

    assert settings.nodes == (A, B)
    node = settings.at(C)
    assert (node.kwargs["host"], node.kwargs["port"], node.kwargs["password"], node.nodes) == ("c", 3, "p", ())
    assert node.max_connections == 3
    assert "p" not in repr(settings).replace("ssl", "").partition("max_connections")[0]


@pytest.mark.parametrize("url", ["redis+cluster://a:1/1", "redis+cluster://a:1?db=2"])
def test_other_databases_are_refused(url):
    with pytest.raises(InvalidRequestError, match="a Cluster has database 0 only"):
        RedisLightningStore(url)


@pytest.mark.parametrize("url", ["redis+cluster://a:x,b", "redis+cluster://:secret,b", "redis+cluster://u:p@"])
def test_unreadable_urls_are_refused_without_quoting_them(url):
    for refuse in (RedisLightningStore, check_url):
        with pytest.raises(InvalidRequestError) as caught:
            refuse(url)
        assert "secret" not in str(caught.value)
        assert "host:port,host:port" in str(caught.value)


def test_store_on_a_cluster_can_be_pickled():
    made = RedisLightningStore("rediss+cluster://a:1,b:2/0", namespace="x")
    store = pickle.loads(pickle.dumps(made))  # noqa: S301 - our own
    assert store._connections.is_cluster
    assert store._connections.settings.nodes == (A, B)


def test_passwords_of_cluster_urls_are_not_shown():
    assert redact("redis+cluster://u:secret@a:1,b:2/0") == "redis+cluster://***@a:1,b:2/0"


def test_client_of_a_cluster_cannot_be_lent():
    client = redis.asyncio.RedisCluster("a", 1)
    with pytest.raises(InvalidRequestError, match=r"cannot be lent; expected its URL, redis\+cluster://"):
        RedisLightningStore(client)


# -- what nodes say --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        ResponseError("Script attempted to access a non local key in a cluster node script: 6ed5, on @user_script:34."),
        ResponseError(
            "Error running script (call to f_6ed5): @user_script:34: @user_script: 34: "
            "Lua script attempted to access a non local key in a cluster node"
        ),
        ResponseError("Script attempted to execute a command while the cluster is down"),
        AskError("11281 127.0.0.1:7001"),
    ],
)
def test_slot_that_is_on_its_way_is_waited_for(error):
    assert is_transient(error)
    assert isinstance(translated(error), StoreUnavailableError)
    assert "on its way to another node" in str(translated(error))
