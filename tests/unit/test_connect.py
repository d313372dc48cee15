"""Opening stores by URL, and secrets in texts."""

import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lightning_store.connect import check_url, kind_of, open_store, redact, sqlite_path
from lightning_store.errors import InvalidRequestError, MissingExtraError, StoreUnavailableError
from lightning_store.serverinfo import plain_client


@pytest.mark.parametrize(
    "url",
    ["redis://localhost", "rediss://user:p%40ss@host:6380/2", "unix:///run/redis.sock?db=1", "redis://[::1]:6379/0"],
)
def test_urls_of_redis_are_accepted(url):
    check_url(url)
    assert open_store(url, "default").namespace == "default"


@pytest.mark.parametrize("url", ["", "localhost", "ftp://x", "redis://", "redis://h:99999", "unix://", "redis://h:x"])
def test_other_urls_are_refused_with_what_is_expected(url):
    with pytest.raises(InvalidRequestError, match=r"expected (redis|unix)://"):
        open_store(url, "default")


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis+cluster://a:1,b:2", "redis"),
        ("sqlite:///runs/store.db", "sqlite"),
        ("sqlite:////var/lib/a%20store.db", "sqlite"),
        ("http://127.0.0.1:4747", "http"),
        ("https://[::1]/behind/a/proxy", "http"),
        ("memory://", "memory"),
    ],
)
def test_scheme_tells_the_kind_of_store(url, kind):
    check_url(url)
    assert kind_of(url) == kind


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://", "sqlite:///", "sqlite://store.db", "sqlite:///folder/", "sqlite:///a?mode=ro", "sqlite:///a%00b",
        "http://", "http://:80", "http://h:99999", "http://h:0", "http://user:secret@h", "http://h?token=secret",
        "http://h#a", "memory://x", "memory:///",
    ],
)  # fmt: skip
def test_urls_that_cannot_be_read_are_refused_without_being_quoted(url):
    with pytest.raises(InvalidRequestError, match=r"the store's URL .*expected") as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


def test_paths_of_sqlite_are_relative_or_absolute_and_may_be_quoted():
    assert sqlite_path("sqlite:///runs/store.db") == Path("runs/store.db")
    assert sqlite_path("sqlite:////var/lib/a%20store.db") == Path("/var/lib/a store.db")


@pytest.mark.parametrize("url", ["sqlite:///store.db", "http://h", "memory://"])
def test_only_redis_has_several_namespaces(url):
    with pytest.raises(InvalidRequestError, match=r"namespace: .* holds one store, expected 'default', got 'other'"):
        open_store(url, "other")


def test_settings_of_a_servers_store_are_its_own():
    with pytest.raises(InvalidRequestError, match="max_queued: a server's store has its own"):
        open_store("http://h", max_queued=7)


def test_missing_package_is_told_with_the_extra_that_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning_store.http.client", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lightning-store\[client\]'"):
        open_store("http://h")


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


SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster", "sqlite", "http", "https", "memory", "ftp", "")
AFTER_THE_SCHEME = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("/:@?#[]%,.=&"), max_size=40)


def refusal_of(url: str) -> str | None:
    try:
        check_url(url)
    except InvalidRequestError as error:
        return str(error)
    return None


@given(st.sampled_from(SCHEMES), AFTER_THE_SCHEME)
@example("redis+cluster", "/1")
def test_any_url_is_accepted_or_refused_in_our_words(scheme, rest):
    for url in (rest, f"{scheme}://{rest}"):
        refusal = refusal_of(url)
        assert refusal is None or "expected" in refusal


@given(st.sampled_from([scheme for scheme in SCHEMES if scheme]), AFTER_THE_SCHEME)
def test_password_of_any_url_is_never_shown(scheme, rest):
    url = f"{scheme}://user:hunter22@{rest}"
    assert "hunter22" not in (refusal_of(url) or "")
    assert "hunter22" not in redact(f"{url} is not there")
