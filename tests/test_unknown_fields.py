"""What an older version would lose of a newer one's payload."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, make_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from forebay.errors import UnreadableBody
from forebay.unknown_fields import UnknownFields
from forebay_gateway.payloads import PayloadCodec
from tests.test_types import Point, Price, Size, body_of


@dataclass
class Line:
    article: str
    note: str | None = None
    made: datetime = datetime(2026, 1, 31, tzinfo=UTC)
    blob: bytes = b"\xff"
    price: Price = Decimal("1.50")
    size: Size = Size.LARGE
    at: Point = Point(1.0)  # noqa: RUF009 - it is frozen
    tag: str = field(default_factory=lambda: "made")


OldLine: Any = make_dataclass("Line", [("article", str)])


def versions(old: Any, new: Any) -> tuple[UnknownFields, PayloadCodec]:
    """The comparison of two types of a field, and the gateway's codec for the newer one."""
    reader = body_of(make_dataclass("Order", [("it", old)])).schema
    writer = body_of(make_dataclass("Order", [("it", new)])).schema
    assert reader is not None
    assert writer is not None
    return UnknownFields(writer, reader), PayloadCodec(writer.text)


PLACES: dict[str, tuple[Any, Any, Any, str]] = {
    "plain": (OldLine, Line, lambda line: line, "it"),
    "optional": (OldLine | None, Line | None, lambda line: line, "it"),
    "in a list": (list[OldLine], list[Line], lambda line: [{"article": "first"}, line], "it[]"),
    "in a map": (dict[str, OldLine], dict[str, Line], lambda line: {"k": line}, "it[]"),
    "in a union": (list[OldLine | None] | str, list[Line | None] | str, lambda line: [None, line], "it[]"),
}


@pytest.mark.parametrize("place", list(PLACES))
@pytest.mark.parametrize(
    ("given", "lost"),
    [
        ({}, None),
        ({"note": None, "made": "2026-01-31T00:00:00Z", "blob": "/w==", "price": "1.5", "size": "large"}, None),
        ({"at": {"x": 1}}, None),
        ({"note": ""}, "note"),
        ({"made": "2026-01-31T00:00:00.000001Z"}, "made"),
        ({"blob": ""}, "blob"),
        ({"price": 1.51}, "price"),
        ({"size": "small"}, "size"),
        ({"at": {"x": 1, "y": 0}}, "at"),
        ({"tag": "made"}, "tag"),
        ({"tag": "__absent__"}, "tag"),
    ],
    ids=str,
)
def test_a_value_that_would_be_lost_is_found(place: str, given: dict[str, Any], lost: str | None) -> None:
    old, new, around, path = PLACES[place]
    unknown, codec = versions(old, new)
    assert unknown.are_possible
    body = {"it": around({"article": "cup", **given})}
    assert unknown.find(codec.encode(json.dumps(body).encode())) == (f"{path}.{lost}" if lost else None)


@dataclass
class Node:
    next: Node | None = None
    weight: int = 0


@dataclass
class OldNode:
    next: OldNode | None = None


OldNode.__name__ = "Node"


def test_a_value_is_found_at_any_depth() -> None:
    unknown, codec = versions(OldNode, Node)
    body = b'{"it": {"next": {"next": {"weight": %d}}}}'
    assert unknown.find(codec.encode(body % 1)) == "it.next.next.weight"
    assert unknown.find(codec.encode(body % 0)) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [(int, int), (Line, Line), (Line, OldLine), (list[Point], list[Point]), (Size | None, Size | None)],
    ids=str,
)
def test_where_nothing_can_be_lost_nothing_is_read(old: Any, new: Any) -> None:
    unknown, _ = versions(old, new)
    assert not unknown.are_possible
    assert unknown.find(b"not a payload") is None


@pytest.mark.parametrize(
    ("kind", "default", "given", "is_lost"),
    [
        (bool | int, 0, "0", False),
        (bool | int, 0, "false", True),
        (int | float, 1, "1", False),
        (int | float, 1, "1.0", True),
        (float, 0.0, "0.0", False),
        (float, 0.0, "-0.0", True),
        (str | None, "__absent__", '"__absent__"', False),
        (str | None, "__absent__", "null", True),
    ],
)
def test_only_the_default_itself_is_no_loss(kind: Any, default: Any, given: str, is_lost: bool) -> None:
    new = make_dataclass("Line", [("article", str), ("extra", kind, field(default=default))])
    comparison, codec = versions(OldLine, new)
    payload = codec.encode(b'{"it": {"article": "a", "extra": %s}}' % given.encode())
    assert comparison.find(payload) == ("it.extra" if is_lost else None)


def test_what_cannot_be_read_is_told() -> None:
    unknown, _ = versions(OldLine, Line)
    with pytest.raises(UnreadableBody):
        unknown.find(b"\xff")
