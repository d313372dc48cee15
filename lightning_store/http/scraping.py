"""Metrics of the server for Prometheus: `/metrics`, and `/v1/prometheus/` where Agent Lightning 0.3 has them."""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from lightning_store.http.access import REQUEST
from lightning_store.http.refusals import forbidden
from lightning_store.http.tokens import allows

METRICS_PATHS: Final = frozenset({"/metrics", "/v1/prometheus", "/v1/prometheus/"})
_METHODS: Final = frozenset({"GET", "HEAD"})


class Scraping:
    """Answers whoever may read; stands where the caller's role is known and requests are not counted yet.

    So an overloaded server can be seen to be one.
    """

    def __init__(self, app: ASGIApp, metrics: ASGIApp) -> None:
        """Set up.

        Args:
            app: What answers all other paths.
            metrics: Answers with the metrics.
        """
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, pass it on, or refuse it."""
        request = REQUEST.get()
        if request is None or scope["path"] not in METRICS_PATHS or scope["method"] not in _METHODS:
            await self._app(scope, receive, send)
        elif request.role is None or not allows(request.role, "read"):
            raise forbidden("metrics need a token with the role read")
        else:
            await self._metrics(scope, receive, send)
