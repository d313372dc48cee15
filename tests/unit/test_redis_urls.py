"""What a store's URL says of sentinels and replicas."""

import pickle

import pytest

from lightning_store.backends.redis.settings import settings_for
from lightning_store.backends.redis.urls import read_url
from lightning_store.connect import check_url, open_store, redact
from lightning_store.errors import InvalidRequestError

FULL = (
    "rediss+sentinel://user:p%40ss@one:1,[::1]:2,three/my-service/4?ssl_cert_reqs=none&sentinel_username=watcher"
    "&sentinel_password=s%26word&sentinel_ssl=true&sentinel_ssl_cert_reqs=none&min_replicas=2&replication_seconds=0.5"
)


def test_everything_that_can_be_said_is_understood():
    settings = settings_for(FULL)

    assert settings.connection_class.__name__ == "SSLConnection"
    server = {name: settings.kwargs[name] for name in ("username", "password", "db", "ssl_cert_reqs")}
    assert server == {"username": "user", "password": "p@ss", "db": 4, "ssl_cert_reqs": "none"}
    assert settings.service == "my-service"
    assert settings.addresses == ("one:1", "[::1]:2", "three:26379")
    assert [(each.kwargs["host"], each.kwargs["port"]) for each in settings.sentinels] == [
        ("one", 1), ("::1", 2), ("three", 26379),
    ]  # fmt: skip
    assert {(each.kwargs["username"], each.kwargs["password"]) for each in settings.sentinels} == {
        ("watcher", "s&word")
    }
    assert {each.connection_class.__name__ for each in settings.sentinels} == {"SSLConnection"}
    assert (settings.replication.min_replicas, settings.replication.seconds) == (2, 0.5)
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 - our own
    for each in (settings, *settings.sentinels):
        each.connection()


def test_little_need_be_said():
    settings = settings_for("redis+sentinel://one/service")

    assert settings.connection_class.__name__ == "Connection"
    assert (settings.addresses, settings.replication.min_replicas) == (("one:26379",), 0)
    assert "password" not in settings.kwargs
    assert [dict(each.kwargs) for each in settings.sentinels] == [{"host": "one", "port": 26379}]


def test_password_of_the_server_is_not_told_to_the_sentinels():
    [sentinel] = settings_for("redis+sentinel://:secret@one:1/service").sentinels

    assert "secret" not in repr(sentinel.kwargs)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis+sentinel://one:1", "the name of the service is missing"),
        ("redis+sentinel://one:1,two:2/", "the name of the service is missing"),
        ("redis+sentinel://one:1//0", "the name of the service is missing"),
        ("redis+sentinel://user:12/34@one", "the name of the service is no name"),
        ("redis+sentinel:///service", "a host or port of a sentinel cannot be read"),
        ("redis+sentinel://user:word@/service", "a host or port of a sentinel cannot be read"),
        ("redis+sentinel://one:1,/service", "a host or port of a sentinel cannot be read"),
        ("redis+sentinel://:1/service", "a host or port of a sentinel cannot be read"),
        ("redis+sentinel://one:0/service", "a host or port of a sentinel cannot be read"),
        ("redis+sentinel://one:99999/service", "a host or port of a sentinel cannot be read"),
        ("redis+sentinel://one:first/service", "a host or port of a sentinel cannot be read"),
        ("redis+sentinel://[::1:1/service", "a host or port of a sentinel cannot be read"),
        ("redis+sentinel://one:1/service/first", "behind the service comes the number of a database"),
        ("redis+sentinel://one:1/service/0/1", "behind the service comes the number of a database"),
        ("redis+sentinel://one:1/service?colour=red", "colour"),
        ("redis+sentinel://one:1/service?sentinel_colour=red", "colour"),
        ("redis+sentinel://one:1/service?min_replicas=two", "min_replicas: expected a number"),
        ("redis://one?min_replicas=1.5", "min_replicas: expected a number"),
        ("redis://one?min_replicas=", "min_replicas: expected a number"),
        ("redis://one?min_replicas=-1", "min_replicas: expected a whole number from 0"),
        ("redis://one?min_replicas=1&replication_seconds=0", "replication_seconds: expected a finite number above 0"),
        ("redis://one?replication_seconds=nan", "replication_seconds: expected a number"),
        ("redis://one?min_replicas=1&replication_seconds=8", "at most half of socket_seconds"),
    ],
)
def test_what_is_wrong_is_told(url, reason):
    with pytest.raises(InvalidRequestError, match=reason):
        open_store(url, "default")


def test_the_command_line_refuses_the_same_before_it_connects():
    check_url(FULL)
    with pytest.raises(InvalidRequestError, match=r"service is missing; expected redis\+sentinel://host:port,host"):
        check_url("redis+sentinel://one:1")


@pytest.mark.parametrize("url", ["redis://one/3?min_replicas=1&db=2", "unix:///run/x.sock?db=1&min_replicas=1"])
def test_other_options_of_a_url_stay(url):
    read = read_url(url)

    assert read.min_replicas == 1
    assert read.server == url.replace("min_replicas=1&", "").replace("&min_replicas=1", "")


def test_urls_without_options_of_ours_stay_as_they_are():
    url = "redis://user:p%20w@one:1/3?db=2#x"

    assert read_url(url).server == url


def test_arguments_win_over_the_url():
    settings = settings_for("redis://one?min_replicas=1&replication_seconds=2", min_replicas=0, replication_seconds=3.0)

    assert (settings.replication.min_replicas, settings.replication.seconds) == (0, 3.0)


def test_server_that_is_found_takes_the_place_of_the_name():
    read = read_url("rediss+sentinel://user:p%40ss@one:1/service/4?ssl_cert_reqs=none")

    assert read.at("127.0.0.1", 7) == "rediss://user:p%40ss@127.0.0.1:7/4?ssl_cert_reqs=none"
    assert read.at("::1", 7) == "rediss://user:p%40ss@[::1]:7/4?ssl_cert_reqs=none"


def test_no_password_is_shown():
    settings = settings_for(FULL)
    shown = repr([settings, read_url(FULL), redact(FULL), redact("said s&word to p@ss", FULL)])

    assert [secret for secret in ("p%40ss", "p@ss", "s&word", "s%26word") if secret in shown] == []
