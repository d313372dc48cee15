"""What makes a SQLite file, or a server of ours, fit for a store. Redis has `doctor.py` and `doctor_checks.py`."""

import json
import os
import shutil
import sqlite3
import ssl
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from lightning_store.addresses import is_loopback
from lightning_store.connect import TOKEN_VARIABLE, sqlite_path
from lightning_store.doctor_checks import Finding

LEAST_FREE_BYTES: Final = 1 << 30
ANSWER_SECONDS: Final = 5.0
MEBI: Final = 1 << 20

_NETWORK: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "ceph", "glusterfs"})


def examine_file(url: str) -> tuple[Finding, ...]:
    """Examine the file of a store and its folder; the file is there and is a store."""
    path = sqlite_path(url).absolute()
    return (_journal(path), _integrity(path), _disk(path), _filesystem(path), _readers(path))


def _journal(path: Path) -> Finding:
    mode = _ask(path, "PRAGMA journal_mode")
    if mode == "wal":
        return Finding("journal", "ok", "write-ahead log: readers and one writer at once")
    why = "readers and writers shut each other out, and every commit is slower"
    return Finding("journal", "warning", f"journal mode is {mode}", why, "open it once where a WAL can be written")


def _integrity(path: Path) -> Finding:
    found = _ask(path, "PRAGMA quick_check(1)")
    if found == "ok":
        return Finding("integrity", "ok", "the pages of the file are sound")
    return Finding("integrity", "problem", found, "records may be lost or wrong", f"sqlite3 {path} '.recover'")


def _disk(path: Path) -> Finding:
    free = shutil.disk_usage(path.parent).free
    what = f"{free // MEBI} MiB free where the file is"
    if free >= LEAST_FREE_BYTES:
        return Finding("disk", "ok", what)
    return Finding("disk", "warning", what, "on a full disk new work is refused")


def _filesystem(path: Path) -> Finding:
    kind = _kind_of_mount(path)
    if kind is None:
        return Finding("file system", "unknown", "cannot be told")
    if kind not in _NETWORK:
        return Finding("file system", "ok", f"{kind}, on this machine")
    why = "a write-ahead log needs memory that all processes share: hosts would corrupt the file"
    return Finding("file system", "problem", f"{kind} lies on another machine", why, "keep the file on a local disk")


def _kind_of_mount(path: Path) -> str | None:
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None
    target = path.parent.resolve()
    holding = [(mount[1], mount[2]) for mount in mounts if target.is_relative_to(mount[1])]
    return max(holding, key=lambda mount: len(mount[0]))[1] if holding else None


def _readers(path: Path) -> Finding:
    others = path.stat().st_mode & 0o077
    if not others:
        return Finding("access", "ok", "only its owner can open the file")
    why = "tasks and spans may hold secrets"
    return Finding("access", "warning", "other users of this machine can open the file", why, f"chmod 600 {path}")


def _ask(path: Path, question: str) -> str:
    with closing(sqlite3.connect(path, timeout=ANSWER_SECONDS)) as connection:
        return str(connection.execute(question).fetchone()[0])


def examine_server(url: str) -> tuple[Finding, ...]:
    """Examine a server of ours; it answers, and takes the token."""
    return (_ready(url), _transport(url), _token(url))


def _ready(url: str) -> Finding:
    request = urllib.request.Request(f"{url.rstrip('/')}/ready")  # noqa: S310 - http or https, as was checked
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS, context=_tls(url)) as answer:  # noqa: S310
            json.loads(answer.read())
    except urllib.error.HTTPError as error:
        if error.code == 404:  # noqa: PLR2004
            return Finding("ready", "unknown", "this server does not say whether its store can be reached")
        return Finding("ready", "problem", "the server cannot reach its store", "no call can succeed")
    except (OSError, ValueError) as error:
        return Finding("ready", "problem", f"no answer to /ready: {error}", "no call can succeed")
    return Finding("ready", "ok", "the server reaches its store")


def _tls(url: str) -> ssl.SSLContext | None:
    return ssl.create_default_context() if url.startswith("https:") else None


def _transport(url: str) -> Finding:
    if url.startswith("https:"):
        return Finding("transport", "ok", "encrypted")
    if is_loopback(urlsplit(url).hostname or ""):
        return Finding("transport", "ok", "not encrypted, and does not leave this machine")
    why = "whoever sees the traffic sees tasks, spans and the token"
    return Finding("transport", "warning", "not encrypted", why, "lightning-store serve --tls-cert ... --tls-key ...")


def _token(url: str) -> Finding:
    if os.environ.get(TOKEN_VARIABLE):
        return Finding("token", "ok", "the server takes it")
    if is_loopback(urlsplit(url).hostname or ""):
        return Finding("token", "ok", "none is needed")
    why = "whoever reaches the server can do everything"
    return Finding("token", "warning", "the server asks for none", why, "lightning-store serve --tokens-file FILE")
