"""Kafka alone, as the floor: one produce→consume hop in one process, and two of them with an echo worker in between.

Both use aiokafka with ``acks="all"`` and nothing else changed, the same number of partitions as the other contenders,
named in each send (which spares the pure-Python partitioner), and the benchmark's 1 KiB as the value.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import count
from time import perf_counter

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks import payload
from benchmarks.contenders import PARTITIONS, Contender, Running, Site
from benchmarks.driver import DRAIN_SECONDS, Order, serve
from benchmarks.figures import Recorder, Window


def start_hop(site: Site) -> Running:
    """Start the process that sends to itself."""
    topic = f"{site.prefix}hop"
    site.create_topics({topic: PARTITIONS})
    driver = site.children.start_driver("raw hop", "-m", __name__, "clients", site.brokers, topic, topic)
    return Running(driver, ())


def start_trip(site: Site) -> Running:
    """Start the echo worker and the process that sends to it."""
    jobs, replies = f"{site.prefix}trip.jobs", f"{site.prefix}trip.replies"
    site.create_topics({jobs: PARTITIONS, replies: 1})
    worker = site.children.start("two hops worker", "-m", __name__, "worker", site.brokers, jobs, replies)
    worker.wait_until(lambda: b"ready" in worker.log.read_bytes(), "readiness")
    driver = site.children.start_driver("two hops", "-m", __name__, "clients", site.brokers, jobs, replies)
    return Running(driver, (worker,))


async def _consumer(brokers: str, topic: str) -> AIOKafkaConsumer:
    """Return a consumer that stands at the end of every partition of a topic."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=brokers)
    await consumer.start()
    await consumer.seek_to_end()
    return consumer


async def clients(brokers: str, outgoing: str, incoming: str) -> None:
    """Play clients that send to one topic and wait for their message on another, or on the same."""
    loop = asyncio.get_running_loop()
    producer = AIOKafkaProducer(bootstrap_servers=brokers, acks="all")
    await producer.start()
    consumer = await _consumer(brokers, incoming)
    waiting: dict[bytes, asyncio.Future[bytes]] = {}
    partitions = len(await producer.partitions_for(outgoing))
    numbers = count()

    async def receive() -> None:
        while True:
            for batch in (await consumer.getmany(timeout_ms=1000)).values():
                for message in batch:
                    future = waiting.pop(message.key, None)
                    if future is not None:
                        future.set_result(message.value)

    async def client(number: int, recorder: Recorder) -> None:
        body = payload.body(number)
        while (sent := perf_counter()) < recorder.closes:
            sequence = next(numbers)
            key = sequence.to_bytes(8, "big")
            future = waiting[key] = loop.create_future()
            acknowledged = await producer.send(outgoing, body, key, partition=sequence % partitions)
            if await future == body:
                recorder.answer(sent, perf_counter())
            else:
                recorder.fail("a message that is not what was sent")
            await acknowledged

    async def measure(order: Order) -> Window:
        recorder = Recorder(perf_counter(), order.warmup, order.seconds)
        tasks = [asyncio.create_task(client(number, recorder)) for number in range(order.clients)]
        done, late = await asyncio.wait(tasks, timeout=order.warmup + order.seconds + DRAIN_SECONDS)
        for task in done:
            error = task.exception()
            if error is not None:
                recorder.fail(f"{type(error).__name__}: {error}")
        if late:
            recorder.fail(f"no message within {DRAIN_SECONDS:g} s of the end", len(late))
            for task in late:
                task.cancel()
            waiting.clear()
        return recorder.window()

    receiver = asyncio.create_task(receive())
    try:
        await serve(measure)
    finally:
        receiver.cancel()
        await consumer.stop()
        await producer.stop()


async def worker(brokers: str, jobs: str, replies: str) -> None:
    """Send back what comes, waiting for nothing between two fetches."""
    producer = AIOKafkaProducer(bootstrap_servers=brokers, acks="all")
    await producer.start()
    consumer = await _consumer(brokers, jobs)
    print("ready")
    try:
        while True:
            for batch in (await consumer.getmany(timeout_ms=1000)).values():
                for message in batch:
                    await producer.send(replies, message.value, message.key, partition=0)
    finally:
        await consumer.stop()
        await producer.stop()


HOP = Contender("raw hop", "aiokafka, one produce→consume hop", start_hop)
TRIP = Contender("two hops", "aiokafka, there and back, no HTTP", start_trip)

if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    uvloop.run(clients(*arguments) if role == "clients" else worker(*arguments))
