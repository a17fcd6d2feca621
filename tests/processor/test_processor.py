"""Slots, deadlines and the end: each job's task gives its slot back and ends its lease, however it ends itself."""

from __future__ import annotations

import asyncio
import uuid
from functools import partial

import pytest

from forebay.errors import SlotsHeld
from forebay.kafka import Record, Start
from forebay.messages import decode_reply, encode_job
from forebay.settings import TIERS
from forebay_processor import held
from forebay_processor import processor as processor_module
from forebay_processor.lease import Ending, Lease
from forebay_schemas import topics as topic_names
from tests.support.chain import APP, NAMESPACE, PAUSE_LIMIT, SLOTS, Chain
from tests.support.jobs import NEVER, a_message
from tests.support.waiting import until


class Running:
    """A processor whose tiers each have one partition."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.chain = Chain({}, lambda: self.now)
        self.leases: list[Lease] = []
        self._offsets = 0

    async def fetch(self, operation: str, tier: str = "interactive", *, deadline: int = NEVER) -> Lease:
        """Let it fetch a job; nothing has run yet when this returns."""
        fetcher = self.chain.fetchers[tier]
        partition = (topic_names.jobs(NAMESPACE, APP, tier), 0)
        if partition not in fetcher.leases.owned:
            await fetcher.assigned({partition})
            self.chain.begin(tier, partition, 0, Start.UNCOMMITTED)
        job = a_message(request_id=f"gw-{uuid.uuid4()}", operation=operation, tier=tier, deadline=deadline)
        record = Record(*partition, self._offsets, 0, job["request_id"].encode(), encode_job(job), ())
        self._offsets += 1
        granted: list[Lease | None] = []
        grant = fetcher.leases.grant

        def noted(record: Record) -> Lease | None:
            granted.append(grant(record))
            return granted[-1]

        fetcher.leases.grant = noted  # type: ignore[method-assign]
        fetcher.take([record])
        fetcher.leases.grant = grant  # type: ignore[method-assign]
        [lease] = granted
        assert lease is not None
        return lease

    def outcome(self) -> str:
        """What the reply says that was produced last."""
        return decode_reply(self.chain.producer.sent[-1].value or b"")["outcome"]


@pytest.fixture
async def running() -> Running:
    return Running()


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_task_cancelled_before_its_first_step_keeps_neither_slot_nor_lease(running: Running) -> None:
    lease = await running.fetch("on_loop", deadline=int(running.now * 1000) + 100)
    running.now += 1
    running.chain.processor.expire()  # the handler's task has had no turn yet
    await turns()
    assert running.chain.scheduler.free == SLOTS
    assert running.outcome() == "EXPIRED"
    assert running.chain.script.begun == []
    running.chain.producer.sent.pop().on_delivery(None)
    assert lease.ending is Ending.DONE


async def test_a_job_cancelled_before_its_first_step_at_the_end_is_handed_back(running: Running) -> None:
    lease = await running.fetch("on_loop")
    running.chain.processor.stop_accepting()
    await running.chain.processor.drain(0, asyncio.Event())
    assert lease.ending is Ending.HANDED_BACK
    assert running.chain.scheduler.free == SLOTS


async def test_what_is_in_hand_after_a_pause_waits_for_the_group_to_say_that_it_is_still_ours(running: Running) -> None:
    chain, processor = running.chain, running.chain.processor
    confirmed = dict.fromkeys(TIERS, 0.0)
    for tier in TIERS:
        chain.pauses.watch(tier, partial(confirmed.__getitem__, tier))
    chain.awake += PAUSE_LIMIT + 1
    left, kept = await running.fetch("on_loop"), await running.fetch("on_loop", "bulk")
    await turns()
    assert chain.script.begun == []
    await chain.fetchers["interactive"].revoked({left.partition})
    assert left.ending is Ending.HANDED_BACK
    chain.awake += 0.1
    confirmed["bulk"] = chain.awake
    processor.expire()
    await turns()
    assert len(chain.script.begun) == 1
    chain.finish(b"")
    await turns()
    chain.producer.sent.pop().on_delivery(None)
    assert kept.ending is Ending.DONE


async def test_a_thread_that_outlives_its_deadline_keeps_its_slot_and_says_so(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    lease = await running.fetch("in_thread", "standard", deadline=int(running.now * 1000) + 100)
    await turns()
    running.now += 1
    running.chain.processor.expire()
    await turns()
    assert running.outcome() == "EXPIRED"
    running.chain.producer.sent.pop().on_delivery(None)
    assert lease.ending is Ending.DONE
    assert running.chain.scheduler.free == SLOTS - 1
    assert running.chain.gauge("forebay_worker_slots_overdue") == 1
    assert "its thread goes on and keeps a slot" in caplog.text
    [held] = running.chain.calls.threads
    held.future.set_result(held.function())
    await turns()
    assert running.chain.scheduler.free == SLOTS
    assert running.chain.gauge("forebay_worker_slots_overdue") == 0


@pytest.mark.parametrize(("operation", "tier"), [("in_thread", "standard"), ("deaf", "interactive")])
async def test_a_processor_ends_once_handlers_that_do_not_end_have_left_a_tier_without_slots_for_long(
    running: Running, operation: str, tier: str
) -> None:
    processor, fatal = running.chain.processor, running.chain.fatal
    for _ in range(2):  # the tier has one slot, and one more is free for all
        await running.fetch(operation, tier, deadline=int(running.now * 1000) + 100)
    await turns()
    assert processor.trouble is None
    running.now += 1
    processor.expire()
    await turns()
    processor.expire()
    assert processor.trouble is not None
    assert processor.trouble.startswith("2 of 4 slots are held by handlers that do not end")
    assert processor.trouble.endswith(f"none is left to tier {tier}")
    running.now += held.END_AFTER
    processor.expire()
    assert fatal.error is None
    running.now += 1
    processor.expire()
    assert isinstance(fatal.error, SlotsHeld)
    assert (fatal.error.held, fatal.error.tiers) == (2, [tier])
    for deaf in running.chain.script.held.values():
        deaf.set_result(b"")
    await turns()


async def test_a_tier_that_has_a_slot_again_is_no_reason_to_end(running: Running) -> None:
    processor = running.chain.processor
    for _ in range(2):
        await running.fetch("in_thread", "standard", deadline=int(running.now * 1000) + 100)
    await turns()
    running.now += 1
    processor.expire()
    await turns()
    processor.expire()
    assert processor.trouble is not None
    thread = running.chain.calls.threads.pop()
    thread.future.set_result(thread.function())
    await turns()
    running.now += 2 * held.END_AFTER
    processor.expire()
    assert processor.trouble is None
    assert running.chain.fatal.error is None


async def test_a_job_that_is_stopped_at_its_deadline_leaves_a_line(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    await running.fetch("on_loop", deadline=int(running.now * 1000) + 100)
    await turns()
    running.now += 1
    running.chain.processor.expire()
    await turns()
    assert running.outcome() == "EXPIRED"
    assert "operation on_loop: job gw-" in caplog.text
    assert "was stopped at its deadline" in caplog.text


async def test_a_handler_that_cancels_its_own_task_has_failed(running: Running) -> None:
    lease = await running.fetch("on_loop")
    await turns()
    [task] = running.chain.processor._tasks
    task.cancel()
    await turns()
    assert running.outcome() == "FAILED"
    running.chain.producer.sent.pop().on_delivery(None)
    assert lease.ending is Ending.DONE
    assert running.chain.scheduler.free == SLOTS


async def test_an_error_in_settling_ends_the_process_and_leaves_the_job_to_others(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(running.chain.producer, "publish", refuse)
    lease = await running.fetch("on_loop")
    await turns()
    running.chain.finish(b"done")
    await turns()
    assert lease.is_open
    assert str(running.chain.fatal.error) == "a mistake"
    assert running.chain.stopped.is_set()
    assert running.chain.scheduler.free == SLOTS


async def test_a_drain_waits_for_what_runs_and_for_no_longer(running: Running) -> None:
    quick, slow = await running.fetch("on_loop"), await running.fetch("on_loop")
    await turns()
    running.chain.processor.stop_accepting()
    draining = asyncio.create_task(running.chain.processor.drain(0.1, asyncio.Event()))
    await turns()
    running.chain.finish(b"done")
    await draining
    running.chain.producer.sent.pop().on_delivery(None)
    assert (quick.ending, slow.ending) == (Ending.DONE, Ending.HANDED_BACK)


async def test_whoever_is_in_a_hurry_hands_back_at_once(running: Running) -> None:
    lease, hurry = await running.fetch("on_loop"), asyncio.Event()
    await turns()
    running.chain.processor.stop_accepting()
    draining = asyncio.create_task(running.chain.processor.drain(600, hurry))
    await turns()
    assert not draining.done()
    hurry.set()
    async with asyncio.timeout(5):
        await draining
    assert lease.ending is Ending.HANDED_BACK


async def test_a_handler_that_will_not_be_cancelled_does_not_keep_the_process(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor_module, "CANCELLATION_BOUND", 0.01)
    lease = await running.fetch("deaf")
    await turns()
    running.chain.processor.stop_accepting()
    async with asyncio.timeout(5):
        await running.chain.processor.drain(0, asyncio.Event())
    assert lease.ending is Ending.HANDED_BACK
    assert not running.chain.processor._tasks
    assert len(asyncio.all_tasks()) == 1, "nothing is left for the loop to wait for"


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException("odd")])
async def test_whatever_a_handler_raises_it_has_failed_and_nothing_else(
    running: Running, raised: BaseException
) -> None:
    def boom() -> bytes:
        raise raised

    lease = await running.fetch("on_loop")
    running.chain.script.on_loop = boom
    await until(lambda: running.chain.producer.sent, 5, "there is a reply")
    assert running.outcome() == "FAILED"
    running.chain.producer.sent.pop().on_delivery(None)
    assert lease.ending is Ending.DONE
