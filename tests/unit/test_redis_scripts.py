"""The loader of the Lua scripts: includes, headers, calls by name, and what it says when a script is wrong."""

import hashlib
from pathlib import Path

import fakeredis
import pytest

from lightning_store.backends.redis import scripts
from lightning_store.backends.redis.keys import SCHEMA
from lightning_store.backends.redis.scripts import Scripts, Settings, load_script, lua_folder

HEADER = "--[[\nDo it.\nKEYS[1] meta  the meta hash\nARGV[1] now  the time\nARGV[2..] items  the rest\n]]\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of scripts that tests write."""
    (tmp_path / "shared").mkdir()
    monkeypatch.setattr(scripts, "lua_folder", lambda: tmp_path)
    return tmp_path


def load(name: str) -> scripts.Script:
    return load_script.__wrapped__(name, Settings())


def lines(name: str) -> list[str]:
    """The text of a script, line by line."""
    return load(name).text.splitlines()


# -- includes --------------------------------------------------------------------------------------------------------


def test_snippets_are_pasted_once_where_they_are_asked_for_first(folder):
    (folder / "do.lua").write_text(HEADER + "--@include b\n--@include a\nreturn 1\n")
    (folder / "shared" / "a.lua").write_text("local a = 1\n")
    (folder / "shared" / "b.lua").write_text("--@include a\nlocal b = a\n")

    assert lines("do") == ["local a = 1", "local b = a", "return 1"]


def test_snippet_is_pasted_inside_the_function_that_asks_for_it(folder):
    (folder / "do.lua").write_text(HEADER + "--@include seldom\n--@include state\nreturn seldom(set(1))\n")
    (folder / "shared" / "state.lua").write_text("local state\nlocal function set(to)\n  state = to\nend\n")
    (folder / "shared" / "rule.lua").write_text("--@include state\nlocal function rule()\n  set(2)\nend\n")
    (folder / "shared" / "seldom.lua").write_text(
        "--@include state\nlocal function seldom()\n  if state then\n    --@include rule\n    rule()\n  end\nend\n"
    )

    assert lines("do") == [
        "local state",
        "local function set(to)",
        "  state = to",
        "end",
        "local function seldom()",
        "  if state then",
        "    local function rule()",
        "      set(2)",
        "    end",
        "    rule()",
        "  end",
        "end",
        "return seldom(set(1))",
    ]


def test_snippet_without_variables_is_pasted_inside_and_outside(folder):
    (folder / "do.lua").write_text(
        HEADER + "--@include rule\nlocal function seldom()\n  --@include rule\n  rule()\nend\nreturn rule(seldom)\n"
    )
    (folder / "shared" / "rule.lua").write_text("local function rule()\nend\n")

    assert lines("do") == [
        "local function rule()",
        "end",
        "local function seldom()",
        "  local function rule()",
        "  end",
        "  rule()",
        "end",
        "return rule(seldom)",
    ]


def test_what_is_not_used_is_left_out(folder):
    (folder / "do.lua").write_text(HEADER + "--@include many\n-- unused, TABLE\nreturn used('x', call.unused)\n")
    (folder / "shared" / "many.lua").write_text(
        "local ONE = 1\n"
        "local TABLE = {\n  one = ONE,\n}\n"
        "local function deep()\n  return TABLE\nend\n"
        "local function unused()\n  return deep()\nend\n"
        "local TWO = 2 -- and why\n"
        "\n"
        "local function used()\n  return TWO\nend\n"
    )

    assert lines("do") == [
        "local function used()",
        "  return 2",
        "end",
        "return used('x', call.unused)",
    ]


def test_what_only_a_copy_inside_uses_is_left_out(folder):
    """Unless the block that holds the copy ends before the name is used again."""
    (folder / "do.lua").write_text(HEADER + "--@include outer\nreturn outer(1)\n")
    (folder / "shared" / "a.lua").write_text("local A = { 1 }\n")
    (folder / "shared" / "b.lua").write_text("local B = { 1 }\n")
    (folder / "shared" / "outer.lua").write_text(
        "--@include a\n--@include b\nlocal function outer(x)\n  if x then\n    --@include a\n    x(A)\n  end\n  x(A)\n"
        "  --@include b\n  x(B)\nend\n"
    )

    assert lines("do") == [
        "local A = { 1 }",
        "local function outer(x)",
        "  if x then",
        "    local A = { 1 }",
        "    x(A)",
        "  end",
        "  x(A)",
        "  local B = { 1 }",
        "  x(B)",
        "end",
        "return outer(1)",
    ]


