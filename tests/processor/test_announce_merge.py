"""What a processor announces of an operation, given what the catalog says of it already."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import make_dataclass
from typing import Any

import pytest

from forebay import Forebay
from forebay.app import Operation
from forebay.catalog import CatalogEntry
from forebay.codec import Schema
from forebay.errors import IncompatibleSchema, InvalidSchema, OperationTaken, UnusableRecord
from forebay.messages import OperationMessage, encode_operation
from forebay_processor.announce import merge

Fields = list[Any]
V1: Fields = [("name", str)]
V2: Fields = [("name", str), ("size", int, dataclasses.field(default=3))]
V3: Fields = [("name", str), ("size", int, dataclasses.field(default=3)), ("tag", str, dataclasses.field(default=""))]


def operation(request: Fields | None = None, result: Fields | None = None, **options: Any) -> Operation:
    """An operation whose request and result have these fields; None for opaque bytes."""

    def greet(request: Any) -> Any:
        """Greet somebody."""
        return request

    kinds = (
        bytes if fields is None else make_dataclass(name, fields)
        for name, fields in (("Request", request), ("Result", result))
    )
    greet.__annotations__ = dict(zip(("request", "return"), kinds, strict=True))
    app = Forebay("shop")
    app.operation(**options)(greet)
    return app.operations["greet"]


def announced(first: Operation, *later: Operation) -> OperationMessage:
    """What the catalog says after these were announced one after another."""
    known: OperationMessage | None = None
    for at, each in enumerate([first, *later], start=1):
        known = merge(each, known, f"processor-{at}", at * 1000) or known
    assert known is not None
    return known


def text(kind: Operation) -> str:
    assert kind.request.schema is not None
    return kind.request.schema.text


def test_a_new_operation_is_announced_as_it_is_declared() -> None:
    declared = operation(V1, V1, tier="bulk", deadline=2.5)
    assert merge(declared, None, "p", 17) == {
        "name": "greet",
        "app": "shop",
        "description": "Greet somebody.",
        "tier": "bulk",
        "deadline_ms": 2500,
        "accepts": "application/json",
        "returns": "application/json",
        "request_schemas": [text(declared)],
        "result_schemas": [declared.result.schema.text if declared.result.schema else ""],
        "announced_at": 17,
        "announced_by": "p",
        "term": 0,
    }


def test_opaque_bytes_have_no_schemas() -> None:
    message = announced(operation(accepts="image/png", returns="image/jpeg"))
    assert (message["request_schemas"], message["result_schemas"]) == ([], [])
    assert (message["accepts"], message["returns"]) == ("image/png", "image/jpeg")


@pytest.mark.parametrize("fields", [V1, None])
def test_what_the_catalog_says_already_is_not_announced_again(fields: Fields | None) -> None:
    known = announced(operation(fields, fields))
    assert merge(operation(fields, fields), known, "another", 99) is None


@pytest.mark.parametrize("options", [{"tier": "bulk"}, {"deadline": 5.0}], ids=str)
def test_another_policy_is_announced(options: dict[str, Any]) -> None:
    change = merge(operation(V1, V1, **options), announced(operation(V1, V1)), "p2", 99)
    assert change is not None
    assert (change["announced_by"], change["announced_at"]) == ("p2", 99)


def test_another_media_type_is_announced() -> None:
    change = merge(operation(accepts="image/*"), announced(operation(accepts="image/png")), "p2", 99)
    assert change is not None
    assert change["accepts"] == "image/*"


def test_a_new_version_is_written_first_and_earlier_ones_stay() -> None:
    versions = [operation(fields, V1) for fields in (V1, V2, V3)]
    assert announced(*versions)["request_schemas"] == [text(version) for version in reversed(versions)]


def test_an_older_processor_that_starts_again_keeps_the_newest_first() -> None:
    versions = [operation(fields, V1) for fields in (V1, V2, V3)]
    known = announced(*versions)
    for older in versions:
        assert merge(older, known, "old", 99) is None


def test_an_older_processor_with_another_policy_still_keeps_the_newest_first() -> None:
    known = announced(operation(V1, V1), operation(V2, V1))
    change = merge(operation(V1, V1, tier="bulk"), known, "old", 99)
    assert change is not None
    assert change["request_schemas"] == known["request_schemas"]


def test_a_version_that_changes_only_what_a_fingerprint_leaves_out_takes_the_place_of_its_twin() -> None:
    other_default: Fields = [("name", str), ("size", int, dataclasses.field(default=4))]
    known = announced(operation(V1, V1), operation(V2, V1), operation(other_default, V1))
    newest, *older = known["request_schemas"]
    assert json.loads(newest)["fields"][1]["default"] == 4
    assert older == [text(operation(V1, V1))]


def test_the_result_is_merged_like_the_request() -> None:
    known = announced(operation(V1, V1), operation(V1, V2))
    assert len(known["request_schemas"]) == 1
    assert len(known["result_schemas"]) == 2


BAD: dict[str, tuple[Fields, str]] = {
    "a field without a default comes": ([("name", str), ("size", int)], "size"),
    "a field without a default goes": ([("nickname", str)], "nickname"),
    "a type changes": ([("name", int)], "name"),
}


@pytest.mark.parametrize(("fields", "where"), BAD.values(), ids=list(BAD))
@pytest.mark.parametrize("side", ["request", "result"])
def test_a_version_that_does_not_fit_is_refused_by_its_field(side: str, fields: Fields, where: str) -> None:
    known = announced(operation(V1, V1))
    declared = operation(fields, V1) if side == "request" else operation(V1, fields)
    with pytest.raises(IncompatibleSchema) as caught:
        merge(declared, known, "p2", 99)
    assert (caught.value.operation, caught.value.field) == ("greet", f"{side}.{where}")
    assert "operation 'greet'" in str(caught.value)


def test_a_version_must_fit_every_earlier_one() -> None:
    """The third fits the newest, which has no size, but not the first, whose size is a number."""
    optional: Fields = [("name", str), ("size", int, dataclasses.field(default=3))]
    another: Fields = [("name", str), ("size", str, dataclasses.field(default=""))]
    known = announced(operation(optional, V1), operation(V1, V1))
    with pytest.raises(IncompatibleSchema) as caught:
        merge(operation(another, V1), known, "p3", 99)
    assert caught.value.field == "request.size"


@pytest.mark.parametrize(
    ("before", "after", "side", "change"),
    [
        (operation(None, V1), operation(V1, V1), "request", "bytes to a schema"),
        (operation(V1, V1), operation(None, V1), "request", "a schema to bytes"),
        (operation(V1, None), operation(V1, V1), "result", "bytes to a schema"),
        (operation(V1, V1), operation(V1, None), "result", "a schema to bytes"),
    ],
)
def test_bytes_and_a_schema_do_not_take_each_others_place(
    before: Operation, after: Operation, side: str, change: str
) -> None:
    with pytest.raises(IncompatibleSchema, match=f"the {side} changes from {change}") as caught:
        merge(after, announced(before), "p2", 99)
    assert caught.value.field == side


def test_an_entry_reads_what_any_version_wrote() -> None:
    first, second = operation(V1, V1), operation(V2, V1)
    entry = CatalogEntry.parse("greet", encode_operation(announced(first, second)), 0)
    assert entry.requests is not None
    written = Schema(text(first)).encode({"name": "Ada"})
    assert entry.requests.decode(written) == {"name": "Ada", "size": 3}


@pytest.mark.parametrize("schema", ["", "[", "3", '{"type": "thing"}', '{"type": "record", "fields": []}'])
def test_an_entry_whose_schema_is_none_is_no_entry(schema: str) -> None:
    message = announced(operation(V1, V1))
    with pytest.raises(InvalidSchema, match="a schema of 'greet' is not Avro"):
        CatalogEntry.parse("greet", encode_operation({**message, "request_schemas": [schema]}), 0)


UNUSABLE: dict[str, Any] = {
    "name": "farewell",
    "app": "Shop of mine",
    "tier": "urgent",
    "deadline_ms": 0,
    "accepts": "text",
    "returns": "text/plain\r\nset-cookie: a=b",
    "term": 1,
}


@pytest.mark.parametrize("field", UNUSABLE)
def test_an_entry_that_cannot_be_served_is_no_entry(field: str) -> None:
    message: Any = {**announced(operation(V1, V1)), field: UNUSABLE[field]}
    with pytest.raises(UnusableRecord, match=f"its {field} is "):
        CatalogEntry.parse("greet", encode_operation(message), 0)


def test_an_entry_whose_own_schemas_contradict_each_other_is_no_entry() -> None:
    one, other = announced(operation(V1, V1)), announced(operation([("name", int)], V1))
    both: Any = {**one, "request_schemas": one["request_schemas"] + other["request_schemas"]}
    with pytest.raises(InvalidSchema, match="two schemas of 'greet' differ at 'name'"):
        CatalogEntry.parse("greet", encode_operation(both), 0)


def test_another_apps_operation_is_refused_naming_that_app() -> None:
    known: Any = {**announced(operation(V1, V1)), "app": "museum"}
    with pytest.raises(OperationTaken, match="operation 'greet' of app 'shop' belongs to app 'museum'") as caught:
        merge(operation(V1, V1), known, "p2", 99)
    assert (caught.value.operation, caught.value.owner, caught.value.app) == ("greet", "museum", "shop")
    assert "'forebay operations --forget greet'" in str(caught.value)


def test_a_refused_schema_is_told_what_can_be_done() -> None:
    with pytest.raises(IncompatibleSchema) as caught:
        merge(operation([("name", int)], V1), announced(operation(V1, V1)), "p2", 99)
    for way_out in ("default", "a new operation name", "'forebay operations --forget greet'"):
        assert way_out in str(caught.value)
