"""Enums: the symbols that Avro has for them, and what becomes of a symbol that a version does not know."""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

from forebay.app.refusals import NAME_RULE

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_UNKNOWN = "a symbol that no version knows"


def is_avro_name(text: str) -> bool:
    """Whether Avro takes it for the name of a type, a field or a symbol."""
    return _NAME.fullmatch(text) is not None


def derive_enum(enum: type[Enum], namespace: str) -> dict[str, Any]:
    """Derive the schema of an enum.

    Its symbols are the values of its members. The default, with which another version's symbols are read that this one
    does not have, is the member that ``_missing_`` gives for any value; there is none if it gives none.

    Raises:
        TypeError: a value is not a string, or not a name.
    """
    members = list(enum)
    if not members:
        raise TypeError(f"the enum {enum.__name__} has no members")
    for member in members:
        shown = f"{enum.__name__}.{member.name} is {member.value!r}"
        if not isinstance(member.value, str):
            raise TypeError(f"{shown}; the values of an enum are strings")
        if not is_avro_name(member.value):
            raise TypeError(f"{shown}; a member's value takes {NAME_RULE}; or declare Literal[{member.value!r}, …]")
    symbols = [str.__str__(member.value) for member in members]
    schema = {"type": "enum", "name": enum.__name__, "namespace": namespace, "symbols": symbols}
    default = _default(enum)
    return schema | {"default": default} if default in symbols else schema


def _default(enum: type[Enum]) -> str | None:
    try:
        return str.__str__(enum(_UNKNOWN).value)
    except Exception:  # ValueError is Python's own; one of the app's says the same
        return None