@pytest.mark.parametrize(("branch", "copies"), [("", 1), ("  else\n    x(A)\n", 2)], ids=["inside", "beside"])
def test_copy_serves_the_blocks_inside_its_own(folder, branch, copies):
    """Not the other branch, which needs the one outside."""
    (folder / "do.lua").write_text(
        HEADER + "--@include a\nlocal function outer(x)\n  if x then\n    --@include a\n    if x(A) then\n      x(A)\n"
        f"    end\n{branch}  end\nend\nreturn outer(1)\n"
    )
    (folder / "shared" / "a.lua").write_text("local A = { 1 }\n")

    assert [line.strip() for line in lines("do")].count("local A = { 1 }") == copies


def test_constants_are_written_out(folder):
    """Not in text, and not fields that have the same name."""
    (folder / "do.lua").write_text(
        HEADER + 'local ONE = 1\nlocal TEXT = "text of ONE"\nlocal FEW = { ONE }\nlocal lower = ONE\n'
        'return { ONE, TEXT, "ONE", lower.ONE, FEW[ONE], TWO }\n'
    )

    assert lines("do") == [
        "local FEW = { 1 }",
        "local lower = 1",
        'return { 1, "text of ONE", "ONE", lower.ONE, FEW[1], TWO }',
    ]


def test_constant_tables_become_comparisons(folder):
    """Where one looks up a name; for anything else they are kept."""
    (folder / "do.lua").write_text(
        HEADER + "local SET = { one = true, two = true }\nlocal KEPT = { one = true }\n"
        'local MAP = {\n  one = "1",\n  two = TWO,\n}\nlocal NEXT = {\n  one = "two",\n  two = "one",\n}\n'
        "local status = ARGV[1]\n"
        "return { not SET[record.status], KEPT[status], pairs(KEPT), MAP[status], NEXT[status] }\n"
    )

    assert lines("do") == [
        "local KEPT = { one = true }",
        "local MAP = {",
        '  one = "1",',
        "  two = TWO,",
        "}",
        "local status = ARGV[1]",
        'return { not (record.status == "one" and true or record.status == "two" and true or nil), '
        '(status == "one" and true or nil), pairs(KEPT), MAP[status], '
        '(status == "one" and "two" or status == "two" and "one" or nil) }',
    ]


def test_plain_calls_of_key_are_written_out(folder):
    """Others are left as they are."""
    (folder / "do.lua").write_text(
        HEADER + 'local meta, task = key("meta"), key("task", item.id)\n'
        'local attempt = key("attempt", id .. ":" .. attempt.id)\n'
        'return { key("ops", a or b), key(kind), key("queue", name_of(rollout)), hash.key("x") }\n'
    )

    assert lines("do") == [
        'local meta, task = (PREFIX .. "meta"), (PREFIX .. "task:" .. (item.id))',
        'local attempt = (PREFIX .. "attempt:" .. (id .. ":" .. attempt.id))',
        'return { (PREFIX .. "ops:" .. (a or b)), key(kind), key("queue", name_of(rollout)), hash.key("x") }',
    ]


def test_snippet_that_is_missing_is_named(folder):
    (folder / "do.lua").write_text(HEADER + "--@include nowhere\n")

    with pytest.raises(FileNotFoundError, match=r"nowhere\.lua"):
        load("do")


def test_script_that_is_missing_is_named(folder):
    with pytest.raises(FileNotFoundError, match=r"never\.lua"):
        load("never")


def test_settings_stand_before_the_script(folder):
    (folder / "do.lua").write_text(HEADER + "return { SCHEMA, GRACE_SECONDS * 1000, TOKEN_SECONDS, EVENTS_KEPT }\n")
    text = load_script.__wrapped__("do", Settings(grace_seconds=0.25, token_seconds=7, events_kept=9)).text

    assert fakeredis.FakeRedis().eval(text, 0) == [SCHEMA.encode(), 250, 7, 9]


def test_sha_is_that_of_the_text():
    script = load_script("renew", Settings())

    assert script.sha == hashlib.sha1(script.text.encode(), usedforsecurity=False).hexdigest()
    assert script.sha != load_script("renew", Settings(grace_seconds=1.0)).sha


def test_scripts_are_read_once():
    loaded = Scripts(Settings())

    assert loaded["renew"] is loaded["renew"]
    assert Scripts(Settings())["renew"] is loaded["renew"]


