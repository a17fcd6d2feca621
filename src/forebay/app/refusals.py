"""What to declare in place of a type that cannot go to Avro and come back as it was."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

NAME_RULE = "a name of A-Z, a-z, 0-9 and '_', as Avro takes them"

_LONGEST_ECHO = 60
_INSTEAD: dict[Any, str] = {
    Any: "declare what it is: a dataclass, or str for JSON that the handler reads itself",
    typing.LiteralString: "declare str",
    object: "declare what it is: a dataclass, or str for JSON that the handler reads itself",
    set: "declare list[…], as JSON and Avro have no sets",
    frozenset: "declare list[…], as JSON and Avro have no sets",
    timedelta: "declare its seconds as float",
    bytearray: "declare bytes",
    complex: "declare two fields of float",
    list: "say of what, such as list[str]",
    dict: "say of what, such as dict[str, int]",
    tuple: "say of what, such as tuple[str, ...]",
}
_OF_PARTS = "declare a dataclass of its parts"


class Underivable(TypeError):
    """A type that cannot go to Avro and back; the message names the field and what to declare in its place."""


def refuse(hint: Any, where: str) -> Underivable:
    """Make the error for a type that there is no Avro for."""
    return Underivable(f"{where}: {show_type(hint)} cannot go to Avro and back; {_instead(hint)}")


def _instead(hint: Any) -> str:
    origin = typing.get_origin(hint)
    if origin is tuple and hint is not tuple:
        return "declare a dataclass"
    for known in (hint, origin):
        if known in _INSTEAD:
            return _INSTEAD[known]
    if origin is typing.Final:
        return f"declare {show_type(typing.get_args(hint)[0])}"
    if "TypeAliasType" in (type(hint).__name__, type(origin).__name__):
        return "write what it stands for, or give it its name by a mere '='"
    if isinstance(hint, typing.ForwardRef):
        return "declare a dataclass, which may hold itself, as an alias may not"
    if isinstance(hint, typing.TypeVar):
        return "declare a dataclass that gives this field its type, as a generic one has no schema of its own"
    if dataclasses.is_dataclass(origin):
        return "declare a dataclass with the types filled in, as a generic one has no schema of its own"
    cls = origin or hint
    if isinstance(cls, type):
        for base in (str, int, float, bytes):
            if issubclass(cls, base):
                return f"declare {base.__name__}"
        if issubclass(cls, Mapping):
            return "declare dict[str, …]" if origin else _OF_PARTS
        if issubclass(cls, Iterable) and origin:
            return "declare list[…]"
    return _OF_PARTS


def show_type(hint: Any) -> str:
    """Write a type as a person would."""
    if isinstance(hint, type) and typing.get_origin(hint) is None:
        return hint.__name__
    return str(hint).replace("typing.", "")


def shorten(value: Any) -> str:
    """Show a value, if it is not too long."""
    shown = repr(value)
    return shown if len(shown) <= _LONGEST_ECHO else f"{shown[: _LONGEST_ECHO - 1]}…"
