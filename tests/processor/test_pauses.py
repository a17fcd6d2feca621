"""Pauses of the process: what it has in hand waits, group by group, until the group says that it is still a member."""

from __future__ import annotations

from forebay_processor.pauses import Pauses

LIMIT = 3.0


class Groups:
    """Two groups, and the clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.confirmed = {"one": 99.9, "other": 99.9}
        self.pauses = Pauses(LIMIT, lambda: self.now)
        self.pauses.watch("one", lambda: self.confirmed["one"])
        self.pauses.watch("other", lambda: self.confirmed["other"])

    def in_doubt_after(self, seconds: float) -> set[str]:
        self.now += seconds
        return set(self.pauses.in_doubt())


def test_nothing_is_in_doubt_while_the_process_goes_on() -> None:
    groups = Groups()
    assert not any(groups.in_doubt_after(LIMIT) for _ in range(10)), "although no heartbeat was answered meanwhile"


def test_after_a_pause_each_group_is_in_doubt_until_it_answers_a_heartbeat_sent_since() -> None:
    groups = Groups()
    groups.confirmed["one"] = 100.1
    assert groups.in_doubt_after(LIMIT + 1) == {"one", "other"}
    assert groups.in_doubt_after(0.1) == {"one", "other"}, "what was answered before the pause says nothing"
    groups.confirmed["one"] = groups.now
    assert groups.in_doubt_after(0.1) == {"other"}
    groups.confirmed["other"] = groups.now
    assert groups.in_doubt_after(0.1) == set()


def test_a_second_pause_begins_anew() -> None:
    groups = Groups()
    groups.in_doubt_after(LIMIT + 1)
    groups.confirmed["one"] = groups.now
    assert groups.in_doubt_after(0) == {"other"}
    assert groups.in_doubt_after(LIMIT + 1) == {"one", "other"}