def test_every_script_of_the_folder_loads():
    names = [path.stem for path in lua_folder().glob("*.lua")]

    assert "dequeue_many_rollouts" in names
    for name in names:
        assert load_script(name, Settings()).keys[0] in {"meta", "spans", "name"}


# -- headers ---------------------------------------------------------------------------------------------------------


def test_header_is_read_and_not_sent(folder):
    (folder / "do.lua").write_text(HEADER + "return 1\n")
    script = load("do")

    assert (script.keys, script.arguments, script.rest) == (("meta",), ("now", "items"), frozenset({"items"}))
    assert "Do it." not in script.text


@pytest.mark.parametrize("source", ["return 1\n", "-- KEYS[1] meta\nreturn 1\n", "\n" + HEADER, "--[[\nno end\n"])
def test_script_without_header_is_refused(folder, source):
    (folder / "do.lua").write_text(source)

    with pytest.raises(ValueError, match=r"do\.lua has no header"):
        load("do")


@pytest.mark.parametrize(
    ("parameters", "table"),
    [
        ("KEYS[2] meta  x", "KEYS"),
        ("KEYS[1] meta  x\nARGV[1] a  x\nARGV[3] b  x", "ARGV"),
        ("KEYS[1] meta  x\nARGV[1] a  x\nARGV[1] b  x", "ARGV"),
        ("KEYS[1] meta  x\nARGV[2] b  x\nARGV[1] a  x", "ARGV"),
    ],
)
def test_numbering_with_gaps_is_refused(folder, parameters, table):
    (folder / "do.lua").write_text(f"--[[\nDo it.\n{parameters}\n]]\nreturn 1\n")

    with pytest.raises(ValueError, match=rf"do\.lua: the header must number its {table} from 1 without gaps"):
        load("do")


# -- calls -----------------------------------------------------------------------------------------------------------


def test_call_puts_values_where_the_header_says(folder):
    (folder / "do.lua").write_text(HEADER + "return 1\n")
    script = load("do")
    call = script.call(items=["x", b"y", 3], now="5", meta="{ls:a}:meta")

    assert call.by_sha == ("EVALSHA", script.sha, 1, "{ls:a}:meta", "5", "x", b"y", 3)
    assert call.by_text == ("EVAL", script.text, 1, "{ls:a}:meta", "5", "x", b"y", 3)


def test_number_of_keys_counts_all_of_the_rest(folder):
    (folder / "do.lua").write_text("--[[\nDo.\nKEYS[1] meta  x\nKEYS[2..] spans  x\n]]\nreturn 1\n")

    assert load("do").call(meta="m", spans=["a", "b"]).by_sha[2:] == (3, "m", "a", "b")
    assert load("do").call(meta="m", spans=[]).by_sha[2:] == (1, "m")


@pytest.mark.parametrize(
    "values",
    [{"meta": "m", "now": "1"}, {"meta": "m", "now": "1", "items": [], "more": "x"}, {"now": "1", "items": []}, {}],
)
def test_wrong_set_of_names_is_refused(folder, values):
    (folder / "do.lua").write_text(HEADER + "return 1\n")

    with pytest.raises(TypeError, match=r"do takes \['items', 'meta', 'now'\], got"):
        load("do").call(**values)


@pytest.mark.parametrize(
    "values", [{"now": ["1"], "items": []}, {"now": "1", "items": "abc"}, {"now": "1", "items": b"a"}]
)
def test_one_value_and_many_are_not_mixed_up(folder, values):
    (folder / "do.lua").write_text(HEADER + "return 1\n")

    with pytest.raises(AssertionError):
        load("do").call(meta="m", **values)


# -- where they are --------------------------------------------------------------------------------------------------


def test_scripts_are_found_in_the_package_first_and_beside_it_second(tmp_path, monkeypatch):
    package = tmp_path / "somewhere" / "lightning_store"
    here = package / "backends" / "redis" / "scripts.py"
    here.parent.mkdir(parents=True)
    monkeypatch.setattr(scripts, "__file__", str(here))
    with pytest.raises(FileNotFoundError, match="installation is incomplete"):
        lua_folder.__wrapped__()

    (package.parent / "lua" / "shared").mkdir(parents=True)
    assert lua_folder.__wrapped__() == package.parent / "lua"

    (package / "lua" / "shared").mkdir(parents=True)
    assert lua_folder.__wrapped__() == package / "lua"
