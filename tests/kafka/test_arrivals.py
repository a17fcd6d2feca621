"""The rhythm of reading: a wait that ends with what it waits for, or soon."""

from __future__ import annotations

import asyncio

from forebay.kafka import Lull

NEVER = 3600.0


async def test_a_lull_ends_when_it_is_told_to() -> None:
    lull = Lull(NEVER)
    waiting = asyncio.create_task(lull.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    lull.end()
    lull.end()
    async with asyncio.timeout(5):
        await waiting


async def test_a_lull_ends_by_itself() -> None:
    async with asyncio.timeout(5):
        await Lull(0.001).wait()


async def test_an_end_that_nobody_waits_for_is_not_kept_for_the_next_lull() -> None:
    lull = Lull(NEVER)
    lull.end()
    waiting = asyncio.create_task(lull.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    lull.end()
    async with asyncio.timeout(5):
        await waiting


async def test_a_lull_that_is_called_off_leaves_no_timer() -> None:
    lull = Lull(0.001)
    waiting = asyncio.create_task(lull.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()
    async with asyncio.timeout(5):
        await lull.wait()
