"""Malformed requests whose body is not to blame: queries, methods, paths, headers, framing; and OTLP's."""

import gzip
import json
from collections.abc import Iterator
from typing import Any, Final

from lightning_store.http.routes import ROUTES
from lightning_store.operations import OPERATIONS
from tests.http.malformed_base import (
    API,
    BAD,
    HUNG_UP,
    JSON_TYPE,
    MAX_BODY_BYTES,
    MAX_SPAN_BYTES,
    REFUSED,
    Malformed,
    World,
    body_routes,
    http,
    target_of,
    valid_bodies,
)
from tests.support.otlp import ids, otlp_request, otlp_span

_ATTEMPTS: Final = "/rollouts/{rollout_id}/attempts"


def _bad_queries(world: World) -> Iterator[Malformed]:
    page = ["limit=0", "limit=-2", "limit=x", "limit=1.5", "limit=", "offset=-1", "offset=x", "limit=%ff", "offset=1e3",
            "sort_by=nothing", "sort_by=%00"]  # fmt: skip
    ordered = ["sort_order=sideways", "sort_order="]
    logic = ["filter_logic=xor", "filter_logic=AND"]
    rollout = f"rollout_id={world.rollout_id}"
    table = {
        "/rollouts": [*page, *ordered, *logic, "status_in=done", "status_in=queuing&status_in=", "status_in=%F0"],
        "/workers": [*page, *ordered, *logic, "status_in=asleep"],
        "/resources": [*page, *ordered],
        f"/rollouts/{world.rollout_id}/attempts": [*page, *ordered],
        "/spans": ["", "attempt_id=at-1", *(f"{rollout}&{each}" for each in (*page, *ordered, *logic))],
        "/events": ["limit=x", "limit=1.5"],
    }
    for path, queries in table.items():
        for query in queries:
            data = http("GET", f"{API}{path}?{query}")
            yield Malformed(
                "bad query",
                f"{path.partition(world.rollout_id)[0]}?{query.replace(rollout, 'rollout_id=…')}",
                data,
                REFUSED,
            )


def _wrong_methods(world: World) -> Iterator[Malformed]:
    allowed: dict[str, set[str]] = {}
    for route in ROUTES:
        allowed.setdefault(route.path, set()).add(route.method)
    # What looks like an id to another route has that route's methods too.
    others = {"/rollouts/search": "/rollouts/{rollout_id}", "/workers/search": "/workers/{worker_id}",
              "/rollouts/cancel": "/rollouts/{rollout_id}", "/rollouts/delete": "/rollouts/{rollout_id}",
              "/rollouts/prune": "/rollouts/{rollout_id}", "/resources/latest": "/resources/{resources_id}",
              f"{_ATTEMPTS}/latest": f"{_ATTEMPTS}/{{attempt_id}}"}  # fmt: skip
    ended = {row.path for row in OPERATIONS.values() if row.mutates and row.waits}
    for path, methods in allowed.items():
        known = methods | allowed.get(others.get(path, ""), set()) | ({"DELETE"} if path in ended else set())
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"} - known:
            answer = frozenset({404 if method == "GET" else 405})
            yield Malformed("wrong method", f"{method} {path}", http(method, target_of(path, world)), answer)


def _wrong_paths(world: World) -> Iterator[Malformed]:
    missing = frozenset({404})
    for path in ("/", "/rollout", "/rollouts/", "/rollouts/x/y", "/spans/", "/spans/x", "/queues/rollouts", "/v1",
                 "/../agl/rollouts", "/%2e%2e/rollouts", "//rollouts", "/waits", "/upkeep", "/statistics/", "/%00",
                 f"/rollouts/{world.rollout_id}/attempts/{world.attempt_id}/more", "/workers/a/b/c"):  # fmt: skip
        for method in ("GET", "POST"):
            data = http(method, API + path, b"{}" if method == "POST" else None)
            yield Malformed("wrong path", f"{method} {path.replace(world.rollout_id, '…')[:40]}", data, missing | {405})
    yield Malformed(
        "wrong path", "over-long", http("GET", f"{API}/rollouts/{'x' * 60_000}"), frozenset({400, 414, 431})
    )
    yield Malformed(
        "wrong path", "over-long query", http("GET", f"{API}/rollouts?a={'x' * 60_000}"), frozenset({400, 414, 431})
    )


