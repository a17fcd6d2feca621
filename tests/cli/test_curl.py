from __future__ import annotations

import json
import shlex
from typing import Any

from forebay_cli.curl import curl


def operation(request: Any, accepts: str = "application/json") -> dict[str, Any]:
    return {"name": "work", "request": request, "accepts": accepts}


def body(request: Any) -> Any:
    command = shlex.split(curl("http://127.0.0.1:8080", operation(request)))
    assert command[0] == "curl"
    assert command[-1] == "http://127.0.0.1:8080/v1/work"
    return json.loads(command[command.index("--json") + 1])


def test_fields_with_a_default_are_left_out() -> None:
    fields = [{"name": "who", "type": "string"}, {"name": "times", "type": "long", "default": 1}]
    assert body({"type": "record", "name": "Hello", "fields": fields}) == {"who": "text"}


def test_every_kind_of_field_gets_a_value() -> None:
    colour = {"type": "enum", "name": "Colour", "symbols": ["RED", "BLUE"]}
    fields = [
        {"name": "maybe", "type": ["string", "null"]},
        {"name": "either", "type": ["long", "string"]},
        {"name": "colour", "type": colour},
        {"name": "again", "type": "Colour"},
        {"name": "list", "type": {"type": "array", "items": "double"}},
        {"name": "map", "type": {"type": "map", "values": "boolean"}},
        {"name": "when", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "data", "type": "bytes"},
        {"name": "hash", "type": {"type": "fixed", "name": "Hash", "size": 2}},
    ]
    assert body({"type": "record", "name": "All", "fields": fields}) == {
        "maybe": None,
        "either": 1,
        "colour": "RED",
        "again": "RED",
        "list": [1.0],
        "map": {"key": True},
        "when": "2030-01-31T12:00:00Z",
        "data": "Ynl0ZXM=",
        "hash": "AAA=",
    }


def test_a_type_that_contains_itself_comes_to_an_end() -> None:
    fields = [{"name": "children", "type": {"type": "array", "items": "tree.Node"}}]
    assert body({"type": "record", "name": "Node", "namespace": "tree", "fields": fields}) == {"children": []}


def test_opaque_bytes_are_sent_from_a_file() -> None:
    command = shlex.split(curl("http://127.0.0.1:8080", operation(None, "image/jpeg")))
    assert command == [
        *("curl", "-H", "Content-Type: image/jpeg", "--data-binary", "@FILE"),
        "http://127.0.0.1:8080/v1/work",
    ]
