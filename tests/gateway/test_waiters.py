"""Who waits for which answer: each wait ends once, by its reply, its deadline or an error, and nobody is left."""

from __future__ import annotations

import asyncio

import pytest

from forebay.errors import BrokerUnavailable
from forebay_gateway.waiters import DEADLINE_TICK_SECONDS, REMEMBERED_ANSWERS, DeadlinePassed, ReplyOutcome, Waiters
from tests.support.records import a_record


class Clock:
    """A clock that goes only where it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def waiters(clock: Clock) -> Waiters:
    return Waiters(clock)


async def test_a_reply_reaches_the_one_who_waits_for_it(waiters: Waiters) -> None:
    ours, others = waiters.register(b"a", 200.0), waiters.register(b"b", 200.0)
    reply = a_record()
    assert waiters.resolve(b"a", reply) is ReplyOutcome.DELIVERED
    assert await ours.reply is reply
    assert not others.reply.done()


async def test_a_second_reply_is_a_duplicate_and_changes_nothing(waiters: Waiters) -> None:
    waiter, first = waiters.register(b"a", 200.0), a_record(b"1")
    waiters.resolve(b"a", first)
    assert waiters.resolve(b"a", a_record(b"2")) is ReplyOutcome.DUPLICATE
    assert await waiter.reply is first
    waiters.forget(b"a")
    assert waiters.resolve(b"a", a_record(b"3")) is ReplyOutcome.DUPLICATE


async def test_a_reply_that_nobody_waited_for_is_late(waiters: Waiters) -> None:
    assert waiters.resolve(b"never heard of", a_record()) is ReplyOutcome.LATE
    assert len(waiters) == 0


async def test_a_reply_after_the_deadline_is_late(waiters: Waiters, clock: Clock) -> None:
    waiter = waiters.register(b"a", 101.0)
    clock.now = 102.0
    waiters.expire()
    assert waiters.resolve(b"a", a_record()) is ReplyOutcome.LATE
    with pytest.raises(DeadlinePassed):
        await waiter.reply
    waiters.forget(b"a")
    assert waiters.resolve(b"a", a_record()) is ReplyOutcome.LATE


async def test_a_wait_ends_at_its_deadline_not_before_and_at_most_a_tick_later(waiters: Waiters, clock: Clock) -> None:
    waiter = waiters.register(b"a", 101.0)
    clock.now = 100.999
    waiters.expire()
    assert not waiter.reply.done()
    clock.now = 101.0 + DEADLINE_TICK_SECONDS + 1e-6
    waiters.expire()
    assert isinstance(waiter.reply.exception(), DeadlinePassed)


async def test_a_reply_before_the_deadline_is_kept_past_it(waiters: Waiters, clock: Clock) -> None:
    waiter, reply = waiters.register(b"a", 101.0), a_record()
    waiters.resolve(b"a", reply)
    clock.now = 200.0
    waiters.expire()
    assert await waiter.reply is reply


async def test_a_request_that_was_forgotten_does_not_expire(waiters: Waiters, clock: Clock) -> None:
    waiters.register(b"a", 101.0).reply.cancel()
    waiters.forget(b"a")
    again = waiters.register(b"a", 300.0)
    clock.now = 200.0
    waiters.expire()
    assert not again.reply.done()


async def test_a_wait_can_be_failed_once(waiters: Waiters) -> None:
    waiter = waiters.register(b"a", 200.0)
    waiters.fail(b"a", BrokerUnavailable("first"))
    waiters.fail(b"a", BrokerUnavailable("second"))
    waiters.fail(b"unknown", BrokerUnavailable("third"))
    with pytest.raises(BrokerUnavailable, match="first"):
        await waiter.reply
    assert waiters.resolve(b"a", a_record()) is ReplyOutcome.LATE


async def test_an_error_that_comes_after_the_reply_changes_nothing(waiters: Waiters) -> None:
    waiter, reply = waiters.register(b"a", 200.0), a_record()
    waiters.resolve(b"a", reply)
    waiters.fail(b"a", BrokerUnavailable("too late"))
    assert await waiter.reply is reply


async def test_nobody_is_left_hanging_when_all_waits_are_ended(waiters: Waiters) -> None:
    held = [waiters.register(b"%d" % number, 200.0) for number in range(5)]
    waiters.resolve(b"0", a_record())
    waiters.fail_all(lambda: BrokerUnavailable("leaving"))
    assert all(waiter.reply.done() for waiter in held)
    assert held[0].reply.exception() is None
    errors = [waiter.reply.exception() for waiter in held[1:]]
    assert {str(error) for error in errors} == {"leaving"}
    assert len({id(error) for error in errors}) == 4, "each has an exception, and so a traceback, of its own"
    assert isinstance(waiters.register(b"latecomer", 200.0).reply.exception(), BrokerUnavailable)


async def test_a_reply_to_a_call_that_was_just_called_off_is_late(waiters: Waiters) -> None:
    """The one who waited has not come round to forgetting it."""
    waiter = waiters.register(b"a", 200.0)
    waiter.reply.cancel()
    assert waiters.resolve(b"a", a_record()) is ReplyOutcome.LATE
    waiters.fail(b"a", BrokerUnavailable("changes nothing"))
    waiters.forget(b"a")
    assert len(waiters) == 0


async def test_those_held_are_counted(waiters: Waiters) -> None:
    waiters.register(b"a", 200.0)
    waiters.register(b"b", 200.0)
    assert len(waiters) == 2
    waiters.forget(b"a")
    assert len(waiters) == 1


async def test_only_so_many_answered_requests_are_remembered(waiters: Waiters) -> None:
    for number in range(REMEMBERED_ANSWERS + 1):
        key = b"%d" % number
        waiters.register(key, 200.0)
        waiters.resolve(key, a_record())
        waiters.forget(key)
    assert waiters.resolve(b"0", a_record()) is ReplyOutcome.LATE
    assert waiters.resolve(b"1", a_record()) is ReplyOutcome.DUPLICATE


async def test_deadlines_are_kept_in_the_background() -> None:
    loop = asyncio.get_running_loop()
    waiters = Waiters()
    keeping = asyncio.create_task(waiters.keep_deadlines())
    begun = loop.time()
    waiter = waiters.register(b"a", begun + 0.1)
    with pytest.raises(DeadlinePassed):
        async with asyncio.timeout(10):
            await waiter.reply
    assert loop.time() >= begun + 0.1
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