def _bad_encodings(world: World) -> Iterator[Malformed]:
    whole = gzip.compress(b'{"input": 1}')
    kinds: list[tuple[str, str, bytes, int]] = [
        ("no gzip", "gzip", b'{"input": 1}', 400), ("cut gzip", "gzip", whole[:-6], 400),
        ("wrong checksum", "gzip", whole[:-8] + b"\0\0\0\0" + whole[-4:], 400), ("unknown", "br", b"{}", 415),
        ("twice", "gzip, gzip", gzip.compress(whole), 415), ("more behind it", "gzip", whole + b"more", 400),
    ]  # fmt: skip
    for route in body_routes():
        for what, encoding, body, status in kinds:
            data = http("POST", target_of(route.path, world), body, {**JSON_TYPE, "Content-Encoding": encoding})
            yield Malformed("bad encoding", f"{route.path}: {what}", data, frozenset({status}))


def _bad_headers(world: World) -> Iterator[Malformed]:
    body = json.dumps({"input": 1}).encode()
    strange = {
        "another machine's Host": (b"Host: evil.example\r\n", {400, 403}),
        "a page of another machine": (b"Host: 127.0.0.1\r\nOrigin: https://evil.example\r\n", {403}),
        "no Host": (b"", {400, 403}),
        "headers without end": (b"Host: 127.0.0.1\r\nX-Long: " + b"x" * 60_000 + b"\r\n", {400, 431}),
        "many headers": (b"Host: 127.0.0.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(6000)), {400, 431}),
        "a header that is none": (b"Host: 127.0.0.1\r\nno colon here\r\n", {400}),
        "NUL in a header": (b"Host: 127.0.0.1\r\nX-A: a\0b\r\n", {400}),
        "a name with a blank": (b"Host: 127.0.0.1\r\nX A: b\r\n", {400}),
    }
    for what, (headers, statuses) in strange.items():
        start = f"POST {API}/rollouts HTTP/1.1\r\nContent-Type: application/json\r\nConnection: close\r\n".encode()
        data = start + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body
        yield Malformed("bad header", what, data, frozenset(statuses))


def _bad_keys(world: World) -> Iterator[Malformed]:
    """Calls that name themselves, for repeats, in a way that no client of ours does."""
    for route in body_routes():
        if not route.codec.operation.mutates:
            continue
        body = json.dumps(valid_bodies(world)[route.codec.operation.name]).encode()
        for key in ("x", "0" * 31, "0" * 33, "G" * 32, "0" * 31 + "\xff", ""):
            data = http("POST", target_of(route.path, world), body, {**JSON_TYPE, "Idempotency-Key": key})
            yield Malformed("bad key of a repeat", f"{route.path}: {key!r:.40}", data, BAD)


def _bad_ends(world: World) -> Iterator[Malformed]:
    """Calls that wait are ended by their key, and by nothing else."""
    for row in OPERATIONS.values():
        if row.path is not None and row.mutates and row.waits:
            yield Malformed(
                "bad key of a repeat", f"end of {row.name} without one", http("DELETE", target_of(row.path, world)), BAD
            )


def _bad_framing(world: World) -> Iterator[Malformed]:
    start = f"POST {API}/rollouts HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n".encode()
    body = json.dumps({"input": 1}).encode()
    closed = frozenset({400, HUNG_UP})
    pieces = {
        "no HTTP": b"hello\r\n\r\n",
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 64 + b"\r\n\r\n",
        "another version": b"GET / HTTP/9.9\r\n\r\n", "a method that is none": b"G@T / HTTP/1.1\r\nHost: x\r\n\r\n",
        "negative length": start + b"Content-Length: -5\r\n\r\n" + body,
        "length in words": start + b"Content-Length: many\r\n\r\n" + body,
        "two lengths": start + b"Content-Length: 5\r\nContent-Length: 12\r\n\r\n" + body,
        "enormous length": start + b"Content-Length: 99999999999999999999999\r\n\r\n" + body,
        "length and chunks": start + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "chunk that is none": start + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + body + b"\r\n0\r\n\r\n",
        "negative chunk": start + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        "blank in the target": b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
        "control character in the target": b"GET /a\x01b HTTP/1.1\r\nHost: x\r\n\r\n",
    }  # fmt: skip
    for what, data in pieces.items():
        yield Malformed("not HTTP", what, data, closed | {413} if what == "enormous length" else closed)


# -- OTLP --------------------------------------------------------------------------------------------------------------


def _otlp(body: bytes, kind: str = "application/x-protobuf", path: str = "/v1/traces", **headers: str) -> bytes:
    return http("POST", path, body, {"Content-Type": kind, **{k.replace("_", "-"): v for k, v in headers.items()}})


def _otlp_garbage(world: World) -> Iterator[Malformed]:
    good = otlp_request([otlp_span(1)], ids(world.rollout_id, world.attempt_id)).SerializeToString()
    as_json = "application/json"
    kinds: list[tuple[str, bytes, int]] = [
        ("text/plain", _otlp(good, "text/plain"), 400), ("octets", _otlp(good, "application/octet-stream"), 400),
        ("no content type", _otlp(good, ""), 400), ("garbage", _otlp(b"\xff" * 40), 400),
        ("cut", _otlp(good[:-3]), 400), ("JSON as protobuf", _otlp(b'{"resourceSpans": []}'), 400),
        ("protobuf as JSON", _otlp(good, as_json), 400), ("bad JSON", _otlp(b"{", as_json), 400),
        ("list", _otlp(b"[]", as_json), 400), ("deep", _otlp(b'{"a":' * 50_000, as_json), 400),
        ("wrong id", _otlp(b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"zz"}]}]}]}', as_json), 400),
        ("no list", _otlp(b'{"resourceSpans": 5}', as_json), 400), ("not UTF-8", _otlp(b'{"\xff": 1}', as_json), 400),
        ("no gzip", _otlp(good, Content_Encoding="gzip"), 400), ("brotli", _otlp(good, Content_Encoding="br"), 415),
        ("cut gzip", _otlp(gzip.compress(good)[:-5], Content_Encoding="gzip"), 400),
        ("large", _otlp(b"x" * (MAX_BODY_BYTES + 1)), 413),
        ("bomb", _otlp(gzip.compress(bytes(64 * MAX_BODY_BYTES)), Content_Encoding="gzip"), 413),
        *((path, _otlp(good, path=path), 501) for path in ("/v1/metrics", "/v1/logs", "/v1/development/profiles")),
        *((f"{method} /v1/traces", http(method, "/v1/traces"), 405) for method in ("GET", "PUT", "DELETE", "PATCH")),
    ]  # fmt: skip
    for twentieth in range(20):
        place = len(good) * twentieth // 20
        kinds.append((f"cut at {place}", _otlp(good[:place] + b"\x0b"), 400))
    for what, data, status in kinds:
        yield Malformed("OTLP garbage", what, data, frozenset({status}))


