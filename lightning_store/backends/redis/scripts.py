"""Loads the Lua scripts, joins them with the snippets that they include, and calls them by names in their headers.

The server runs the whole text at every call, and defining a function costs it about as much as half a command. So a
script gets only what it uses: functions that nothing mentions are left out, constants are written out where they are
mentioned, and a snippet that is included inside a function is defined when that function runs.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

from lightning_store.backends.redis.keys import SCHEMA

Argument = str | bytes | int
_ONE: Final = frozenset({str, bytes, int})

_PARAMETER: Final = re.compile(r"^(KEYS|ARGV)\[(\d+)(\.\.)?\]\s+(\w+)", re.MULTILINE)
_INCLUDE: Final = re.compile(r"^( *)--@include (\w+)\n", re.MULTILINE)
_HEADER: Final = re.compile(r"\A--\[\[.*?\]\]\n", re.DOTALL)
_UNREAD: Final = re.compile(r"^ *(?:--(?!@).*)?\n| *--(?!@).*", re.MULTILINE)
_VARIABLE: Final = re.compile(r"^local (?!function )[a-z]", re.MULTILINE)
_DEFINITION: Final = re.compile(
    r"^(?P<indent> *)local (?:function (?P<function>\w+)\(.*\n(?:.*\n)*?(?P=indent)end\n"
    r"|(?P<constant>[A-Z_]+) = (?:\{\n(?:.*\n)*?(?P=indent)\}\n|.*\n))",
    re.MULTILINE,
)
_CONSTANT: Final = re.compile(r"^ *local ([A-Z_]+) = (\"[^\"]*\"|[\d.]+|true)\n", re.MULTILINE)
_TABLE: Final = re.compile(r"^ *local ([A-Z_]+) = \{\s*((?:\w+ = (?:\"[^\"]*\"|true),?\s*)+)\}\n", re.MULTILINE)
_ENTRY: Final = re.compile(r"(\w+) = (\"[^\"]*\"|true)")
_LOOKUP: Final = re.compile(r"\b([A-Z_]+)\[([\w.]+)\]")
_KEY: Final = re.compile(r"(?<![.\w])key\(\"(\w+)\"(?:, ((?:[\w.]|\"[^\"]*\"| )+))?\)")
_MODE: Final = re.compile(r"= open\(given, (.+)\)")
_WRITE: Final = re.compile(r'redis\.call\("(?:DEL|SADD|SET|XADD|XDEL)"')
_NAME: Final = re.compile(r'"[^"]*"|(?<![.\w])[A-Za-z_]\w*')


@dataclass(frozen=True)
class Settings:
    """What all scripts of a store share; every client of a namespace must use the same values.

    Attributes:
        grace_seconds: An outage longer than this extends the leases that come due after it.
        token_seconds: How long answers are kept for calls that are sent again.
        events_kept: About how many events are kept.
    """

    grace_seconds: float = 15.0
    token_seconds: int = 240
    events_kept: int = 10_000

    def render(self) -> str:
        """The lines of Lua that stand before every script."""
        return (
            f'local SCHEMA = "{SCHEMA}"\nlocal GRACE_SECONDS = {self.grace_seconds!r}\n'
            f"local TOKEN_SECONDS = {self.token_seconds}\nlocal EVENTS_KEPT = {self.events_kept}\n"
        )


@dataclass(frozen=True)
class Script:
    """One command of the store.

    Attributes:
        keys: Names of its keys, in order; so `arguments`.
        rest: Name of the last key or argument if it takes any number of values; None if none does.
        writes: Whether it is called to write something. Reading scripts may settle what is due in passing.
    """

    name: str
    text: str
    sha: str
    keys: tuple[str, ...]
    arguments: tuple[str, ...]
    rest: frozenset[str]
    writes: bool

    def call(self, **values: Argument | Iterable[Argument]) -> "Call":
        """The call with these keys and arguments, by the names in the header.

        Raises:
            TypeError: A name is missing or unknown.
        """
        if values.keys() != self._names:
            raise TypeError(f"{self.name} takes {sorted(self._names)}, got {sorted(values)}")
        keys = self._flatten(self.keys, values)
        return Call(self, (len(keys), *keys, *self._flatten(self.arguments, values)))

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset((*self.keys, *self.arguments))

    def _flatten(self, names: tuple[str, ...], values: dict[str, Argument | Iterable[Argument]]) -> list[Any]:
        """The values of these names, of which the last may have several."""
        flat = [values[name] for name in names]
        rest = flat.pop() if names and names[-1] in self.rest else ()
        are_single = _ONE.issuperset(map(type, flat)) or all(isinstance(value, Argument) for value in flat)
        assert are_single, names  # noqa: S101 - a slip of our own code
        assert not isinstance(rest, Argument), names  # noqa: S101 - a slip of our own code
        return [*flat, *rest]


class Call(NamedTuple):
    """A script with its keys and arguments.

    Attributes:
        script: The script.
        tail: The number of keys, the keys, the arguments.
        is_awaited: Whether replicas have to confirm what it writes, where the store wants that.
    """

    script: Script
    tail: tuple[Argument, ...]
    is_awaited: bool = True

    @property
    def by_sha(self) -> tuple[Argument, ...]:
        """The command that runs the cached script."""
        return ("EVALSHA", self.script.sha, *self.tail)

    @property
    def again(self) -> "Call":
        """The same call, marked as sent before, if its script wants to know: the first may arrive after this one."""
        if "again" not in self.script.arguments:
            return self
        at = 1 + int(self.tail[0]) + self.script.arguments.index("again")
        return self._replace(tail=(*self.tail[:at], "1", *self.tail[at + 1 :]))

    @property
    def unawaited(self) -> "Call":
        """The same call, done when the primary has carried it out."""
        return self._replace(is_awaited=False)

    @property
    def writes(self) -> bool:
        """Whether it is sent to write something; a script that may repair does so when told to."""
        if "repair" not in self.script.arguments:
            return self.script.writes
        return self.tail[1 + int(self.tail[0]) + self.script.arguments.index("repair")] != ""

    @property
    def by_text(self) -> tuple[Argument, ...]:
        """The command that sends the script along, and thereby caches it."""
        return ("EVAL", self.script.text, *self.tail)


class Scripts(dict[str, Script]):
    """Scripts by name, rendered for one choice of settings; each is loaded when first asked for."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings

    def __missing__(self, name: str) -> Script:
        script = self[name] = load_script(name, self._settings)
        return script


