"""Opening stores by URL, and secrets in texts."""

import pytest

from lightning_store.connect import check_url, open_store, redact
from lightning_store.errors import InvalidRequestError, StoreUnavailableError
from lightning_store.serverinfo import plain_client


@pytest.mark.parametrize(
    "url",
    ["redis://localhost", "rediss://user:p%40ss@host:6380/2", "unix:///run/redis.sock?db=1", "redis://[::1]:6379/0"],
)
def test_urls_of_redis_are_accepted(url):
    check_url(url)
    assert open_store(url, "default").namespace == "default"


@pytest.mark.parametrize(
    "url", ["", "localhost", "http://x", "memory://", "redis://", "redis://h:99999", "unix://", "redis://h:x"]
)
def test_other_urls_are_refused_with_what_is_expected(url):
    with pytest.raises(InvalidRequestError, match=r"expected (redis|unix)://"):
        open_store(url, "default")


def test_a_bad_namespace_is_refused():
    with pytest.raises(InvalidRequestError, match="namespace"):
        open_store("redis://localhost", "a b")


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("redis://:hunter22@host:1/0", "redis://***@host:1/0"),
        ("redis://user:hunter22@host", "redis://***@host"),
        ("redis://user:hun@ter/22@host", "redis://***@host"),
        ("redis://host:1/0", "redis://host:1/0"),
        ("unix:///run/redis.sock?password=hunter22&db=1", "unix:///run/redis.sock?password=***&db=1"),
        ("at rediss://:hunter22@a:1/0, then redis://:hunter22@b:1/0", "at rediss://***@a:1/0, then redis://***@b:1/0"),
        ("no url, user@host", "no url, user@host"),
    ],
)
def test_passwords_of_urls_are_hidden(text, redacted):
    assert redact(text) == redacted


def test_the_password_alone_is_hidden_as_written_and_as_meant():
    url = "redis://:p%40ssword@host:1/0"

    assert redact("said p@ssword, wrote p%40ssword", url) == "said ***, wrote ***"


def test_very_short_passwords_do_not_garble_texts():
    assert redact("a banana", "redis://:a@host") == "a banana"


def test_a_url_that_cannot_be_read_hides_nothing_else():
    assert redact("some text", "redis://[::1") == "some text"


def test_a_connection_that_is_lost_is_a_store_that_is_unavailable(private_redis):
    server = private_redis()

    def lose_it():
        with plain_client(server.url) as client:
            server.kill()
            client.ping()

    with pytest.raises(StoreUnavailableError, match=r"redis://\*\*\*@127.0.0.1"):
        lose_it()
