"""The numbers of batches: what a broker takes for new is new, and what it takes for a repetition is one."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from forebay.kafka.records import Partition
from forebay.kafka.sequences import Identity, Sequences

PLACES = st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 1))


class Numbering(RuleBasedStateMachine):
    """A producer and the brokers it numbers its batches for, as Kafka's brokers check them."""

    def __init__(self) -> None:
        super().__init__()
        self.sequences = Sequences()
        self.given = 0
        self.expected: dict[tuple[Partition, Identity], int] = {}

    @precondition(lambda self: self.sequences.fresh is None)
    @rule()
    def be_given_an_identity(self) -> None:
        self.given += 1
        self.sequences.fresh = Identity(self.given, 0)

    @rule(place=PLACES, count=st.integers(1, 1000), appended=st.booleans(), known=st.booleans())
    def send(self, place: Partition, count: int, appended: bool, known: bool) -> None:
        numbers = self.sequences.next(place)
        if numbers is None:
            assert self.sequences.fresh is None
            return
        self.sequences.took(place, count)
        identity, first = numbers
        assert first == self.expected.get((place, identity), 0), (
            "the broker would refuse it, or drop it as a repetition"
        )
        if appended:
            self.expected[place, identity] = (first + count) % 2**31
        if not known:
            self.sequences.forget(place)
        elif not appended:
            self.sequences.give_back(place, identity, first)

    @rule(topic=st.sampled_from(["a", "b"]))
    def forget(self, topic: str) -> None:
        self.sequences.forget_topic(topic)

    @invariant()
    def remembers_no_more_than_is_in_use(self) -> None:
        assert len(self.sequences) <= 4


Numbering.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestNumbering = Numbering.TestCase


def test_numbers_begin_again_from_0_after_the_greatest() -> None:
    sequences = Sequences()
    sequences.fresh = Identity(1, 0)
    assert sequences.next(("a", 0)) == (Identity(1, 0), 0)
    sequences.took(("a", 0), 2**31 - 2)
    sequences.took(("a", 0), 5)
    assert sequences.next(("a", 0)) == (Identity(1, 0), 3)


def test_a_batch_given_back_after_its_partition_began_anew_changes_nothing() -> None:
    sequences = Sequences()
    sequences.fresh = Identity(1, 0)
    sequences.next(("a", 0))
    sequences.took(("a", 0), 7)
    sequences.forget(("a", 0))
    sequences.fresh = Identity(2, 0)
    sequences.next(("a", 0))
    sequences.took(("a", 0), 3)
    sequences.give_back(("a", 0), Identity(1, 0), 0)
    assert sequences.next(("a", 0)) == (Identity(2, 0), 3)