@cache
def lua_folder() -> Path:
    """Where the scripts are: inside the installed package, or in the checkout of an editable install."""
    package = Path(__file__).parents[2]
    for folder in (package / "lua", package.parent / "lua"):
        if (folder / "shared").is_dir():
            return folder
    raise FileNotFoundError(f"no Lua scripts in {package} or beside it; the installation is incomplete")


@cache
def load_script(name: str, settings: Settings) -> Script:
    """One script with its includes and settings."""
    source = (lua_folder() / f"{name}.lua").read_text(encoding="utf-8")
    header = _HEADER.match(source)
    if header is None:
        raise ValueError(f"{name}.lua has no header")
    code = _expand(_UNREAD.sub("", source[header.end() :]), set())
    text, _ = _prune(_write_out(settings.render() + code))
    parameters = _PARAMETER.findall(header.group())
    return Script(
        name=name,
        text=text,
        sha=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(),
        keys=_names(parameters, "KEYS", name),
        arguments=_names(parameters, "ARGV", name),
        rest=frozenset(parameter for _, _, many, parameter in parameters if many),
        writes=_writes(text),
    )


def _writes(code: str) -> bool:
    """Whether a script is called to write: by how it opens the namespace, or, in a slot of spans, by its commands."""
    modes = _MODE.findall(code)
    return any(mode != '"read"' for mode in modes) if modes else _WRITE.search(code) is not None


def _names(parameters: list[tuple[str, str, str, str]], table: str, script: str) -> tuple[str, ...]:
    mine = [(int(position), name) for kind, position, _, name in parameters if kind == table]
    if [position for position, _ in mine] != list(range(1, len(mine) + 1)):
        raise ValueError(f"{script}.lua: the header must number its {table} from 1 without gaps")
    return tuple(name for _, name in mine)


