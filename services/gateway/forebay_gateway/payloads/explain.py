"""Why a value does not match its type, and where: msgspec's errors as a path and a reason for a person."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

from forebay_gateway.payloads.nodes import Node
from forebay_gateway.payloads.parts import MISSING, JsonValue

_LONGEST_ECHO = 40
_LONGEST_REASON = 300
_LOCATED = re.compile(r" - at `\$((?:\.\w+|\[\d+\]|\[\.\.\.\])*)`\Z", re.ASCII)
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]|\[\.\.\.\]", re.ASCII)
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_FOUND = {
    "null": "null",
    "bool": "a boolean",
    "int": "an integer",
    "float": "a number that is not an integer",
    "decimal": "a number that is not an integer",
    "str": "a string",
    "array": "an array",
    "object": "an object",
}
_NAMES = {
    type(None): "null",
    bool: "bool",
    int: "int",
    float: "float",
    Decimal: "decimal",
    str: "str",
    list: "array",
    dict: "object",
}


class MapKey(str):
    """A step of a path that is the key of a map, so any text."""

    __slots__ = ()


class Mismatch(Exception):
    """A value does not fit its type.

    Attributes:
        reason: what was expected and what was found.
        steps: the way to the value from the *inside* out, so that each level on the way up appends its own: the name of
            a field, the index into an array, or a `MapKey`.
    """

    def __init__(self, reason: str, steps: list[str | int] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps = steps if steps is not None else []

    @property
    def field(self) -> str:
        """The path in dotted form, such as ``crop.points[2].x``; empty for the whole."""
        path = ""
        for step in reversed(self.steps):
            if isinstance(step, int):
                path += f"[{step}]"
            elif isinstance(step, MapKey) and not _PLAIN_KEY.match(step):
                path += f"[{json.dumps(shorten(step), ensure_ascii=False)}]"
            else:
                path += f".{shorten(step)}" if path else shorten(step)
        return path


def shorten(text: str, longest: int = _LONGEST_ECHO) -> str:
    """Return ``text``, cut if it is longer than an error message should repeat."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def describe_value(value: Any) -> str:
    """Say what a JSON value is: itself if it is short, its kind and size if not."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float() | Decimal():
            # an integer of thousands of digits cannot be turned into text
            if isinstance(value, int) and value.bit_length() > 4 * _LONGEST_ECHO:
                return "a much larger number"
            text = str(value)
            return text if len(text) <= _LONGEST_ECHO else f"a number of {len(text)} digits"
        case str():
            return f"'{value}'" if len(value) <= _LONGEST_ECHO else f"a string of {len(value)} characters"
        case list():
            return "an array"
    return "an object"


def describe_kind(value: Any) -> str:
    """Say what kind of JSON value it is."""
    return _FOUND[_NAMES[type(value)]]


def explain(node: Node, value: JsonValue, text: str) -> Mismatch:
    """Turn the text of a ``msgspec.ValidationError`` into a path and a reason.

    Args:
        node: the type that ``value`` was to be.
        value: the JSON value as a whole; needed for the keys of maps, which msgspec leaves out.
        text: the error's text, such as "Expected `int`, got `str` - at `$.size`".
    """
    located = _LOCATED.search(text)
    what = text[: located.start()] if located else text
    steps: list[str | int] = []
    place: JsonValue | None = value
    for step in _STEP.finditer(located[1] if located else ""):
        child, place, name = _descend(node, place, step)
        if child is None:
            break
        node = child
        steps.append(name)
    steps.reverse()
    return _reason(node, MISSING if place is None else place.value(), what, steps)


def _descend(
    node: Node, place: JsonValue | None, step: re.Match[str]
) -> tuple[Node | None, JsonValue | None, str | int]:
    name, index = step[1], step[2]
    child = node.child("field", name) if name else node.child("item" if index else "value")
    if name:
        return child, None if place is None or child is None else place.field(name, child.json_type), name
    if index:
        return child, None if place is None else place.item(int(index)), int(index)
    found = None if place is None or child is None else place.first_mismatch(child.json_type)
    return (child, None, "*") if found is None else (child, found[1], MapKey(found[0]))


def _reason(node: Node, value: Any, what: str, steps: list[str | int]) -> Mismatch:
    if missing := re.fullmatch(r"Object missing required field `(.*)`", what):
        return Mismatch("required field is missing", [missing[1], *steps])
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", what, re.DOTALL):
        return Mismatch(_unknown(node, unknown[1]), [MapKey(unknown[1]), *steps])
    if got := re.fullmatch(r"Expected `.*`, got `(\w+)`", what):
        return Mismatch(f"expected {node.noun}, found {_FOUND.get(got[1], got[1])}", steps)
    if value is MISSING:
        return Mismatch(f"expected {node.rule}", steps)
    if " of length " in what and isinstance(value, str):
        return Mismatch(f"expected {node.rule}, found {len(b64decode(value))} bytes", steps)
    return Mismatch(f"expected {node.rule}, found {describe_value(value)}", steps)


def _unknown(node: Node, name: str) -> str:
    names = node.field_names()
    if close := get_close_matches(shorten(name), names, n=1):
        return f"unknown field, did you mean '{close[0]}'?"
    if not names:
        return "unknown field, there are none here"
    return f"unknown field, known are {enumerate_shortly(names)}"


def enumerate_shortly(names: list[str]) -> str:
    """Join names with commas, and stop before it gets long."""
    return shorten(", ".join(names), _LONGEST_REASON // 2)


def no_branch_matches(attempts: list[tuple[str, Mismatch]]) -> Mismatch:
    """Say why a value fits none of the types that it may be."""
    reasons = [
        f"{name} ({mismatch.field + ': ' if mismatch.steps else ''}{mismatch.reason})" for name, mismatch in attempts
    ]
    return Mismatch(shorten("fits none of the types it may be: " + "; ".join(reasons), _LONGEST_REASON))
