"""Reads compiled Lua 5.1: which globals a script reads and writes on any path, taken or not."""

import struct
from dataclasses import dataclass, field
from typing import Any, Final

import lupa.lua51

_GETGLOBAL: Final = 5
_SETGLOBAL: Final = 7
_OPCODE: Final = 0x3F
_CONSTANT_SHIFT: Final = 14
_STRING: Final = 4


@dataclass
class Globals:
    """Names of globals, as a script uses them."""

    read: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)


def globals_of(text: str) -> Globals:
    """The globals of a script; raises lupa's LuaSyntaxError if it cannot be compiled."""
    runtime: Any = lupa.lua51.LuaRuntime(encoding=None)
    dumped = runtime.eval(b"function(text) return string.dump(assert(loadstring(text, '=script'))) end")(text.encode())
    found = Globals()
    _Reader(dumped).function(found)
    return found


class _Reader:
    """The format of luac 5.1 with 4-byte ints, 8-byte sizes and numbers, little-endian: what Linux makes."""

    def __init__(self, data: bytes) -> None:
        assert data[:12] == b"\x1bLua\x51\x00\x01\x04\x08\x04\x08\x00", data[:12]
        self._data = data
        self._at = 12

    def _take(self, format: str) -> Any:
        value = struct.unpack_from("<" + format, self._data, self._at)
        self._at += struct.calcsize("<" + format)
        return value[0] if len(value) == 1 else value

    def _string(self) -> str:
        size = self._take("Q")
        start, self._at = self._at, self._at + size
        return self._data[start : max(start, self._at - 1)].decode("utf-8", "replace")

    def _constant(self) -> Any:
        kind = self._take("B")
        if kind == _STRING:
            return self._string()
        return {0: lambda: None, 1: lambda: bool(self._take("B")), 3: lambda: self._take("d")}[kind]()

    def function(self, found: Globals) -> None:
        self._string()  # source
        self._take("iiBBBB")
        code = [self._take("I") for _ in range(self._take("I"))]
        constants = [self._constant() for _ in range(self._take("I"))]
        for instruction in code:
            names = {_GETGLOBAL: found.read, _SETGLOBAL: found.written}.get(instruction & _OPCODE)
            if names is not None:
                names.add(constants[instruction >> _CONSTANT_SHIFT])
        for _ in range(self._take("I")):
            self.function(found)
        for _ in range(self._take("I")):  # line numbers
            self._take("i")
        for _ in range(self._take("I")):  # local variables
            self._string()
            self._take("ii")
        for _ in range(self._take("I")):  # names of upvalues
            self._string()
