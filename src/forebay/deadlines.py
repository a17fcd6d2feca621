"""Many deadlines kept by one coarse clock, in place of a timer for each.

A hashed timing wheel (Varghese and Lauck, 1987) without the wrap-around: adding and discarding cost a set entry each,
and memory is held only for keys that are kept.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Deadlines(Generic[Key]):
    """Keys with the instant at which each is due.

    Args:
        tick: seconds between two looks at the clock, and so how late a key may be reported; never early.
        now: the instant to start from, on the caller's clock, in seconds.
    """

    __slots__ = ("_buckets", "_next", "_passed", "tick")

    def __init__(self, tick: float, now: float) -> None:
        self.tick = tick
        self._buckets: dict[int, set[Key]] = {}
        self._passed: dict[Key, float] = {}  # what the clock had passed when it was added
        self._next = self._bucket(now)

    def _bucket(self, instant: float) -> int:
        return int(instant / self.tick) + 1

    def add(self, key: Key, deadline: float) -> None:
        """Keep ``key`` until ``deadline``; one that has passed is due at the next look."""
        bucket = self._bucket(deadline)
        if bucket < self._next:
            self._passed[key] = deadline
            return
        keys = self._buckets.get(bucket)
        if keys is None:
            self._buckets[bucket] = {key}
        else:
            keys.add(key)

    def discard(self, key: Key, deadline: float) -> None:
        """Forget ``key``, which was added with ``deadline``; a key that is due or unknown is ignored."""
        self._passed.pop(key, None)
        bucket = self._bucket(deadline)
        keys = self._buckets.get(bucket)
        if keys is not None:
            keys.discard(key)
            if not keys:
                del self._buckets[bucket]

    def due(self, now: float) -> list[Key]:
        """Return the keys whose deadline has passed by ``now``, and forget them."""
        last = int(now / self.tick)
        if last - self._next > len(self._buckets):  # after a long silence: look at what there is, not at every tick
            found = sorted(bucket for bucket in self._buckets if bucket <= last)
        else:
            found = [bucket for bucket in range(self._next, last + 1) if bucket in self._buckets]
        self._next = max(self._next, last + 1)
        passed = [key for key, deadline in self._passed.items() if deadline <= now]
        for key in passed:
            del self._passed[key]
        return [*passed, *(key for bucket in found for key in self._buckets.pop(bucket))]
