"""The routes of OTLP/HTTP: traces are taken, other signals are not."""

import asyncio
import gzip
import logging
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Final, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lightning_store.contract import LightningStore
from lightning_store.errors import InternalStoreError, InvalidRequestError, LightningStoreError
from lightning_store.http.calls import whole_body
from lightning_store.http.otlp import incoming_spans
from lightning_store.http.otlp_ingest import Rejections, next_batch, store_spans
from lightning_store.http.otlp_messages import ENCODINGS, Encoding, encoding_of, refusal
from lightning_store.http.protocol import OTHER_OTLP_PATHS, TRACES_PATH

logger = logging.getLogger("lightning_store")

T = TypeVar("T")

RETRY_AFTER_SECONDS: Final = 1
"""What exporters are told to wait at least; they back off further by themselves."""

_TAKEN: Final = " or ".join(encoding.media_type for encoding in ENCODINGS)

_OFF_LOOP_BYTES: Final = 64 << 10
"""Requests from this size on are converted in a thread: they take about 5 ms, and the way there 0.1 ms."""

_CONVERSIONS_AT_ONCE: Final = 2
"""Several would only wait for each other's turn in the interpreter, each with what it has made so far."""


def otlp_routes(
    store: LightningStore, *, counted: Callable[[], AbstractContextManager[object]] = nullcontext
) -> list[Route]:
    """Routes that take OTLP traces into a store, and say of other signals that they are not taken.

    Bodies come unpacked, and of a size that may be; whoever sends them may send spans.

    Args:
        store: Where spans go.
        counted: Entered for each request for traces; what is raised within is what becomes of the request.
    """
    turns = asyncio.Semaphore(_CONVERSIONS_AT_ONCE)

    async def traces(request: Request) -> Response:
        answer = await _answer(store, request, counted, turns)
        if _takes_gzip(request):
            _pack(answer)
        return answer

    async def not_taken(_request: Request) -> Response:
        return Response(status_code=501)

    return [
        Route(TRACES_PATH, traces, methods=["POST"], name="otlp_traces"),
        *(
            Route(path, not_taken, methods=["POST"], name=f"otlp_{path.rpartition('/')[2]}")
            for path in OTHER_OTLP_PATHS
        ),
    ]


async def _answer(
    store: LightningStore,
    request: Request,
    counted: Callable[[], AbstractContextManager[object]],
    turns: asyncio.Semaphore,
) -> Response:
    content_type = request.headers.get("content-type", "")
    body = await whole_body(request.receive)
    try:
        with counted():
            encoding = _encoding(content_type)
            rejections = await _take(store, encoding, body, turns)
    except LightningStoreError as error:
        _let_go(error)
        return _refused(content_type, error)
    except Exception as error:
        logger.exception("An OTLP request failed")
        _let_go(error)
        return _refused(content_type, InternalStoreError("Internal server error"))
    if rejections.total:
        logger.warning("OTLP spans rejected: %r", str(rejections))
    return Response(encoding.success(rejections.total, str(rejections)), media_type=encoding.media_type)


def _encoding(content_type: str) -> Encoding:
    encoding = encoding_of(content_type)
    if encoding is None:
        raise InvalidRequestError(f"Unsupported Content-Type {content_type!r:.100}, expected {_TAKEN}")
    return encoding


async def _take(store: LightningStore, encoding: Encoding, body: bytes, turns: asyncio.Semaphore) -> Rejections:
    """Store what a body has, batch by batch, after all of it was found to be sound."""

    async def convert(work: Callable[[], T]) -> T:
        async with turns:
            return work() if len(body) < _OFF_LOOP_BYTES else await run_in_threadpool(work)

    spans = incoming_spans(await convert(partial(encoding.read, body)))
    rejections = Rejections()
    while batch := await convert(partial(next_batch, spans)):
        await store_spans(store, batch, rejections)
    return rejections


def _let_go(error: BaseException) -> None:
    """Drop what the steps that led to an error still hold: all that was sent, until the next look for cycles."""
    each: BaseException | None = error
    while each is not None:
        traceback.clear_frames(each.__traceback__)
        each = each.__context__


def _refused(content_type: str, error: LightningStoreError) -> Response:
    """The answer to a request that failed; a failure that may pass is told so that exporters send it again."""
    logger.warning("OTLP request refused with %d: %r", error.http_status, str(error))
    media_type, body = refusal(content_type, type(error), str(error))
    answer = Response(body, error.http_status, media_type=media_type)
    if error.retryable:
        answer.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return answer


def _takes_gzip(request: Request) -> bool:
    """Whether the client names gzip; weights are ignored, as the contract says."""
    listed = request.headers.get("accept-encoding", "").split(",")
    return "gzip" in {each.partition(";")[0].strip().lower() for each in listed}


def _pack(answer: Response) -> None:
    answer.body = gzip.compress(bytes(answer.body), mtime=0)
    answer.headers.update({"Content-Encoding": "gzip", "Content-Length": str(len(answer.body))})
