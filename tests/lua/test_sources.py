"""What can be told of the scripts without running them: headers, includes, globals, names, sizes."""

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import get_args

import pytest

from lightning_store.backends.redis.keys import KINDS
from lightning_store.backends.redis.scripts import Settings, load_script, lua_folder
from lightning_store.records import AttemptStatus, EventCause, LeaseState, RolloutStatus, WorkerStatus
from tests.lua.bytecode import globals_of

COMMANDS = sorted(lua_folder().glob("*.lua"))
SNIPPETS = sorted((lua_folder() / "shared").glob("*.lua"))
BY_NAME = {path.stem: path for path in SNIPPETS}
OF_REDIS = {"redis", "KEYS", "ARGV"}
OF_LUA = {"ipairs", "pairs", "next", "tonumber", "tostring", "unpack", "string", "table", "math"}
MOST_LINES = {"lua": 80, "shared": 40}
GENERATED = {"status"}
OF_SPANS = {"append_spans", "audit_span_key", "audit_spans", "delete_spans"}
"""Scripts in the slot of a rollout's spans, which is not that of the control plane."""

STATUSES = {*get_args(RolloutStatus), *get_args(AttemptStatus), *get_args(WorkerStatus)}
# Words that are statuses elsewhere: states of leases and causes of events, and the names of two fields.
NO_STATUS = {
    "renew": {"cancelled", "unknown"},
    "cancel_rollouts": {"cancelled"},
    "workers": {"busy", "idle"},
    "expire_workers": {"busy", "idle"},
}

every_file = pytest.mark.parametrize("path", [*COMMANDS, *SNIPPETS], ids=lambda path: path.stem)
every_command = pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
every_snippet = pytest.mark.parametrize("path", SNIPPETS, ids=lambda path: path.stem)


def code_of(path: Path) -> str:
    """The source without header and comments."""
    text = re.sub(r"\A--\[\[.*?\]\]\n", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"--(?!\[\[).*", "", text)


