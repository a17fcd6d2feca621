"""schedule: which job runs next, and how many of each tier at once.

Each tier has slots reserved; what is not reserved goes to whoever needs it, the most urgent tier first. So urgent work
never waits behind a processor full of slow work, and no tier starves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping

from forebay.errors import ConfigurationError
from forebay_processor.work import Work


def reserves(slots: int, tiers: Iterable[str]) -> dict[str, int]:
    """Return how many slots each tier keeps, the most urgent tier first: a quarter, an eighth, …, and at least one.

    Raises:
        ConfigurationError: there are fewer slots than tiers.
    """
    names = list(tiers)
    if slots < len(names):
        raise ConfigurationError(f"setting slots = {slots}: each of the tiers {', '.join(names)} needs one")
    return {name: max(1, slots >> (place + 2)) if place < len(names) - 1 else 1 for place, name in enumerate(names)}


class Scheduler:
    """The jobs that wait here, and the slots they wait for.

    Args:
        slots: how many jobs run at once.
        reserved: how many of the slots each tier keeps, the most urgent tier first.
        backlog: how many jobs of a tier may wait here; the others wait in the topic.
        backlog_bytes: how many bytes of payload may wait here, of all tiers together.

    Attributes:
        slots: how many jobs run at once.
    """

    def __init__(self, slots: int, reserved: Mapping[str, int], *, backlog: int, backlog_bytes: int) -> None:
        self._queues: dict[str, deque[Work]] = {tier: deque() for tier in reserved}
        self._reserved = dict(reserved)
        self._used = dict.fromkeys(reserved, 0)
        self._kept = sum(reserved.values())  # reserved slots that their tiers do not use at present
        self.slots = slots
        self._free = slots
        self._backlog = backlog
        self._bytes_left = backlog_bytes

    @property
    def used(self) -> dict[str, int]:
        """How many slots are taken, by tier."""
        return dict(self._used)

    @property
    def free(self) -> int:
        """How many slots are not taken."""
        return self._free

    @property
    def waiting(self) -> bool:
        """Whether any job waits here."""
        return any(self._queues.values())

    def room(self, tier: str) -> int:
        """Return how many more jobs of a tier may be fetched; 0 while the payloads here fill their memory."""
        return max(0, self._backlog - len(self._queues[tier])) if self._bytes_left > 0 else 0

    def offer(self, work: Work) -> None:
        """Put a job in the queue of its tier."""
        self._queues[work.tier].append(work)
        self._bytes_left -= work.size

    def expired(self, now_ms: int) -> list[Work]:
        """Take out the jobs at the head of each queue whose deadline has passed; they need no slot."""
        gone = []
        for queue in self._queues.values():
            while queue and queue[0].job["deadline"] <= now_ms:
                gone.append(self._pop(queue))
        return gone

    def take(self, held_back: Collection[str] = ()) -> Work | None:
        """Take out the job to run next, and a slot for it; None while there is no job or no slot for one.

        Args:
            held_back: tiers of which nothing is to be run at present.
        """
        if self._free <= 0:
            return None
        for tier, queue in self._queues.items():
            if queue and tier not in held_back and self._may_start(tier):
                if self._used[tier] < self._reserved[tier]:
                    self._kept -= 1
                self._used[tier] += 1
                self._free -= 1
                return self._pop(queue)
        return None

    def release(self, tier: str) -> None:
        """Give back the slot of a job that is done."""
        self._used[tier] -= 1
        self._free += 1
        if self._used[tier] < self._reserved[tier]:
            self._kept += 1

    def blocked_by(self, held: Mapping[str, int]) -> list[str]:
        """Return the tiers that could start no job if no other slots were taken than ``held``, by tier."""
        free = self.slots - sum(held.values())
        kept = sum(max(0, reserved - held.get(tier, 0)) for tier, reserved in self._reserved.items())
        return [tier for tier, reserved in self._reserved.items() if held.get(tier, 0) >= reserved and free <= kept]

    def withdraw(self, belongs: Callable[[Work], bool]) -> list[Work]:
        """Take out every waiting job for which ``belongs`` says so: it is not ours to run any more."""
        withdrawn = []
        for tier, queue in self._queues.items():
            kept: deque[Work] = deque()
            for work in queue:
                if belongs(work):
                    withdrawn.append(work)
                    self._bytes_left += work.size
                else:
                    kept.append(work)
            self._queues[tier] = kept
        return withdrawn

    def _may_start(self, tier: str) -> bool:
        """Whether a tier has a reserved slot left, or there is one that no tier has reserved."""
        return self._used[tier] < self._reserved[tier] or self._free > self._kept

    def _pop(self, queue: deque[Work]) -> Work:
        work = queue.popleft()
        self._bytes_left += work.size
        return work
