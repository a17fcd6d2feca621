"""The loop that people write by hand in an afternoon: a dict of futures on one side, getmany, work, send on the other.

It is written the way tutorials and first versions do it, and fairly: async throughout, uvloop, a batch worked on at
once, the reply passed on without another parse, aiokafka's defaults except ``acks="all"``. What it leaves out is what
Forebay adds: validation, lanes, deadlines, admission, traces, metrics, offsets that wait for the work (a batch whose
worker dies is lost when the automatic commit came first), and a loop that goes on fetching while one message is slow.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import uvicorn
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from benchmarks.children import HOST, free_port, status
from benchmarks.contenders import PARTITIONS, Contender, Running, Site

PATH = "/v1/echo"
TIMEOUT = 30.0


def start(site: Site) -> Running:
    """Start gateway and worker and wait until a request comes back."""
    jobs, replies = f"{site.prefix}naive.jobs", f"{site.prefix}naive.replies"
    site.create_topics({jobs: PARTITIONS, replies: 1})
    port = free_port()
    worker = site.children.start("naive worker", "-m", __name__, "worker", site.brokers, jobs)
    gateway = site.children.start("naive gateway", "-m", __name__, "gateway", site.brokers, jobs, replies, str(port))
    gateway.wait_for_answer(lambda: status(port, PATH, post=True, timeout=TIMEOUT), "an answer")
    return Running(site.load, (gateway, worker), port, PATH)


def gateway(brokers: str, jobs: str, replies: str, port: str) -> None:
    """Serve HTTP: each request becomes a message, each reply resolves a future."""
    waiting: dict[str, asyncio.Future[bytes]] = {}
    producer: AIOKafkaProducer

    async def receive(consumer: AIOKafkaConsumer) -> None:
        async for message in consumer:
            future = waiting.get(dict(message.headers)["correlation_id"].decode())
            if future is not None and not future.done():
                future.set_result(message.value)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        nonlocal producer
        producer = AIOKafkaProducer(bootstrap_servers=brokers, acks="all")
        consumer = AIOKafkaConsumer(replies, bootstrap_servers=brokers)
        await producer.start()
        await consumer.start()
        task = asyncio.create_task(receive(consumer))
        yield
        task.cancel()
        await consumer.stop()
        await producer.stop()

    async def echo(request: Request) -> Response:
        document = await request.json()
        request_id = str(uuid4())
        future = waiting[request_id] = asyncio.get_running_loop().create_future()
        try:
            await producer.send_and_wait(
                jobs,
                json.dumps(document).encode(),
                headers=[("correlation_id", request_id.encode()), ("reply_to", replies.encode())],
            )
            result = await asyncio.wait_for(future, TIMEOUT)
        except TimeoutError:
            return JSONResponse({"error": "timeout"}, status_code=504)
        finally:
            del waiting[request_id]
        return Response(result, media_type="application/json")

    app = Starlette(routes=[Route(PATH, echo, methods=["POST"])], lifespan=lifespan)
    uvicorn.run(app, host=HOST, port=int(port), loop="uvloop", http="httptools", access_log=False, log_level="warning")


async def work(document: Any) -> Any:
    return document


async def worker(brokers: str, jobs: str) -> None:
    """Fetch a batch, work on its messages at once, send the replies; then fetch the next."""
    producer = AIOKafkaProducer(bootstrap_servers=brokers, acks="all")
    consumer = AIOKafkaConsumer(
        jobs, bootstrap_servers=brokers, group_id=f"{jobs}.workers", auto_offset_reset="earliest"
    )

    async def handle(message: ConsumerRecord[bytes, bytes]) -> None:
        headers = dict(message.headers)
        result = await work(json.loads(message.value))
        await producer.send_and_wait(
            headers["reply_to"].decode(),
            json.dumps(result).encode(),
            headers=[("correlation_id", headers["correlation_id"])],
        )

    await producer.start()
    await consumer.start()
    try:
        while True:
            batches = await consumer.getmany(timeout_ms=1000)
            await asyncio.gather(*(handle(message) for batch in batches.values() for message in batch))
    finally:
        await consumer.stop()
        await producer.stop()


CONTENDER = Contender("naive", "the loop people write by hand", start)

if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    if role == "gateway":
        gateway(*arguments)
    else:
        uvloop.run(worker(*arguments))