def _otlp_rejects(world: World) -> Iterator[Malformed]:
    """These are requests, but have no span that can be stored; the answer says so."""
    mine = ids(world.rollout_id, world.attempt_id)
    spans: dict[str, dict[str, Any]] = {
        "no ids": {}, "no attempt": {"agentlightning.rollout_id": world.rollout_id},
        "list as id": {**mine, "agentlightning.rollout_id": ["a"]},
        "unknown rollout": ids("ro-unknown", "at-1"), "unknown attempt": ids(world.rollout_id, "at-unknown"),
        "control characters": ids("a\nb\0", "\x1b"), "empty ids": ids("", ""),
        "null ids": {**mine, "agentlightning.attempt_id": None},
        "too large": {**mine, "text": "x" * MAX_SPAN_BYTES},
    }  # fmt: skip
    for what, attributes in spans.items():
        data = _otlp(otlp_request([otlp_span(1, attributes)]).SerializeToString())
        yield Malformed("OTLP, all spans rejected", what, data, frozenset({200}))


ENVELOPES: Final = (
    _bad_queries, _wrong_methods, _wrong_paths, _bad_encodings, _bad_headers, _bad_keys, _bad_ends, _bad_framing,
    _otlp_garbage, _otlp_rejects,
)  # fmt: skip
