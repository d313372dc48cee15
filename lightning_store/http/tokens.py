"""Bearer tokens and their roles: where they come from, and whose a given one is.

Only digests are kept, so that no dump, pickle, log or error of the server can tell a token.
"""

import hashlib
import hmac
import logging
import os
import stat
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, get_args

from lightning_store.errors import InvalidRequestError
from lightning_store.operations import Role

logger = logging.getLogger("lightning_store")

ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""Each may do all that those before it may."""

_ROLE_OF: Final[Mapping[str, Role]] = {role: role for role in ROLES}

TOKENS_VARIABLE: Final = "LIGHTNING_STORE_TOKENS"
SHORTEST_TOKEN: Final = 16
LOOK_SECONDS: Final = 1.0
"""How often a file is looked at, at most: so soon a rotation is seen."""

_OTHERS_MAY_READ: Final = stat.S_IRGRP | stat.S_IROTH
_EXPECTED: Final = f"expected `role token` or `role:token` with a role of {', '.join(ROLES)}"
_PRINTABLE: Final = range(0x21, 0x7F)


def allows(has: Role, needs: Role) -> bool:
    """Whether who has one role may do what needs another."""
    return ROLES.index(has) >= ROLES.index(needs)


class Tokens:
    """The tokens that a server accepts; several may have the same role, which is how they are rotated.

    A file is read again when it changes. If it cannot be read then, or has a mistake, the tokens that were known go on
    to count, and the log says so.
    """

    def __init__(self, roles: Iterable[tuple[Role, str]] = (), *, file: str | os.PathLike[str] | None = None) -> None:
        """Read the file, if there is one.

        Args:
            roles: Roles and tokens that hold for as long as this object lives.
            file: File with one `role token` per line, for more; empty lines and what follows `#` at the start of a line
                do not count.

        Raises:
            InvalidRequestError: A role or token cannot be accepted, the file cannot be read or has no tokens.
        """
        self._fixed = _digests(roles)
        self._file = None if file is None else Path(file)
        self._set_up()
        if self._file is not None:
            self._digests = self._read(self._file)

    def _set_up(self) -> None:
        self._lock = threading.Lock()
        self._digests = self._fixed
        self._state: tuple[int, ...] | None = None
        self._looked_at = time.monotonic()
        self._complaint = ""

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] = os.environ) -> "Tokens | None":
        """The tokens in the variable `LIGHTNING_STORE_TOKENS`, `role:token` with spaces between; None if it is not set.

        Raises:
            InvalidRequestError: It cannot be read; the message has no token.
        """
        text = variables.get(TOKENS_VARIABLE, "").strip()
        if not text:
            return None
        return cls(_parse(word, f"{TOKENS_VARIABLE}, number {index}") for index, word in enumerate(text.split(), 1))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._digests)} of them)"

    def __getstate__(self) -> dict[str, Any]:
        return {"fixed": self._fixed, "file": self._file, "digests": self._digests}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._fixed, self._file = state["fixed"], state["file"]
        self._set_up()
        self._digests = state["digests"]
        self._looked_at = float("-inf")

    def with_one_more(self, role: Role, token: str) -> "Tokens":
        """These tokens, from the same file, and another."""
        more = Tokens()
        more.__setstate__(self.__getstate__())
        added = _digests([(role, token)])
        more._fixed, more._digests = {**self._fixed, **added}, {**self._digests, **added}
        return more

    def role_of(self, token: str) -> Role | None:
        """The role of a token; None if it is not known. Takes as long for a wrong one as for any other."""
        self._look()
        digest = _digest(token)
        found: Role | None = None
        for known, role in self._digests.items():
            if hmac.compare_digest(known, digest):
                found = role
        return found

    def _look(self) -> None:
        """Read the file again if it has changed."""
        now = time.monotonic()
        if self._file is None or now - self._looked_at < LOOK_SECONDS:
            return
        with self._lock:
            self._looked_at = now
            try:
                if _state_of(self._file) == self._state:
                    return
                self._digests = self._read(self._file)
            except (OSError, InvalidRequestError) as error:
                self._state, complaint = None, str(error)
                if complaint != self._complaint:
                    logger.error("%s; the tokens of before still count", complaint)  # noqa: TRY400 - it says it all
                self._complaint = complaint
            else:
                self._complaint = ""
                logger.warning("tokens were read again, there are %d", len(self._digests))

    def _read(self, file: Path) -> dict[bytes, Role]:
        try:
            self._state = state = _state_of(file)
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise InvalidRequestError(f"tokens file {file}: {reason}") from None
        if state[-1] & _OTHERS_MAY_READ:
            logger.warning("tokens file %s can be read by others: chmod 600", file)
        lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
        wanted = [(number, line) for number, line in lines if line and not line.startswith("#")]
        if not wanted:
            raise InvalidRequestError(f"tokens file {file}: there is no token in it; {_EXPECTED}")
        roles = [_parse(line, f"tokens file {file}, line {number}") for number, line in wanted]
        return {**_digests(roles), **self._fixed}


def _state_of(file: Path) -> tuple[int, ...]:
    found = file.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode


def _parse(text: str, where: str) -> tuple[Role, str]:
    """Role and token of one entry. Messages never quote it: any part of it may be a token.

    Raises:
        InvalidRequestError: It is none.
    """
    parts = text.split() if len(text.split()) > 1 else text.split(":", 1)
    if len(parts) != 2:  # noqa: PLR2004 - a role and a token
        raise InvalidRequestError(f"{where}: {_EXPECTED}")
    name, token = parts[0].rstrip(":"), parts[1]
    role = _ROLE_OF.get(name)
    if role is None:
        raise InvalidRequestError(f"{where}: {_EXPECTED}")
    check_token(token, where)
    return role, token


def check_token(token: str, where: str) -> None:
    """Refuse a token that is easily guessed or that no header can carry.

    Raises:
        InvalidRequestError: See above; the message does not quote it.
    """
    if len(token) < SHORTEST_TOKEN or not all(ord(char) in _PRINTABLE for char in token):
        raise InvalidRequestError(
            f"{where}: expected a token of at least {SHORTEST_TOKEN} letters, digits and signs, such as "
            "`openssl rand -hex 32` makes"
        )


def _digests(roles: Iterable[tuple[Role, str]]) -> dict[bytes, Role]:
    """Digests of tokens, with their roles.

    Raises:
        InvalidRequestError: A role is none, a token cannot be accepted, or one token has two roles.
    """
    digests: dict[bytes, Role] = {}
    for role, token in roles:
        if role not in ROLES:
            raise InvalidRequestError(f"role of a token: expected one of {', '.join(ROLES)}")
        check_token(token, "token")
        if digests.setdefault(_digest(token), role) != role:
            raise InvalidRequestError("tokens: one of them has two roles")
    return digests


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
