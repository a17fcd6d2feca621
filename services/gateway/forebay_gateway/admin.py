"""Health and metrics, on a port of their own that is not for clients."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from forebay_gateway import problems
from forebay_gateway.http import Application, Request
from forebay_gateway.response import Response

LIVE, READY, METRICS = "/health/live", "/health/ready", "/metrics"


def admin_app(registry: CollectorRegistry, not_ready: Callable[[], str | None]) -> Application:
    """Return the application of the admin port.

    Args:
        registry: what ``/metrics`` shows.
        not_ready: says why requests should go elsewhere at present; None while they are welcome.
    """

    def ready() -> Response:
        reason = not_ready()
        if reason is not None:
            return _json(503, {"status": "not ready", "reason": reason})
        return _json(200, {"status": "ready"})

    def metrics(accept: str) -> Response:
        encode, content_type = choose_encoder(accept)
        return Response(200, content_type.encode(), encode(registry))

    async def answer(request: Request) -> None:
        if request.fault is not None:
            response = request.fault.response()
        elif request.path not in (LIVE, READY, METRICS):
            response = problems.not_found(request.path).response()
        elif request.method not in ("GET", "HEAD"):
            response = problems.wrong_method(request.method, "GET, HEAD").response()
        elif request.path == LIVE:
            response = _json(200, {"status": "live"})
        elif request.path == READY:
            response = ready()
        else:
            response = metrics(request.fields.get(b"accept", b"").decode("latin-1"))
        request.respond(response)

    return answer


def _json(status: int, content: dict[str, str]) -> Response:
    return Response(status, b"application/json", msgspec.json.encode(content))
