"""The routes of OTLP/HTTP: traces are taken, other signals are not."""

import asyncio
import gzip
import logging
from collections.abc import Callable
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from lightning_store.contract import LightningStore
from lightning_store.errors import InvalidRequestError, LightningStoreError
from lightning_store.http.otlp import IncomingSpan, incoming_spans
from lightning_store.http.otlp_bodies import BodyTooLargeError, CorruptBodyError, UnknownEncodingError, read_body
from lightning_store.http.otlp_ingest import store_spans
from lightning_store.http.otlp_messages import ENCODINGS, PROTOBUF, Encoding, encoding_of
from lightning_store.http.protocol import TRACES_PATH

logger = logging.getLogger("lightning_store")

OTHER_PATHS: Final = ("/v1/metrics", "/v1/logs", "/v1/development/profiles")

MAX_BODY_BYTES: Final = 64 << 20
"""Room for a few spans of the largest size that stores take by default, or a thousand of 64 kB."""

RETRY_AFTER_SECONDS: Final = 1
"""What exporters are told to wait at least; they back off further by themselves."""

_TAKEN: Final = " or ".join(encoding.media_type for encoding in ENCODINGS)

_BODY_ERRORS: Final[dict[type[Exception], int]] = {
    BodyTooLargeError: 413, UnknownEncodingError: 415, CorruptBodyError: 400, InvalidRequestError: 400,
}  # fmt: skip

_OFF_LOOP_BYTES: Final = 64 << 10
"""Requests from this size on are converted in a thread: they take about 5 ms, and the way there 0.1 ms."""


_CONVERSIONS_AT_ONCE: Final = 2
"""A message takes many times the memory of a body that is written to be small."""


def otlp_routes(
    store: LightningStore, *, max_body_bytes: int = MAX_BODY_BYTES, admit: Callable[[], object] = lambda: None
) -> list[Route]:
    """Routes that take OTLP traces into a store, and say of other signals that they are not taken.

    Args:
        store: Where spans go.
        max_body_bytes: Most bytes of a request, packed and unpacked.
        admit: Called before a body is read; raises a LightningStoreError where the caller may not send spans.
    """
    turns = asyncio.Semaphore(_CONVERSIONS_AT_ONCE)

    async def traces(request: Request) -> Response:
        answer = await _answer_traces(store, request, max_body_bytes, admit, turns)
        if _takes_gzip(request):
            _pack(answer)
        return answer

    async def not_taken(_request: Request) -> Response:
        return Response(status_code=501)

    return [
        Route(TRACES_PATH, traces, methods=["POST"], name="otlp_traces"),
        *(Route(path, not_taken, methods=["POST"], name=f"otlp_{path.rpartition('/')[2]}") for path in OTHER_PATHS),
    ]


async def _answer_traces(
    store: LightningStore,
    request: Request,
    max_body_bytes: int,
    admit: Callable[[], object],
    turns: asyncio.Semaphore,
) -> Response:
    content_type = request.headers.get("content-type", "")
    encoding = encoding_of(content_type)
    if encoding is None:
        return _error(PROTOBUF, 400, f"Unsupported Content-Type {content_type!r:.100}, expected {_TAKEN}")
    try:
        admit()
        body = await read_body(request.stream(), request.headers, max_body_bytes)
        async with turns:
            incoming, unattributed = await _converted(encoding, body)
    except tuple(_BODY_ERRORS) as error:
        return _error(encoding, _BODY_ERRORS[type(error)], str(error))
    except ClientDisconnect:
        return Response(status_code=400)  # nobody is there to read it
    except LightningStoreError as error:
        return _store_error(encoding, error)
    try:
        rejections = await store_spans(store, incoming, unattributed)
    except LightningStoreError as error:
        return _store_error(encoding, error)
    if rejections.total:
        logger.warning("OTLP spans rejected: %r", str(rejections))
    return Response(encoding.success(rejections.total, str(rejections)), media_type=encoding.media_type)


async def _converted(encoding: Encoding, body: bytes) -> tuple[list[IncomingSpan], int]:
    def convert() -> tuple[list[IncomingSpan], int]:
        return incoming_spans(encoding.read(body))

    return convert() if len(body) < _OFF_LOOP_BYTES else await run_in_threadpool(convert)


def _store_error(encoding: Encoding, error: LightningStoreError) -> Response:
    """The store's own error; one that may pass is told in the way that makes exporters send the request again."""
    answer = _error(encoding, error.http_status, f"{error.code}: {error}")
    if error.retryable:
        answer.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return answer


def _error(encoding: Encoding, status: int, message: str) -> Response:
    logger.warning("OTLP request refused with %d: %r", status, message)
    return Response(encoding.error(message), status, media_type=encoding.media_type)


def _takes_gzip(request: Request) -> bool:
    """Whether the client names gzip; weights are ignored, as the contract says."""
    listed = request.headers.get("accept-encoding", "").split(",")
    return "gzip" in {each.partition(";")[0].strip().lower() for each in listed}


def _pack(answer: Response) -> None:
    answer.body = gzip.compress(bytes(answer.body), mtime=0)
    answer.headers.update({"Content-Encoding": "gzip", "Content-Length": str(len(answer.body))})
