"""fetch → schedule → run → settle as one: whatever happens in whatever order, no job is lost, stuck or run in vain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from forebay import Reject, RetryAfter
from forebay.errors import BrokerUnavailable, MessageTooLarge, TopicUnknown
from forebay.kafka import Record, Start
from forebay.messages import decode_reply, encode_job
from forebay.settings import TIERS
from forebay_processor import fetch as fetch_module
from forebay_processor import processor as processor_module
from forebay_processor.lease import Ending, Lease, Partition
from forebay_processor.run.call import HandlerResult
from forebay_schemas import topics as topic_names
from tests.support.chain import APP, NAMESPACE, SLOTS, WINDOW, Chain, Held, Sent
from tests.support.jobs import NEVER, a_message

PARTITIONS: dict[Partition, str] = {
    (topic_names.jobs(NAMESPACE, APP, tier), number): tier for tier in TIERS for number in range(2)
}
REPLIES = topic_names.replies(NAMESPACE, "gw")
DEAD = topic_names.dead(NAMESPACE, APP)
RETRIES = topic_names.retries(NAMESPACE, APP, "200ms")
KINDS = {"interactive": ("on_loop", "deaf", "unheard-of"), "standard": ("in_thread",), "bulk": ("in_process",)}
TURNS = 12
"""Turns of the event loop after which everything that can happen by itself has happened."""


class GivingUp(BaseException):
    """What no handler should raise."""


ENDS: dict[str, Callable[[], Any]] = {
    "result": lambda: b"done",
    "no result": lambda: None,
    "Reject": lambda: Reject("no"),
    "RetryAfter": lambda: RetryAfter(5),
    "exception": lambda: ValueError("it broke"),
    "BaseException": lambda: GivingUp("it broke badly"),
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": lambda: KeyboardInterrupt(),
    "cancelled": lambda: asyncio.CancelledError(),
}


class World(RuleBasedStateMachine):
    """Topics, groups, other processors, and one processor of which everything is observed.

    The model knows of each record whether something outside of the processor shows that its job was taken care of:
    a reply or a dead letter or a retry that the broker acknowledged, a gateway that is gone, or another owner's commit.
    """

    @initialize()
    def start_the_world(self) -> None:
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.wrong: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.wrong.append(context))
        self.now = 1_000_000.0
        self.serial = 0
        self.logs: dict[Partition, list[Record]] = {partition: [] for partition in PARTITIONS}
        self.group: dict[Partition, int] = {}
        self.cared_for: set[str] = set()
        self.start_processor()

    def start_processor(self) -> None:
        async def make() -> Chain:
            return Chain(self.group, lambda: self.now)

        self.chain = self.loop.run_until_complete(make())
        self.leases: list[Lease] = []
        self.names: dict[Lease, str] = {}
        self.settled_here: set[str] = set()
        for fetcher in self.chain.fetchers.values():
            grant = fetcher.leases.grant

            def recorded(record: Record, grant: Callable[[Record], Lease | None] = grant) -> Lease | None:
                lease = grant(record)
                if lease is not None:
                    self.granted(record, lease)
                return lease

            fetcher.leases.grant = recorded  # type: ignore[method-assign]
        self.owned: set[Partition] = set()
        self.assign(set(PARTITIONS))

    def granted(self, record: Record, lease: Lease) -> None:
        name = self.id_of(record)
        assert name not in self.settled_here, f"{lease}: it was settled by this owner"
        assert all(not other.is_open for other in self.leases if self.names[other] == name), f"{lease}: it is in hand"
        self.leases.append(lease)
        self.names[lease] = name

    def id_of(self, record: Record) -> str:
        return (record.key or b"").decode()

    def turn(self, turns: int = TURNS) -> None:
        async def turns_of_the_loop() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns_of_the_loop())

    # what comes in

    @rule(data=st.data(), partition=st.sampled_from(sorted(PARTITIONS)), count=st.integers(1, 4))
    def produce(self, data: st.DataObject, partition: Partition, count: int) -> None:
        for _ in range(count):
            tier = PARTITIONS[partition]
            kind = data.draw(st.sampled_from([*KINDS[tier], "garbage", "odd reply topic"]), "kind")
            deadline = data.draw(st.sampled_from([NEVER, 0, 100, 1_000]), "deadline")
            name = f"gw-00000000-0000-7000-8000-{self.serial:012d}"
            self.serial += 1
            value = encode_job(
                a_message(
                    request_id=name,
                    operation=kind if kind in KINDS[tier] else KINDS[tier][0],
                    tier=tier,
                    reply_topic="somebody.elses" if kind == "odd reply topic" else REPLIES,
                    deadline=deadline if deadline == NEVER else int(self.now * 1000) + deadline,
                )
            )
            log = self.logs[partition]
            value = value[:-3] if kind == "garbage" else value
            log.append(Record(*partition, len(log), int(self.now * 1000), name.encode(), value, ()))

    @rule(tier=st.sampled_from(TIERS), turns=st.sampled_from([0, TURNS]), count=st.integers(1, 8))
    def fetch(self, tier: str, turns: int, count: int) -> None:
        """With no turn of the loop, what happens next meets tasks that have not taken their first step."""
        self.fetch_from(tier, count)
        self.turn(turns)

    def fetch_from(self, tier: str, count: int) -> None:
        fetcher = self.chain.fetchers[tier]
        positions = self.chain.member.positions
        records = []
        if not self.chain.stopped.is_set() and self.chain.processor.room(tier):
            for partition in sorted(self.owned - fetcher.leases.full):
                if PARTITIONS[partition] == tier:
                    log = self.logs[partition]
                    taken = log[positions[partition] : positions[partition] + count]
                    records += taken
                    positions[partition] += len(taken)
        self.in_loop(lambda: fetcher.take(records))

    def in_loop(self, action: Callable[[], None]) -> None:
        async def act() -> None:
            action()

        self.loop.run_until_complete(act())

    # what handlers do

    @precondition(lambda self: self.chain.script.held)
    @rule(data=st.data(), end=st.sampled_from(sorted(ENDS)), turns=st.sampled_from([0, TURNS]))
    def end_on_loop(self, data: st.DataObject, end: str, turns: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.chain.script.held)), "ended")
        self.finish(self.chain.script.held.pop(name), ENDS[end]())
        self.turn(turns)

    def finish(self, future: asyncio.Future[Any], end: Any) -> None:
        if future.done():
            return
        if isinstance(end, asyncio.CancelledError):
            future.cancel()
        elif isinstance(end, SystemExit | KeyboardInterrupt):
            future.get_loop().call_soon(future.set_result, None)  # a future takes neither; no result will do
        elif isinstance(end, BaseException):
            future.set_exception(end)
        else:
            future.set_result(end)

    @precondition(lambda self: self.chain.calls.threads)
    @rule(data=st.data(), end=st.sampled_from(sorted(ENDS)))
    def end_a_thread(self, data: st.DataObject, end: str) -> None:
        held = data.draw(st.sampled_from(self.chain.calls.threads), "thread")
        self.end_thread(held, ENDS[end]())
        self.turn()

    def end_thread(self, held: Held, end: Any) -> None:
        def act() -> Any:
            if isinstance(end, BaseException):
                raise end
            return end

        self.chain.calls.threads.remove(held)
        self.chain.script.act = act
        held.future.set_result(held.function())

    @precondition(lambda self: self.chain.calls.processes)
    @rule(data=st.data(), killed=st.booleans())
    def end_a_process(self, data: st.DataObject, killed: bool) -> None:
        future = data.draw(st.sampled_from(self.chain.calls.processes), "process")
        self.chain.calls.processes.remove(future)
        if future.cancelled():
            return
        if killed:
            future.set_exception(OSError("killed"))
        else:
            future.set_result(HandlerResult(0, 0, b"done"))
        self.turn()

    @rule(seconds=st.sampled_from([0.01, 0.2, 2.0]), turns=st.sampled_from([0, TURNS]))
    def time_passes(self, seconds: float, turns: int) -> None:
        self.now += seconds
        self.in_loop(self.chain.processor.expire)
        self.turn(turns)

    # what the broker says

    @precondition(lambda self: self.chain.producer.sent)
    @rule(data=st.data(), count=st.integers(1, 4))
    def acknowledge(self, data: st.DataObject, count: int) -> None:
        for _ in range(min(count, len(self.chain.producer.sent))):
            place = data.draw(st.integers(0, len(self.chain.producer.sent) - 1), "which")
            self.deliver(self.chain.producer.sent.pop(place))
        self.turn()

    def deliver(self, sent: Sent) -> None:
        self.take_note(sent)
        self.in_loop(lambda: sent.on_delivery(None))

    def take_note(self, sent: Sent) -> None:
        """What the broker has can be seen by everybody."""
        name = sent.key.decode()
        if sent.topic == REPLIES:
            assert decode_reply(sent.value or b"")["request_id"] == name
            self.cared_for.add(name)
        else:
            assert sent.topic in (DEAD, RETRIES), f"nothing goes to {sent.topic}"
            self.cared_for.add(name)

    @precondition(lambda self: any(sent.topic == REPLIES for sent in self.chain.producer.sent))
    @rule(large=st.booleans())
    def refuse_a_reply(self, large: bool) -> None:
        """Its gateway is gone, or the topic takes no record of this size."""
        sent = next(sent for sent in self.chain.producer.sent if sent.topic == REPLIES)
        self.chain.producer.sent.remove(sent)
        name = sent.key.decode()
        if not large or decode_reply(sent.value or b"")["outcome"] != "COMPLETED":
            self.cared_for.add(name)
        self.in_loop(lambda: sent.on_delivery(MessageTooLarge(9, 8) if large else TopicUnknown("it is gone")))
        self.turn()

    @precondition(lambda self: self.chain.producer.sent)
    @rule(arrived=st.booleans())
    def lose_the_producer(self, arrived: bool) -> None:
        """What was sent may have arrived; that can never be told here, so the processor ends."""
        sent = self.chain.producer.sent.pop(0)
        if arrived:
            self.take_note(sent)
        self.in_loop(lambda: sent.on_delivery(BrokerUnavailable("the producer is lost")))
        self.turn()
        assert self.chain.fatal.error is not None
        assert self.chain.stopped.is_set()
        self.sigterm()

    @rule(full=st.booleans())
    def fill_the_producer(self, full: bool) -> None:
        self.in_loop(self.chain.producer.capacity.clear if full else self.chain.producer.capacity.set)
        self.turn()

    @rule(tier=st.sampled_from(TIERS), works=st.sampled_from([True, True, False, None]))
    def commit(self, tier: str, works: bool | None) -> None:
        self.chain.member.commits_work = works
        self.loop.run_until_complete(self.chain.fetchers[tier].commit())

    # what the group does

    @rule(data=st.data(), commit_works=st.sampled_from([True, False, None]))
    def rebalance(self, data: st.DataObject, commit_works: bool | None) -> None:
        self.revoke(commit_works)
        if data.draw(st.booleans(), "others work meanwhile"):
            for partition in sorted(PARTITIONS):
                self.others_work(partition, data.draw(st.integers(0, len(self.logs[partition])), "up to"))
        self.assign(data.draw(st.sets(st.sampled_from(sorted(PARTITIONS))), "assigned"))
        self.turn()

    def revoke(self, commit_works: bool | None) -> None:
        self.chain.member.commits_work = commit_works
        for tier, fetcher in self.chain.fetchers.items():
            mine = {partition for partition in self.owned if PARTITIONS[partition] == tier}
            for partition in mine:
                self.chain.member.positions.pop(partition, None)
            self.loop.run_until_complete(fetcher.revoked(mine))
        self.owned = set()

    def others_work(self, partition: Partition, upto: int) -> None:
        begin = self.group.get(partition, 0)
        if upto > begin:
            self.cared_for.update(self.id_of(record) for record in self.logs[partition][begin:upto])
            self.group[partition] = upto

    def assign(self, partitions: set[Partition]) -> None:
        for tier, fetcher in self.chain.fetchers.items():
            mine = {partition for partition in partitions if PARTITIONS[partition] == tier}
            self.loop.run_until_complete(fetcher.assigned(mine))
            for partition in mine:
                known = partition in self.group
                self.chain.begin(
                    tier, partition, self.group.get(partition, 0), Start.COMMITTED if known else Start.UNCOMMITTED
                )
        self.owned = set(partitions)

    @rule(partition=st.sampled_from(sorted(PARTITIONS)))
    def make_the_topic_anew(self, partition: Partition) -> None:
        """Its records are gone, and with them what the group had committed."""
        self.logs[partition] = []
        self.group.pop(partition, None)
        if partition in self.owned:
            self.in_loop(lambda: self.chain.begin(PARTITIONS[partition], partition, 0, Start.RESET))

    # how processors end

    @rule()
    def crash(self) -> None:
        self.end_tasks()
        self.start_processor()

    @rule()
    def sigterm(self) -> None:
        async def end() -> None:
            self.chain.processor.stop_accepting()
            for fetcher in self.chain.fetchers.values():
                fetcher.stop_accepting()
            await self.chain.processor.drain(0, asyncio.Event())

        self.loop.run_until_complete(end())
        for sent in self.chain.producer.sent:
            self.take_note(sent)
            self.in_loop(lambda sent=sent: sent.on_delivery(None))  # type: ignore[misc]
        self.chain.producer.sent.clear()
        for held in list(self.chain.calls.threads):
            self.end_thread(held, b"late")
        self.turn()
        if self.chain.fatal.error is None:
            assert all(not lease.is_open for lease in self.leases), "each lease has ended"
            assert self.chain.scheduler.free == SLOTS
        for tier in TIERS:
            self.chain.member.commits_work = True
            self.loop.run_until_complete(self.chain.fetchers[tier].commit())
        self.committed_is_cared_for()
        self.crash()

    def end_tasks(self) -> None:
        self.chain.processor._accepting = False
        tasks = asyncio.all_tasks(self.loop)
        for future in list(self.chain.script.held.values()):
            future.cancel()
        for task in tasks:
            task.cancel()
        self.turn()
        for held in self.chain.calls.threads:
            held.future.set_result(HandlerResult(0, 0))
        self.chain.calls.threads.clear()
        self.turn()

    # what always holds

    @invariant()
    def committed_is_cared_for(self) -> None:
        for partition, offset in self.group.items():
            for record in self.logs[partition][:offset]:
                assert self.id_of(record) in self.cared_for, f"{partition} is committed to {offset}"

    @invariant()
    def settled_by_this_owner(self) -> None:
        for lease in self.leases:
            if lease.ending in (Ending.DONE, Ending.HANDED_ON):
                assert self.names[lease] in self.cared_for
                self.settled_here.add(self.names[lease])

    @invariant()
    def no_slot_leaks(self) -> None:
        used = SLOTS - self.chain.scheduler.free
        processor = self.chain.processor
        assert used == sum(self.chain.scheduler.used.values())
        assert used <= len(processor._tasks) + len(self.chain.calls.threads)

    @invariant()
    def nothing_goes_wrong_unseen(self) -> None:
        assert not self.wrong, self.wrong

    def teardown(self) -> None:
        """When others stop interfering, everything is settled and committed: lag reaches zero."""
        if not hasattr(self, "loop"):
            return
        try:
            self.settle_everything()
        finally:
            self.end_tasks()
            self.loop.close()
            asyncio.set_event_loop(None)

    def settle_everything(self) -> None:
        self.revoke(commit_works=True)
        self.assign(set(PARTITIONS))
        self.in_loop(self.chain.producer.capacity.set)
        self.chain.member.commits_work = True
        for _ in range(200):
            for tier in TIERS:
                self.fetch_from(tier, WINDOW)
            self.turn()
            for name in list(self.chain.script.held):
                self.finish(self.chain.script.held.pop(name), b"done")
            for held in list(self.chain.calls.threads):
                self.end_thread(held, b"done")
            for future in self.chain.calls.processes:
                if not future.done():
                    future.set_result(HandlerResult(0, 0, b"done"))
            self.chain.calls.processes.clear()
            self.turn()
            while self.chain.producer.sent:
                self.deliver(self.chain.producer.sent.pop(0))
            self.turn()
            for tier in TIERS:
                self.loop.run_until_complete(self.chain.fetchers[tier].commit())
            if self.group == {partition: len(log) for partition, log in self.logs.items()}:
                break
        assert self.chain.fatal.error is None
        assert self.group == {partition: len(log) for partition, log in self.logs.items()}, "lag is zero"
        assert all(not lease.is_open for lease in self.leases), "each lease has ended"
        assert self.chain.scheduler.free == SLOTS, "each slot is free"
        assert not self.chain.processor._tasks


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor_module, "CANCELLATION_BOUND", 0.05)
    monkeypatch.setattr(fetch_module, "REVOKE_BOUND", 0.0)


World.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestWorld = World.TestCase
