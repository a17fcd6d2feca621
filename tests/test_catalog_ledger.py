"""What the records of the catalog say together, one rule at a time; races are tested with the announcer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forebay.catalog import Ledger
from forebay.messages import OperationMessage, encode_operation

NAME = "greet"


def schema(**fields: Any) -> str:
    """A record with these fields: a type, or a type and a default."""
    listed = [
        {"name": name, "type": kind} if isinstance(kind, str) else {"name": name, "type": kind[0], "default": kind[1]}
        for name, kind in fields.items()
    ]
    return json.dumps({"type": "record", "name": "Request", "fields": listed})


PLAIN, SIZED, TAGGED = (
    schema(name="string"),
    schema(name="string", size=("int", 3)),
    schema(name="string", tag=("string", "")),
)
NUMBERED = schema(name="int")


def record(*requests: str, app: str = "shop", term: int = 0, tier: str = "bulk", by: str = "p") -> bytes:
    return encode_operation(
        OperationMessage(
            name=NAME,
            app=app,
            description="",
            tier=tier,
            deadline_ms=1000,
            accepts="application/json",
            returns="image/png",
            request_schemas=list(requests),
            result_schemas=[],
            announced_at=1,
            announced_by=by,
            term=term,
        )
    )


def ledger(*values: bytes | None, start: int = 10) -> Ledger:
    """What these records say, one after another."""
    made = Ledger()
    for offset, value in enumerate(values, start):
        made.take(NAME, value, offset)
    return made


def says(made: Ledger) -> tuple[str, list[str]] | None:
    entry = made.entry(NAME)
    return None if entry is None else (entry.message["app"], entry.message["request_schemas"])


def test_a_record_that_lacks_a_schema_does_not_drop_it() -> None:
    made = ledger(record(PLAIN), record(SIZED), record(TAGGED))
    assert says(made) == ("shop", [TAGGED, SIZED, PLAIN])
    assert made.to_restate(NAME), "compaction would leave the last record alone"
    made.take(NAME, record(TAGGED, SIZED, PLAIN), 20)
    assert not made.to_restate(NAME)


@pytest.mark.parametrize(
    "other", [record(PLAIN, app="museum"), record(NUMBERED), record()], ids=["app", "type", "bytes"]
)
def test_of_those_that_contradict_each_other_the_first_holds(other: bytes) -> None:
    made = ledger(record(PLAIN), other)
    assert says(made) == ("shop", [PLAIN])
    assert made.to_restate(NAME)
    assert made.term(NAME) == 1
    assert not ledger(record(PLAIN), other, record(PLAIN, term=1)).to_restate(NAME)
    assert says(ledger(other, record(PLAIN, term=1))) == ("shop", [PLAIN]), "also for whoever saw only the rest"


def test_a_name_that_was_withdrawn_is_free_and_what_was_announced_before_does_not_come_back() -> None:
    assert says(ledger(record(PLAIN), None)) is None
    made = ledger(record(PLAIN, term=5), None)
    assert made.term(NAME) == 12, "beyond the tombstone, and so beyond everything before it"
    made.take(NAME, record(NUMBERED, app="museum", term=made.term(NAME)), 12)
    made.take(NAME, record(PLAIN, term=5), 13)
    assert says(made) == ("museum", [NUMBERED])


@pytest.mark.parametrize(
    "value", [b"", b"nothing of the kind", record("{"), record(PLAIN, term=99), record(PLAIN, NUMBERED)]
)
def test_what_cannot_be_used_is_ignored_and_said_over(value: bytes) -> None:
    made = ledger(record(PLAIN), value)
    assert says(made) == ("shop", [PLAIN])
    assert made.to_restate(NAME)


def test_the_policy_of_the_latest_holds() -> None:
    made = ledger(record(PLAIN, tier="bulk"), record(PLAIN, tier="standard"), record(PLAIN, tier="bulk"))
    entry = made.entry(NAME)
    assert entry is not None
    assert entry.message["tier"] == "bulk"
    assert not made.to_restate(NAME)


@pytest.mark.parametrize("key", ["", "Greet", "a/b", "x" * 65, "\ufffd"])
def test_a_key_that_is_no_name_is_ignored(key: str) -> None:
    made = Ledger()
    assert not made.take(key, record(PLAIN), 10)
    assert made.entry(key) is None
