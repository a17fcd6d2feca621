"""Sharing out the partitions of a group."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.kafka.sharing import Claim, known_somewhere, read_claims, share

partition_counts = st.integers(0, 24)
lists = st.lists(st.integers(0, 24), max_size=24, unique=True)
members = st.text("abcdef", min_size=1, max_size=3)
claims = st.dictionaries(members, st.builds(Claim, lists, lists, st.just(False)), min_size=1)


def owning(shares: dict[str, list[int]], busy: dict[str, list[int]] | None = None) -> dict[str, Claim]:
    return {member: Claim((busy or {}).get(member, []), owned) for member, owned in shares.items()}


@given(partition_counts, claims)
def test_everything_is_shared_once_and_evenly_whatever_is_claimed(count: int, claims: dict[str, Claim]) -> None:
    shares = share(range(count), claims)
    assert shares.keys() == claims.keys()
    assert sorted(partition for granted in shares.values() for partition in granted) == list(range(count))
    sizes = [len(granted) for granted in shares.values()]
    assert max(sizes) - min(sizes) <= 1


@given(partition_counts, claims)
def test_nothing_moves_while_nobody_comes_or_goes(count: int, claims: dict[str, Claim]) -> None:
    shares = share(range(count), claims)
    assert share(range(count), owning(shares)) == shares


@given(partition_counts, claims)
def test_only_what_a_newcomer_gets_moves(count: int, claims: dict[str, Claim]) -> None:
    before = share(range(count), claims)
    after = share(range(count), owning(before) | {"newcomer": Claim([], [])})
    assert all(set(after[member]) <= set(before[member]) for member in before)


@given(partition_counts, claims)
def test_whoever_stays_keeps_all_when_another_goes(count: int, claims: dict[str, Claim]) -> None:
    before = share(range(count), claims | {"gone": Claim([], [])})
    stayed = {member: granted for member, granted in before.items() if member != "gone"}
    after = share(range(count), owning(stayed))
    assert all(set(before[member]) <= set(after[member]) for member in stayed)


@given(partition_counts, claims, st.dictionaries(members.map(str.upper), st.builds(Claim, lists, lists, st.just(True))))
def test_whoever_leaves_keeps_what_it_works_on_and_the_others_share_the_rest(
    count: int, staying: dict[str, Claim], leaving: dict[str, Claim]
) -> None:
    shares = share(range(count), staying | leaving)
    assert sorted(partition for granted in shares.values() for partition in granted) == list(range(count))
    kept = {partition for member in leaving for partition in shares[member]}
    assert all(set(shares[member]) <= set(leaving[member].busy) for member in leaving)
    assert kept == {partition for claim in leaving.values() for partition in claim.busy if partition < count}
    sizes = [len(shares[member]) for member in staying]
    assert max(sizes) - min(sizes) <= 1


@given(partition_counts, st.dictionaries(members, st.builds(Claim, lists, lists, st.just(True)), min_size=1))
def test_what_only_those_who_leave_could_read_waits_for_somebody_to_come(count: int, leaving: dict[str, Claim]) -> None:
    shares = share(range(count), leaving)
    granted = sorted(partition for mine in shares.values() for partition in mine)
    assert granted == sorted({partition for claim in leaving.values() for partition in claim.busy if partition < count})


def test_a_newcomer_gets_what_nobody_is_working_on() -> None:
    before = {"first": list(range(12))}
    after = share(range(12), owning(before, {"first": [0, 3, 5, 7, 10, 11]}) | {"second": Claim([], [])})
    assert after == {"first": [0, 3, 5, 7, 10, 11], "second": [1, 2, 4, 6, 8, 9]}


def test_more_work_in_hand_than_a_fair_share_is_no_reason_to_be_unfair() -> None:
    after = share(range(4), {"first": Claim([0, 1, 2, 3], [0, 1, 2, 3]), "second": Claim([], [])})
    assert after == {"first": [0, 1], "second": [2, 3]}


def test_work_in_hand_counts_for_more_than_what_somebody_owned_once() -> None:
    after = share(range(2), {"a": Claim([], [0, 1]), "b": Claim([0], [])})
    assert after == {"a": [1], "b": [0]}


def test_of_more_work_in_hand_than_a_fair_share_what_is_named_first_stays() -> None:
    after = share(range(4), {"first": Claim([3, 1, 0, 2], []), "second": Claim([], [])})
    assert after == {"first": [1, 3], "second": [0, 2]}


@given(partition_counts, st.dictionaries(members, st.lists(st.sampled_from("xyz"), unique=True), min_size=1))
def test_whoever_knows_what_not_everybody_knows_is_named(count: int, known: dict[str, list[str]]) -> None:
    claims = {member: Claim([], [], operations=operations) for member, operations in known.items()}
    shares = share(range(count), claims)
    somewhere = known_somewhere(claims, shares)
    for operation in "xyz":
        knowing = [member for member in known if operation in known[member]]
        expected = {partition for member in knowing for partition in shares[member]}
        if 0 < len(knowing) < len(known):
            assert set(somewhere[operation]) == expected
        else:
            assert operation not in somewhere


@pytest.mark.parametrize("data", [None, b"", b"{}", b"nothing", b"[]", b'{"busy": [1], "owned": [1]}'])
def test_a_member_that_says_nothing_of_use_claims_nothing(data: bytes | None) -> None:
    """As one of another version, or something else that uses the group's name."""
    assert read_claims(data) == {}
