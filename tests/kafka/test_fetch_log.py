"""What the log says of partitions that cannot be read: each failure once, and its end, whatever ends it."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from typing import Any, cast

import pytest

import forebay.kafka.fetching
from forebay.kafka.fetching import FetchRequests
from forebay.kafka.link import Link
from forebay.kafka.records import Partition
from forebay.kafka.wire.connections import Unreachable
from forebay.kafka.wire.metadata import NO_LEADER
from tests.support.waiting import until

BOUND = 10.0
FIRST, SECOND = ("things", 0), ("things", 1)


class FailingNodes:
    """Nodes of a cluster: those that are down do not answer, the others have no records."""

    def __init__(self) -> None:
        self.down: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None  # lanes, requests for new metadata

    async def send(self, leader: int, *_: Any) -> None:
        if leader in self.down:
            raise Unreachable(f"node {leader} does not answer")

    async def close_lane(self, _: Any) -> None:
        """Do nothing."""


class Log:
    """The requests for two partitions, and what they have logged."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        self.nodes = FailingNodes()
        self._told = 0
        self.requests = FetchRequests(
            cast(Link, self.nodes),
            "things",
            {},
            partition_bytes=1,
            on_answers=lambda *_: None,
            on_end=self._count,
        )

    def _count(self) -> None:
        self._told += 1

    async def ask(self, leader: int, *partitions: Partition) -> None:
        """Make one request, and wait until it has ended; one that failed tells so first."""
        last = self._told + (2 if leader in {NO_LEADER, *self.nodes.down} else 1)
        self.requests.send(leader, dict.fromkeys(partitions, 0))
        await until(lambda: self._told == last, BOUND, "the request has ended")

    @property
    def levels(self) -> str:
        """A letter for each line: W for a failure, I for its end."""
        return "".join(record.levelname[0] for record in self._caplog.records)


@pytest.fixture
async def told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, at_end: AsyncExitStack) -> Log:
    caplog.set_level(logging.INFO, logger="forebay.kafka.fetching")
    monkeypatch.setattr(forebay.kafka.fetching, "BACK_OFF", 0.0)
    monkeypatch.setattr(forebay.kafka.fetching, "answers_of", lambda _: (0, []))
    told = Log(caplog)
    at_end.push_async_callback(told.requests.stop)
    return told


async def test_partitions_without_a_leader_are_told_once_and_so_is_that_they_are_read_again(told: Log) -> None:
    await told.ask(NO_LEADER, FIRST, SECOND)
    await told.ask(NO_LEADER, FIRST, SECOND)
    assert told.levels == "W"
    await told.ask(1, FIRST)
    assert told.levels == "W", "the second one is not read yet"
    await told.ask(2, SECOND)
    await told.ask(1, FIRST)
    assert told.levels == "WI"
    await told.ask(NO_LEADER, FIRST)
    assert told.levels == "WIW", "the next time is told, too"


async def test_what_one_broker_did_not_give_is_read_again_when_another_gives_it(told: Log) -> None:
    told.nodes.down = {1}
    await told.ask(1, FIRST)
    await told.ask(2, SECOND)
    assert told.levels == "W"
    await told.ask(2, FIRST, SECOND)
    assert told.levels == "WI"


async def test_what_is_assigned_elsewhere_while_it_cannot_be_read_is_told(told: Log) -> None:
    told.nodes.down = {1}
    await told.ask(1, FIRST, SECOND)
    told.requests.forget_failures_except([FIRST])
    assert told.levels == "W"
    told.requests.forget_failures_except([SECOND])
    told.requests.forget_failures_except([])
    assert told.levels == "WI"


async def test_each_line_says_what_it_is_about(told: Log, caplog: pytest.LogCaptureFixture) -> None:
    """By this the log of a service knows the last line about each of the readers of one process."""
    await told.ask(NO_LEADER, FIRST)
    await told.ask(1, FIRST)
    assert [getattr(record, "about", None) for record in caplog.records] == ["things", "things"]
