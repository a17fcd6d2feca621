"""Of gateways that claim one name exactly one stays, however slowly each of them reads the topic."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from forebay.errors import BrokerError, InstanceTaken
from forebay_gateway.claim import Claim
from tests.support.records import a_record

GATEWAYS = ("a", "b", "c")


class Gateway:
    """A claim, and how far its gateway has read the topic."""

    def __init__(self, name: str, topic: list[bytes]) -> None:
        self.read = len(topic)
        self.losses = 0
        self.alive = True
        self._topic = topic
        self.claim = Claim("gw", self._publish, self._lose, gateway=name)

    def _publish(self, value: bytes, on_delivery: Callable[[BrokerError | None], None] | None = None) -> None:
        self._topic.append(value)
        if on_delivery is not None:
            on_delivery(None)

    def _lose(self) -> None:
        self.losses += 1

    def read_one(self) -> None:
        value = self._topic[self.read]
        self.claim.on_record(a_record(value, offset=self.read))
        self.read += 1

    def read_all(self) -> None:
        while self.read < len(self._topic):
            self.read_one()


class Claims(RuleBasedStateMachine):
    """Gateways start, read on and confirm in any order; one may be so slow that its objection comes too late."""

    def __init__(self) -> None:
        super().__init__()
        self.topic: list[bytes] = []
        self.gateways: dict[str, Gateway] = {}

    @initialize(before=st.integers(0, 3))
    def have_a_past(self, before: int) -> None:
        self.topic += [b"from earlier"] * before

    @rule(name=st.sampled_from(GATEWAYS))
    def start(self, name: str) -> None:
        if name not in self.gateways:
            self.gateways[name] = gateway = Gateway(name, self.topic)
            gateway.claim.begin()

    @precondition(lambda self: self.gateways)
    @rule(data=st.data())
    def read_on(self, data: st.DataObject) -> None:
        gateway = self.gateways[data.draw(st.sampled_from(sorted(self.gateways)))]
        if gateway.read < len(self.topic):
            gateway.read_one()

    @precondition(lambda self: self.gateways)
    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        gateway = self.gateways[data.draw(st.sampled_from(sorted(self.gateways)))]
        if gateway.claim.made and not gateway.claim.held and not gateway.claim.lost:
            gateway.claim.confirm()

    @rule(value=st.binary(max_size=40))
    def put_anything(self, value: bytes) -> None:
        self.topic.append(value)

    @invariant()
    def nobody_loses_twice(self) -> None:
        assert all(gateway.losses <= 1 for gateway in self.gateways.values())

    def teardown(self) -> None:
        if not self.gateways:
            return
        for _ in range(len(self.gateways) * 4):
            for gateway in self.gateways.values():
                gateway.read_all()
                if gateway.claim.made and not gateway.claim.held and not gateway.claim.lost:
                    gateway.claim.confirm()
        assert [name for name, gateway in self.gateways.items() if not gateway.claim.lost] != []
        assert sum(gateway.claim.held for gateway in self.gateways.values()) == 1
        assert sum(not gateway.claim.lost for gateway in self.gateways.values()) == 1


Claims.TestCase.settings = settings(max_examples=200, stateful_step_count=30)
TestClaims = Claims.TestCase


@pytest.fixture
def topic() -> list[bytes]:
    return []


async def test_the_first_record_of_a_topic_is_a_claim_that_nobody_objects_to(topic: list[bytes]) -> None:
    gateway = Gateway("a", topic)
    gateway.claim.begin()
    gateway.read_all()
    gateway.claim.confirm()
    assert gateway.claim.held


async def test_a_holder_objects_and_the_second_is_told_who_it_is(topic: list[bytes]) -> None:
    first, second = Gateway("a", topic), Gateway("b", topic)
    first.claim.begin()
    first.read_all()
    first.claim.confirm()
    second.claim.begin()
    first.read_all()
    second.read_all()
    with pytest.raises(
        InstanceTaken, match=r"^the instance name 'gw' is another gateway's: process \d+ on .+$"
    ) as error:
        second.claim.confirm()
    assert error.value.setting == "instance"
    first.read_all()
    assert first.claim.held


async def test_a_holder_that_slept_through_it_finds_the_name_taken(topic: list[bytes]) -> None:
    first, second = Gateway("a", topic), Gateway("b", topic)
    for gateway in (first, second):
        gateway.claim.begin()
        gateway.read_all()
        gateway.claim.confirm()
    first.read_all()
    second.read_all()
    assert (first.claim.held, first.claim.lost, first.losses) == (False, True, 1)
    assert (second.claim.held, second.losses) == (True, 0)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"kind":"hold"}',
        b'{"kind":"?","gateway":"b","who":"w"}',
        b"\xff",
        b"[" * 100_000,
    ],
    ids=["none", "empty", "object", "array", "null", "half", "unknown", "not utf-8", "deep"],
)
async def test_what_is_no_message_about_claims_says_nothing(topic: list[bytes], value: bytes | None) -> None:
    gateway = Gateway("a", topic)
    gateway.claim.begin()
    gateway.read_all()
    gateway.claim.confirm()
    gateway.claim.on_record(a_record(value))
    assert gateway.claim.held