def header_of(path: Path) -> str:
    found = re.match(r"--\[\[(.*?)\]\]\n", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert found, f"{path.name} has no header"
    return found.group(1)


def groups_of_includes(path: Path) -> list[tuple[str, list[str]]]:
    """Includes that stand together, with their indent: those of the file, and those of functions."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [re.fullmatch(r"( *)--@include (\w+)", line) for line in lines]
    return [
        (indent, [match.group(2) for match in group])
        for indent, group in groupby(found, lambda match: match and match.group(1))
        if indent is not None
    ]


def includes_of(path: Path) -> list[str]:
    return [name for _, group in groups_of_includes(path) for name in group]


def defined_in(path: Path) -> set[str]:
    """Names that a file defines for those who include it."""
    names: set[str] = set()
    for line in re.findall(r"^local (?!function)(.+?)(?: =|$)", code_of(path), flags=re.MULTILINE):
        names.update(re.findall(r"\w+", line))
    return names | set(re.findall(r"^local function (\w+)", code_of(path), flags=re.MULTILINE))


def variables_of(path: Path) -> list[str]:
    """The lines of a snippet that declare what may change."""
    return re.findall(r"^local ((?!function )[a-z].*)$", code_of(path), flags=re.MULTILINE)


def words_of(path: Path) -> set[str]:
    """Names in a file's code, neither in strings nor fields."""
    code = re.sub(r'"[^"]*"', '""', code_of(path))
    return set(re.findall(r"(?<![.\w])[A-Za-z_]\w*", code))


def literals_of(path: Path) -> set[str]:
    return set(re.findall(r'"([^"]*)"', code_of(path)))


def closure_of(path: Path) -> set[str]:
    """Snippets that a file includes, by way of others too."""
    found: set[str] = set()
    todo = includes_of(path)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += includes_of(BY_NAME[name])
    return found


# -- includes --------------------------------------------------------------------------------------------------------


@every_file
def test_includes_exist_sorted_and_once(path):
    groups = groups_of_includes(path)
    includes = includes_of(path)

    assert set(includes) <= set(BY_NAME)
    assert all(names == sorted(set(names)) for _, names in groups)
    assert all(indent for indent, _ in groups[1:]), "the includes of a file stand together"
    assert len(re.findall("@include", path.read_text(encoding="utf-8"))) == len(includes), "one is not on a line alone"


@every_snippet
def test_includes_have_no_cycles(path):
    assert path.stem not in closure_of(path)


@every_file
def test_what_is_included_is_used(path):
    """Variables may also be included for a snippet inside a function, which is to share them with the code outside."""
    unused = {name for name in includes_of(path) if not defined_in(BY_NAME[name]) & words_of(path)}
    inner = {name for indent, group in groups_of_includes(path) if indent for name in group}
    shared = {name for each in inner for name in closure_of(BY_NAME[each]) if variables_of(BY_NAME[name])}

    assert not unused - shared


@every_command
def test_variables_are_held_once(path):
    """A snippet inside a function has functions of its own, but must not have other times or records."""
    text = load_script(path.stem, Settings()).text
    held = re.findall(r"^ *local ([a-z].*)$", text, flags=re.MULTILINE)

    assert not [names for snippet in SNIPPETS for names in variables_of(snippet) if held.count(names) > 1]


@every_file
def test_what_is_used_is_included_by_name(path):
    """So that a reader finds where a name comes from, and a snippet may stop including another without harm."""
    used = {name: defined_in(BY_NAME[name]) & words_of(path) - defined_in(path) for name in closure_of(path)}

    assert {name for name, words in used.items() if words} <= set(includes_of(path))


@every_snippet
def test_what_a_snippet_defines_is_used(path):
    if path.stem in GENERATED:
        names = defined_in(path)
    else:
        code = re.sub(r"^local (function )?[\w, ]+", "", code_of(path), flags=re.MULTILINE)
        names = defined_in(path) - set(re.findall(r"\w+", code))
    elsewhere = {word for other in [*COMMANDS, *SNIPPETS] if other != path for word in words_of(other)}

    assert not names - elsewhere


@every_file
def test_names_of_snippets_are_not_taken_again(path):
    """A local of the same name would hide the snippet's without a word."""
    inherited = {name for snippet in closure_of(path) for name in defined_in(BY_NAME[snippet])}

    assert not defined_in(path) & inherited


def test_names_of_snippets_are_unique():
    names = [name for path in SNIPPETS for name in defined_in(path)]

    assert sorted(names) == sorted(set(names))


# -- headers ---------------------------------------------------------------------------------------------------------


def bound_in(path: Path) -> dict[str, str]:
    """What the body calls each of its keys and arguments: `ARGV[2]` -> `token`."""
    bound = {}
    for names, values in re.findall(r"^local ([\w, ]+) = (.*(?:KEYS|ARGV).*)$", code_of(path), flags=re.MULTILINE):
        bound.update(zip(re.split(r", (?![^(]*\))", values), names.split(", "), strict=False))
    return {re.sub(r"^tonumber\((.*)\)$", r"\1", value): name for value, name in bound.items()}


def parameters_of(path: Path) -> Iterator[tuple[str, int, bool, str]]:
    for table, position, many, name in re.findall(
        r"^(KEYS|ARGV)\[(\d+)(\.\.)?\]\s+(\w+)", header_of(path), re.MULTILINE
    ):
        yield table, int(position), bool(many), name


def test_constants_have_one_value():
    """The loader writes them out wherever their name stands, whichever snippet defines it."""
    values: dict[str, set[str]] = {}
    for path in [*COMMANDS, *SNIPPETS]:
        for name, value in re.findall(r"^ *local ([A-Z_]+) = (.+)$", code_of(path), flags=re.MULTILINE):
            values.setdefault(name, set()).add(path.stem if value == "{" else value)

    assert {name: found for name, found in values.items() if len(found) > 1} == {}


@every_command
def test_header_and_body_name_the_same_parameters(path):
    bound = bound_in(path)
    named = {}
    for table, position, many, name in parameters_of(path):
        if (table, position) == ("KEYS", 1) and name == "meta":
            assert "keys" in closure_of(path)  # where it is bound
        elif name in {"rollout", "rollouts"} and "parse_rollout" in code_of(path):
            assert re.search(rf"parse_rollouts?\({position}\)", code_of(path))  # read by the snippet `requests`
        else:
            named[table if many else f"{table}[{position}]"] = "given" if name == "now" else name

    assert bound == named


@every_command
def test_loops_begin_where_the_header_says(path):
    first = {name: position for table, position, many, name in parameters_of(path) if many}
    loops = re.findall(r"for \w+ = (\d+), #(\w+)", code_of(path))

    assert all(int(start) == first[name] for start, name in loops if name in first)


@every_command
def test_header_describes_answer_and_errors(path):
    header = header_of(path)

    assert re.search(r"^Returns ", header, flags=re.MULTILINE)
    told = set(re.findall(r"[A-Z]+_[A-Z_]+", header.rpartition("Errors:")[2]))
    text = load_script(path.stem, Settings()).text
    used = {"not_found": ["ROLLOUT_NOT_FOUND"], "attempt_not_found": ["ATTEMPT_NOT_FOUND"], "open": ["SCHEMA_MISMATCH"],
            "speaker": ["ROLLOUT_NOT_FOUND", "ATTEMPT_NOT_FOUND"], "check_room": ["QUEUE_FULL"],
            "check_rollout": ["INVALID_REQUEST"], "parse_rollouts": ["INVALID_REQUEST"]}  # fmt: skip
    raised = {code for name, codes in used.items() if name in words_of(path) for code in codes}
    raised |= set(re.findall(r'error_reply\("([A-Z_]+) ', code_of(path)))
    assert told == raised
    assert "error(" not in text.replace("error_reply(", "")


# -- globals, keys, statuses -----------------------------------------------------------------------------------------


@every_command
def test_script_has_no_globals(path):
    found = globals_of(load_script(path.stem, Settings()).text)

    assert not found.written
    assert found.read <= OF_REDIS | OF_LUA


def test_check_of_globals_sees_paths_that_are_not_taken():
    found = globals_of("local function never() if false then surprise = other + 1 end end")

    assert (found.written, found.read) == ({"surprise"}, {"other"})


@every_file
def test_kinds_of_keys_are_documented(path):
    used = {(kind, bool(comma)) for kind, comma in re.findall(r'\bkey\("(\w+)"(,)?', code_of(path))}

    assert used <= {(kind.partition(":")[0], ":" in kind) for kind in KINDS}


@every_file
def test_statuses_are_written_in_one_place(path):
    if path.stem in GENERATED:
        pytest.skip("this is the place")
    allowed = NO_STATUS.get(path.stem, set())
    found = literals_of(path) & STATUSES

    assert found == allowed


@every_file
def test_causes_and_states_are_those_of_the_records(path):
    causes = re.findall(r'log_event\(.*"(\w+)"\)', code_of(path)) + re.findall(r'revive\(.*"(\w+)"\)', code_of(path))

    assert set(causes) <= set(get_args(EventCause))
    if path.stem == "renew":
        assert set(re.findall(r'(?:return|and|or) "(\w+)"', code_of(path))) == set(get_args(LeaseState))


@every_file
def test_scripts_never_scan_and_never_encode(path):
    """Time has to be bounded, and Lua's JSON would spoil numbers and empty lists."""
    commands = set(re.findall(r'redis\.call\("?(\w+)"?', code_of(path)))

    assert not commands & {"KEYS", "SCAN", "HSCAN", "SSCAN", "ZSCAN", "SORT", "RANDOMKEY"}
    assert "cjson" not in code_of(path)
    assert "redis.pcall" not in code_of(path)


# -- sizes -----------------------------------------------------------------------------------------------------------


@every_file
def test_files_are_short(path):
    lines = [line for line in code_of(path).splitlines() if line.strip()]

    assert path.stem in GENERATED or len(lines) <= MOST_LINES[path.parent.name]


@every_file
def test_lines_are_short_and_clean(path):
    text = path.read_text(encoding="utf-8")

    assert all(len(line) <= 120 for line in text.splitlines())
    assert not re.search(r"[ \t]+$", text, flags=re.MULTILINE)
    assert text.endswith("\n")
