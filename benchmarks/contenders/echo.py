"""The API without a queue: Starlette on uvicorn does the work itself. What asking through Kafka is compared with."""

from __future__ import annotations

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from benchmarks.children import HOST, free_port, status
from benchmarks.contenders import Contender, Running, Site

PATH = "/v1/echo"


def start(site: Site) -> Running:
    """Start the server and wait until it answers."""
    port = free_port()
    server = site.children.start("echo server", "-m", __name__, str(port))
    server.wait_for_answer(lambda: status(port, PATH, post=True, timeout=5.0), "an answer")
    return Running(site.load, (server,), port, PATH)


async def echo(request: Request) -> JSONResponse:
    return JSONResponse(await request.json())


def main(port: str) -> None:
    app = Starlette(routes=[Route(PATH, echo, methods=["POST"])])
    uvicorn.run(app, host=HOST, port=int(port), loop="uvloop", http="httptools", access_log=False, log_level="warning")


CONTENDER = Contender("echo", "Starlette on uvicorn, no queue", start)

if __name__ == "__main__":
    main(*sys.argv[1:])
