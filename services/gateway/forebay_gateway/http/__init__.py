"""HTTP/1.1 on a socket.

The parsing is llhttp's, by way of httptools. Added is what a gateway needs around a parser: bounds on size and time,
one response to each request in their order, and an orderly end.

uvicorn would not do: it takes a client that has nothing more to send for one that left, loses the body of a request
that offers an upgrade, bounds no head, and may answer a request twice. To mend that from outside, nearly all of its
protocol had to be overridden.
"""

from __future__ import annotations

from forebay_gateway.http.connection import Limits
from forebay_gateway.http.request import Application, Request
from forebay_gateway.http.server import Server, listen, serving

__all__ = ["Application", "Limits", "Request", "Server", "listen", "serving"]