def _expand(source: str, known: set[str]) -> str:
    """Replace includes by the snippets, each once, where it is asked for first.

    An include inside a function is pasted there, and with it all that it includes itself, though it may stand outside
    too: a function costs least where it is not defined. Only variables are shared with the code outside.
    """

    def paste(match: re.Match[str]) -> str:
        indent, name = match.groups()
        if indent:
            shared = {outer for outer in known if _VARIABLE.search(_snippet(outer))}
            return "".join(indent + line for line in _expand(f"--@include {name}\n", shared).splitlines(keepends=True))
        if name in known:
            return ""
        known.add(name)
        return _expand(_snippet(name), known)

    return _INCLUDE.sub(paste, source)


def _snippet(name: str) -> str:
    return _code_of(lua_folder() / "shared" / f"{name}.lua")


@cache
def _code_of(snippet: Path) -> str:
    return _UNREAD.sub("", snippet.read_text(encoding="utf-8"))


def _write_out(text: str) -> str:
    """Put constants where they are mentioned, for one that a function takes from outside costs half a definition.

    A look-up in a constant table becomes comparisons, which are many times cheaper than making the table; and a plain
    call of key(), see lua/shared/keys.lua, becomes what it returns.
    """
    constants = dict(_CONSTANT.findall(text))
    tables = {name: _ENTRY.findall(entries) for name, entries in _TABLE.findall(text)}

    def compare(match: re.Match[str]) -> str:
        name, key = match.groups()
        if name not in tables:
            return match.group()
        return "(" + "".join(f'{key} == "{field}" and {value} or ' for field, value in tables[name]) + "nil)"

    def join(match: re.Match[str]) -> str:
        kind, id = match.groups()
        return f'(PREFIX .. "{kind}:" .. ({id}))' if id else f'(PREFIX .. "{kind}")'

    text = _KEY.sub(join, _LOOKUP.sub(compare, _CONSTANT.sub("", text)))
    return _NAME.sub(lambda match: constants.get(match.group(), match.group()), text)


def _prune(text: str) -> tuple[str, set[str]]:
    """Leave out functions and constants that nothing behind them in their block mentions.

    Returns:
        What is left, and the names that it takes from the code before it.
    """
    kept: list[str] = []
    names = _Names()
    end = len(text)
    for match in reversed([*_DEFINITION.finditer(text)]):
        kept.append(text[match.end() : end])
        names.mention(kept[-1])
        end = match.start()
        name = match["function"] or match["constant"]
        if names.define(name, match["indent"]):
            first, rest = match.group().split("\n", 1)
            body, used = _prune(rest)
            kept.append(f"{first}\n{body}")
            names.add(used | set(_NAME.findall(first)) - {name})
    kept.append(text[:end])
    names.mention(kept[-1])
    return "".join(reversed(kept)), names.all()


class _Names:
    """The names that code mentions, block by block as its indent tells, while it is read from its end."""

    def __init__(self) -> None:
        self._blocks: list[tuple[str, set[str]]] = [("", set())]

    def mention(self, code: str) -> None:
        """Read these lines."""
        for line in reversed(code.splitlines()):
            self._enter(line[: len(line) - len(line.lstrip(" "))])
            self.add(set(_NAME.findall(line)))

    def define(self, name: str, indent: str) -> bool:
        """Read a definition; whether its block has mentioned the name, which code before it then cannot mean."""
        self._enter(indent)
        _, names = self._blocks[-1]
        is_used = name in names
        names.discard(name)
        return is_used

    def add(self, names: set[str]) -> None:
        """Names that the present line mentions."""
        self._blocks[-1][1].update(names)

    def all(self) -> set[str]:
        """All that is mentioned, and not defined before it is."""
        return set().union(*(names for _, names in self._blocks))

    def _enter(self, indent: str) -> None:
        """Go on in the block of this indent: blocks that are deeper begin here, and were part of it."""
        while indent < self._blocks[-1][0]:
            _, inner = self._blocks.pop()
            if indent > self._blocks[-1][0]:
                self._blocks.append((indent, set()))
            self.add(inner)
        if indent > self._blocks[-1][0]:
            self._blocks.append((indent, set()))
