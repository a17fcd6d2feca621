"""Health and metrics, on a port of their own that is not for clients."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


def admin_app(registry: CollectorRegistry, not_ready: Callable[[], str | None]) -> Starlette:
    """Return the application of the admin port.

    Args:
        registry: what ``/metrics`` shows.
        not_ready: says why requests should go elsewhere at present; None while they are welcome.
    """

    async def live(request: Request) -> Response:  # noqa: ARG001 - the signature is Starlette's
        return JSONResponse({"status": "live"})

    async def ready(request: Request) -> Response:  # noqa: ARG001
        reason = not_ready()
        if reason is not None:
            return JSONResponse({"status": "not ready", "reason": reason}, status_code=503)
        return JSONResponse({"status": "ready"})

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    return Starlette(
        routes=[
            Route("/health/live", live),
            Route("/health/ready", ready),
            Route("/metrics", metrics),
        ]
    )
