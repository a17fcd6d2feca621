from __future__ import annotations

import io
import logging
from collections.abc import Callable

import pytest

from forebay_cli.log import ServiceLog
from tests.support.waiting import wait_until

Said = Callable[[], list[str]]
"""Returns the lines that were written since it was called last."""


class Time:
    """A clock that the test advances, and what is to be called when it does."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._due: list[tuple[float, Callable[[], None]]] = []

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        self._due.append((self.now + seconds, call))

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        due = [entry for entry in self._due if entry[0] <= self.now]
        self._due = [entry for entry in self._due if entry[0] > self.now]
        for _, call in due:
            call()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def handler(stream: io.StringIO, time: Time) -> ServiceLog:
    return ServiceLog(stream, hold=1.0, recovery=5.0, recovery_bound=30.0, clock=lambda: time.now, later=time.later)


@pytest.fixture
def said(stream: io.StringIO) -> Said:
    seen = 0

    def new() -> list[str]:
        nonlocal seen
        lines = stream.getvalue().splitlines()
        seen, before = len(lines), seen
        return lines[before:]

    return new


def record(name: str, text: str, level: int = logging.WARNING, **more: object) -> logging.LogRecord:
    return logging.makeLogRecord({"name": name, "msg": text, "levelno": level, **more})


def test_an_outage_is_two_lines(handler: ServiceLog, said: Said, time: Time) -> None:
    handler.handle(record("forebay.kafka.reader", "a topic cannot be read"))
    handler.handle(record("forebay.kafka.link", "away", outage=True))
    handler.handle(record("forebay.kafka.link", "away, says another link", outage=True))
    handler.handle(record("forebay_gateway.replies", "no answer"))
    handler.handle(record("forebay.kafka.link", "back", logging.INFO, outage=False))
    handler.handle(record("forebay.kafka.link", "back, says another link", logging.INFO, outage=False))
    handler.handle(record("forebay.kafka.reader", "a topic has no leader"))
    handler.handle(record("forebay.kafka.reader", "a topic is read again", logging.INFO))
    handler.handle(record("forebay_gateway.replies", "they come again", logging.INFO))
    assert said() == ["away", "back"]
    handler.handle(record("forebay.kafka.sender", "a batch is numbered anew"))
    time.pass_(5)
    assert said() == ["a batch is numbered anew"], "the others ended with the outage"
    handler.handle(record("forebay.kafka.link", "away", outage=True))
    assert said() == ["away"], "the next outage is one of its own"


def test_consequences_that_are_over_are_left_out_and_each_trouble_is_one_of_its_own(
    handler: ServiceLog, said: Said, time: Time
) -> None:
    handler.handle(record("forebay.kafka.link", "away", outage=True))
    handler.handle(record("forebay.kafka.link", "back", logging.INFO, outage=False))
    handler.handle(record("forebay.kafka.reader", "read from its beginning", over=True))
    handler.handle(record("forebay_processor.trouble", "one cannot be read", about="one"))
    handler.handle(record("forebay_processor.trouble", "another cannot be read", about="another"))
    handler.handle(record("forebay_processor.trouble", "another works again", logging.INFO, about="another"))
    assert said() == ["away", "back"]
    time.pass_(5)
    assert said() == ["one cannot be read"]


def test_what_an_outage_has_broken_is_waited_for_as_long_as_it_moves_but_not_for_ever(
    handler: ServiceLog, said: Said, time: Time
) -> None:
    handler.handle(record("forebay.kafka.link", "away", outage=True))
    handler.handle(record("forebay.kafka.link", "back", logging.INFO, outage=False))
    assert said() == ["away", "back"]
    for _ in range(14):
        handler.handle(record("forebay.kafka.reader", "a topic has no leader"))
        time.pass_(2)
        assert said() == []
    handler.handle(record("forebay.kafka.reader", "a topic has no leader"))
    time.pass_(2)
    assert said() == ["a topic has no leader"]


def test_what_an_outage_is_not_the_cause_of_is_said(handler: ServiceLog, said: Said, time: Time) -> None:
    handler.handle(record("forebay.kafka.reader", "records cannot be read"))
    handler.handle(record("forebay_processor.processor", "a job expired"))
    assert said() == ["a job expired"]
    time.pass_(1)
    assert said() == ["records cannot be read"]


def test_what_did_not_end_with_the_outage_is_said_after_it(handler: ServiceLog, said: Said, time: Time) -> None:
    handler.handle(record("forebay.kafka.link", "away", outage=True))
    handler.handle(record("forebay_gateway.replies", "the topic is gone"))
    handler.handle(record("forebay.kafka.link", "back", logging.INFO, outage=False))
    assert said() == ["away", "back"]
    time.pass_(4)
    assert said() == []
    time.pass_(1)
    assert said() == ["the topic is gone"]


def test_what_is_held_back_is_written_at_the_end(handler: ServiceLog, said: Said) -> None:
    handler.handle(record("forebay.kafka.reader", "records cannot be read"))
    handler.close()
    assert said() == ["records cannot be read"]


def test_what_is_held_back_is_written_after_a_while_by_itself(stream: io.StringIO) -> None:
    handler = ServiceLog(stream, hold=0.01)
    handler.handle(record("forebay.kafka.reader", "records cannot be read"))
    wait_until(lambda: stream.getvalue() == "records cannot be read\n", 20, "it is written")
