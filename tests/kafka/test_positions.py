"""Tests of where the partitions of a reader are read next, without Kafka."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import cast

import pytest

from forebay.kafka.link import Link
from forebay.kafka.positions import Positions, Start
from forebay.kafka.records import Partition

NO_LINK = cast(Link, None)
LOOKED_UP, OTHER = ("topic", 0), ("topic", 1)


@pytest.mark.parametrize("reset", [[], [OTHER]], ids=["none of its partitions was read", "another one was"])
async def test_an_offset_that_was_asked_for_before_the_topic_changed_does_not_count(reset: list[Partition]) -> None:
    offsets = [7, 3]
    begun: list[tuple[Partition, int, Start]] = []

    async def resume(asked: Collection[Partition]) -> Mapping[Partition, int | None]:
        if len(offsets) == 2:
            positions.reset(reset)  # the topic is deleted and created again while the group is asked
        return dict.fromkeys(asked, offsets.pop(0))

    positions = Positions(NO_LINK, {"topic": b"id"}, resume, lambda *where: begun.append(where))
    positions.assign({LOOKED_UP: None, OTHER: 5})
    await positions.find()
    assert LOOKED_UP in positions.unknown
    assert not begun
    positions.assign({LOOKED_UP: None})
    await positions.find()
    assert begun == [(LOOKED_UP, 3, Start.COMMITTED)]
