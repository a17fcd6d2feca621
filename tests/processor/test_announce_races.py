"""Announcers that race for one name in a catalog whose compaction removes records at any moment.

Each step is one that really is a step: a processor reads some records, works out what it announces, produces it; a
processor is killed; a record that nobody can read is produced; the operation is withdrawn; the topic is compacted.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field, make_dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from forebay import Forebay
from forebay.app import Operation
from forebay.catalog import Ledger
from forebay.errors import ConfigurationError
from forebay.messages import OperationMessage, encode_operation
from forebay_processor.announce import kept_record, lost_record, taken_back, wanted_record

NAME = "greet"
Fields = list[Any]

VERSIONS: dict[str, Fields] = {
    "plain": [("name", str)],
    "sized": [("name", str), ("size", int, dataclasses.field(default=3))],
    "tagged": [("name", str), ("tag", str, dataclasses.field(default=""))],
    "sized in words": [("name", str), ("size", str, dataclasses.field(default="3"))],
    "numbered": [("name", int)],
}
"""Of these only ``sized`` and ``sized in words``, and ``numbered`` and all others, cannot live side by side."""


def operation(app: str, version: str) -> Operation:
    def handler(request: Any) -> Any:
        return request

    handler.__annotations__ = {"request": make_dataclass("Request", VERSIONS[version]), "return": bytes}
    made = Forebay(app)
    made.operation(name=NAME)(handler)
    return made.operations[NAME]


OPERATIONS = {(app, version): operation(app, version) for app in ("shop", "rival") for version in VERSIONS}


@dataclass
class Log:
    """The catalog topic, with what compaction has left of it."""

    records: list[tuple[int, bytes | None]] = field(default_factory=list)
    end: int = 0

    withdrawn: int = -1
    whole: Ledger = field(default_factory=Ledger)
    known: set[str] = field(default_factory=set)

    def append(self, record: OperationMessage | bytes | None) -> int:
        value = encode_operation(record) if isinstance(record, dict) else record
        self.whole.take(NAME, value, self.end)
        if value is None:
            self.withdrawn = self.end
        elif (entry := self.whole.entry(NAME)) is not None:
            self.known.update(entry.message["request_schemas"])
        self.records.append((self.end, value))
        self.end += 1
        return self.end - 1

    def compacted(self, to: int) -> list[tuple[int, bytes | None]]:
        """What is left once everything before an offset is compacted: the last of that, and all that follows."""
        clean = [record for record in self.records if record[0] < to]
        return [*clean[-1:], *(record for record in self.records if record[0] >= to)]


@dataclass
class Reader:
    ledger: Ledger = field(default_factory=Ledger)
    position: int = 0

    def read(self, log: Log, count: int | None = None) -> None:
        for offset, value in [record for record in log.records if record[0] >= self.position][:count]:
            self.ledger.take(NAME, value, offset)
            self.position = offset + 1
        if count is None:
            self.position = log.end


@dataclass
class Announcer(Reader):
    """A processor, as far as the catalog is concerned."""

    id: str = ""
    operation: Operation = OPERATIONS["shop", "plain"]
    state: str = "starting"
    wait_for: int = 0
    new: bool | None = None
    pending: list[OperationMessage | None] = field(default_factory=list)
    confirmed: int = 0

    @property
    def alive(self) -> bool:
        return self.state in ("starting", "running")

    def think(self) -> None:
        """Work out what is to be produced next, if anything."""
        work_out = wanted_record if self.new is None else lost_record if self.state == "starting" else kept_record
        try:
            record = work_out(self.ledger, self.operation, self.id, 1)
        except ConfigurationError:
            if self.state == "starting":
                self.state = "refused"
                begun = {} if self.new is None else {NAME: self.new}
                self.pending = list(taken_back(self.ledger, begun, self.id).values())
            return
        if record is None:
            if self.state == "starting":
                self.state, self.confirmed = "running", self.position
            return
        if self.new is None:
            self.new = self.ledger.entry(NAME) is None
        self.pending = [record]

    def produce(self, log: Log) -> None:
        self.wait_for = log.append(self.pending.pop(0)) + 1


def says(ledger: Ledger) -> tuple[str, frozenset[str]] | None:
    """Whose the operation is, and which requests can be read."""
    entry = ledger.entry(NAME)
    return None if entry is None else (entry.message["app"], frozenset(entry.message["request_schemas"]))


def own_schema(announcer: Announcer) -> str:
    assert announcer.operation.request.schema is not None
    return announcer.operation.request.schema.text


class Races(RuleBasedStateMachine):
    """What holds whatever happens: in the end all agree, and the last record alone says it."""

    compacting = True

    @initialize(
        kinds=st.lists(st.sampled_from(sorted(OPERATIONS)), min_size=2, max_size=4),
    )
    def begin(self, kinds: list[tuple[str, str]]) -> None:
        self.log = Log()
        self.announcers = [Announcer(id=f"p{n}", operation=OPERATIONS[kind]) for n, kind in enumerate(kinds)]
        self.started: set[str] = set()

    def pick(self, data: st.DataObject, candidates: list[Announcer]) -> Announcer:
        return data.draw(st.sampled_from(candidates), "announcer")

    @precondition(lambda self: any(each.alive for each in self.announcers))
    @rule(data=st.data(), count=st.integers(1, 3))
    def read_some(self, data: st.DataObject, count: int) -> None:
        self.pick(data, [each for each in self.announcers if each.alive]).read(self.log, count)

    @precondition(
        lambda self: any(each.state == "starting" and each.id not in self.started for each in self.announcers)
    )
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        announcer = self.pick(
            data, [each for each in self.announcers if each.state == "starting" and each.id not in self.started]
        )
        announcer.read(self.log)
        self.started.add(announcer.id)
        announcer.think()

    @precondition(lambda self: any(self.can_think(each) for each in self.announcers))
    @rule(data=st.data())
    def think(self, data: st.DataObject) -> None:
        self.pick(data, [each for each in self.announcers if self.can_think(each)]).think()

    def can_think(self, announcer: Announcer) -> bool:
        return (
            announcer.alive
            and announcer.id in self.started
            and not announcer.pending
            and announcer.position >= announcer.wait_for
        )

    @precondition(lambda self: any(each.pending for each in self.announcers))
    @rule(data=st.data())
    def produce(self, data: st.DataObject) -> None:
        self.pick(data, [each for each in self.announcers if each.pending]).produce(self.log)

    @precondition(lambda self: sum(each.alive for each in self.announcers) > 1)
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        victim = self.pick(data, [each for each in self.announcers if each.alive])
        victim.state, victim.pending = "dead", []

    @rule(junk=st.sampled_from([b"", b"nothing of the kind"]))
    def spoil(self, junk: bytes) -> None:
        self.log.append(junk)

    @rule()
    def withdraw(self) -> None:
        self.log.append(None)

    @precondition(lambda self: self.compacting)
    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        self.log.records = self.log.compacted(data.draw(st.integers(0, self.log.end), "to"))

    def settle(self) -> None:
        """Let those that live go on until none of them has anything to say."""
        for _ in range(100):
            busy = False
            for each in self.announcers:
                if each.pending:
                    each.produce(self.log)
                    busy = True
                if each.alive:
                    each.read(self.log)
                    self.started.add(each.id)
                    before = each.state
                    each.think()
                    busy = busy or bool(each.pending) or each.state != before
            if not busy:
                return
        raise AssertionError("they never come to an end")

    def teardown(self) -> None:
        self.settle()
        running = [each for each in self.announcers if each.alive]
        assert all(each.state == "running" for each in running)
        if not running:
            return
        results = {says(each.ledger) for each in running}
        assert len(results) == 1, "those that run do not agree"
        (result,) = results
        if not self.log.records:
            return
        for to in range(self.log.end + 1):
            newcomer = Reader()
            newcomer.read(Log(self.log.compacted(to), self.log.end))
            assert says(newcomer.ledger) == result, f"whoever reads what compaction to {to} leaves does not agree"
        for each in running:
            assert result is not None
            owner, schemas = result
            if owner == each.operation.app and not contradicts(each.ledger, each):
                assert own_schema(each) in schemas, "a schema was lost"


def contradicts(ledger: Ledger, announcer: Announcer) -> bool:
    try:
        lost_record(ledger, announcer.operation, announcer.id, 1)
    except ConfigurationError:
        return True
    return False


class UncompactedRaces(Races):
    """What holds besides as long as compaction is no quicker than a start: nobody that has started is overruled."""

    compacting = False

    def teardown(self) -> None:
        super().teardown()
        for each in self.announcers:
            if each.state == "running":
                if each.confirmed > self.log.withdrawn:
                    assert not contradicts(each.ledger, each), f"{each.id} was overruled"
                if self.log.withdrawn < 0:
                    result = says(each.ledger)
                    assert result is not None
                    assert result[1] == self.log.known, "a schema that was known once was lost"


TestRaces = Races.TestCase
TestUncompactedRaces = UncompactedRaces.TestCase
TestRaces.settings = TestUncompactedRaces.settings = settings(max_examples=100, stateful_step_count=30)
