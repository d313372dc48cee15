"""Bearer tokens: where they come from, whose they are, and that nothing tells them."""

import logging
import pickle

import pytest

from lightning_store.errors import InvalidRequestError
from lightning_store.http import tokens as module
from lightning_store.http.tokens import ROLES, Tokens, allows

READ, RUNNER, ADMIN = "read-token-0123456789", "runner-token-0123456789", "admin-token-0123456789"
ALL = f"# who may call\n\nread {READ}\n  runner:{RUNNER}\nadmin: {ADMIN}\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(ALL)
    path.chmod(0o600)
    return path


@pytest.fixture
def look_now(monkeypatch):
    """Files are looked at by each use."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0)


def roles_of(tokens):
    return [tokens.role_of(token) for token in (READ, RUNNER, ADMIN)]


def test_each_role_may_what_those_before_it_may():
    assert ROLES == ("read", "runner", "admin")
    assert [[allows(has, needs) for needs in ROLES] for has in ROLES] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_file_has_roles_and_tokens_by_line(file):
    tokens = Tokens(file=file)
    assert roles_of(tokens) == ["read", "runner", "admin"]
    assert tokens.role_of(ADMIN[:-1]) is None
    assert tokens.role_of("") is None
    assert tokens.role_of("caf\udce9-0123456789") is None


def test_environment_has_them_in_one_line():
    tokens = Tokens.from_environment({"LIGHTNING_STORE_TOKENS": f" read:{READ}  admin:{ADMIN} "})
    assert roles_of(tokens) == ["read", None, "admin"]
    assert Tokens.from_environment({}) is None
    assert Tokens.from_environment({"LIGHTNING_STORE_TOKENS": "  "}) is None


def test_several_tokens_of_one_role_count_at_once():
    tokens = Tokens([("admin", ADMIN), ("admin", RUNNER)])
    assert roles_of(tokens) == [None, "admin", "admin"]


def test_file_that_changes_is_read_again(file, look_now, caplog):
    tokens = Tokens(file=file)
    file.write_text(f"admin {ADMIN}\nadmin new-{ADMIN}\n")
    assert tokens.role_of(READ) is None
    assert tokens.role_of(f"new-{ADMIN}") == "admin"
    assert "read again" in caplog.text


def test_file_that_is_replaced_is_read_again(file, look_now):
    """As mounted secrets and editors do it."""
    tokens = Tokens(file=file)
    other = file.with_name("other")
    other.write_text(f"read {ADMIN}\n")
    other.replace(file)
    assert roles_of(tokens) == [None, None, "read"]


@pytest.mark.parametrize("damage", ["", "nonsense", f"boss {ADMIN}-x", "admin short", None])
def test_file_that_is_damaged_later_leaves_the_tokens_of_before(file, look_now, caplog, damage):
    tokens = Tokens(file=file)
    if damage is None:
        file.unlink()
    else:
        file.write_text(damage)
    for _ in range(3):
        assert roles_of(tokens) == ["read", "runner", "admin"]
    complaints = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(complaints) == 1, "it is told once, not at each request"
    assert str(file) in complaints[0].getMessage()
    file.write_text(f"admin {ADMIN}\n")
    assert roles_of(tokens) == [None, None, "admin"]


def test_file_is_not_looked_at_by_every_request(file):
    tokens = Tokens(file=file)
    tokens.role_of(READ)
    file.unlink()
    assert tokens.role_of(READ) == "read"


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_file_that_others_can_read_is_told(file, caplog, mode):
    file.chmod(mode)
    Tokens(file=file)
    assert "chmod 600" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no token in it"),
        ("# nothing\n\n", "there is no token in it"),
        (f"read {READ}\nboss {ADMIN}", "line 2: expected `role token`"),
        (f"{ADMIN}", "line 1: expected `role token`"),
        (f"read {READ} {ADMIN}", "line 1: expected `role token`"),
        ("read 0123456789abcde", "line 1: expected a token of at least 16"),
        ("read caf\u00e9-caf\u00e9-caf\u00e9-caf\u00e9", "line 1: expected a token of at least 16"),
        (f"read {READ}\nadmin {READ}", "one of them has two roles"),
    ],
)
def test_file_with_a_mistake_is_refused_without_quoting_it(file, text, message):
    file.write_text(text)
    with pytest.raises(InvalidRequestError) as caught:
        Tokens(file=file)
    assert message in str(caught.value)
    for token in (READ, ADMIN, "0123456789abcde"):
        assert token not in str(caught.value)


def test_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InvalidRequestError, match="nowhere: No such file"):
        Tokens(file=tmp_path / "nowhere")
    (tmp_path / "latin").write_bytes(b"read caf\xe9")
    with pytest.raises(InvalidRequestError, match="latin: it is not UTF-8"):
        Tokens(file=tmp_path / "latin")


def test_environment_with_a_mistake_is_refused_without_quoting_it():
    with pytest.raises(InvalidRequestError, match="LIGHTNING_STORE_TOKENS, number 2") as caught:
        Tokens.from_environment({"LIGHTNING_STORE_TOKENS": f"read:{READ} {ADMIN}"})
    assert ADMIN not in str(caught.value)


def test_role_that_is_none_is_refused():
    with pytest.raises(InvalidRequestError, match="role of a token: expected one of read, runner, admin"):
        Tokens([("boss", ADMIN)])


def test_no_form_of_it_has_a_token(file):
    tokens = Tokens([("admin", ADMIN + "2")], file=file)
    for text in (repr(tokens), str(tokens), repr(vars(tokens)), str(pickle.dumps(tokens))):
        assert all(token not in text for token in (READ, RUNNER, ADMIN))


def test_copy_in_another_process_knows_the_same_tokens_and_follows_the_file(file, look_now):
    copy = pickle.loads(pickle.dumps(Tokens([("admin", ADMIN + "2")], file=file)))  # noqa: S301 - our own
    assert roles_of(copy) == ["read", "runner", "admin"]
    file.write_text(f"read {READ}\n")
    assert roles_of(copy) == ["read", None, None]
    assert copy.role_of(ADMIN + "2") == "admin"


def test_one_more_token_leaves_the_others_alone(file, look_now):
    tokens = Tokens(file=file)
    more = tokens.with_one_more("admin", ADMIN + "2")
    assert tokens.role_of(ADMIN + "2") is None
    file.write_text(f"read {READ}\n")
    assert (more.role_of(ADMIN + "2"), more.role_of(ADMIN)) == ("admin", None)


def test_all_tokens_are_compared_with_whatever_comes(monkeypatch):
    """The time it takes must not tell how far a guess is right, or which of the tokens it was."""
    compared = []
    genuine = module.hmac.compare_digest
    monkeypatch.setattr(module.hmac, "compare_digest", lambda *pair: compared.append(pair) or genuine(*pair))
    tokens = Tokens([("read", READ), ("runner", RUNNER), ("admin", ADMIN)])
    for token in (READ, ADMIN, "wrong"):
        compared.clear()
        tokens.role_of(token)
        assert len(compared) == 3
        assert {len(part) for pair in compared for part in pair} == {32}


def test_file_may_be_a_pipe_like_secret(tmp_path):
    """A symbolic link, as Kubernetes mounts secrets."""
    (tmp_path / "data").write_text(f"admin {ADMIN}\n")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert Tokens(file=tmp_path / "link").role_of(ADMIN) == "admin"
