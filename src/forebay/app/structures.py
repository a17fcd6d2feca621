"""Lists, dicts, unions and dataclasses as what fastavro writes; see `values`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

from forebay.app.refusals import shorten
from forebay.app.values import Mismatch, ToAvro, mismatch, text
from forebay.recursion import MAX_DEPTH


def array(items: ToAvro) -> ToAvro:
    """Take a list or a tuple."""

    def to_avro(value: Any, depth: int) -> list[Any]:
        if not isinstance(value, list | tuple):
            raise mismatch("list", value)
        converted: list[Any] = []
        try:
            for item in value:
                converted.append(items(item, depth))
        except Mismatch as error:
            error.path = f"[{len(converted)}]{error.path}"
            raise
        return converted

    return to_avro


def mapping(values: ToAvro) -> ToAvro:
    """Take a dict whose keys are text."""

    def to_avro(value: Any, depth: int) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise mismatch("dict", value)
        converted: dict[str, Any] = {}
        key: Any = None
        try:
            for key, entry in value.items():
                converted[text(key, depth)] = values(entry, depth)
        except Mismatch as error:
            error.path = f"[{shorten(key)}]{error.path}"
            raise
        return converted

    return to_avro


class Branch(Protocol):
    """A branch of a union."""

    @property
    def branch(self) -> str:
        """The name by which fastavro picks it."""

    @property
    def to_avro(self) -> ToAvro:
        """Write a value of it."""


def optional(branches: Sequence[Branch]) -> ToAvro:
    """Take None or a value of the one other type; gives that with the name of its branch."""
    (other,) = (branch for branch in branches if branch.branch != "null")
    name, write = other.branch, other.to_avro

    def to_avro(value: Any, depth: int) -> Any:
        return None if value is None else (name, write(value, depth))

    return to_avro


def union(branches: Sequence[Branch]) -> ToAvro:
    """Take a value of one of several types, no two of which have a value in common; gives it with its branch."""

    def to_avro(value: Any, depth: int) -> Any:
        nearest: Mismatch | None = None
        reasons = []
        for branch in branches:
            try:
                written = branch.to_avro(value, depth)
            except Mismatch as error:
                nearest = error if error.path else nearest
                reasons.append(error.reason.removeprefix("expected ").partition(", found ")[0])
            else:
                return None if written is None else (branch.branch, written)
        raise nearest or mismatch(" or ".join(reasons), value)

    return to_avro


class Record:
    """Take an object of a dataclass; its fields are added once they are known, as they may hold the class itself."""

    def __init__(self, dataclass_type: type) -> None:
        self._type = dataclass_type
        self._fields: list[tuple[str, ToAvro]] = []

    def add(self, name: str, to_avro: ToAvro) -> None:
        """Add a field."""
        self._fields.append((name, to_avro))

    def __call__(self, value: Any, depth: int) -> dict[str, Any]:
        """Return the dictionary that fastavro writes."""
        if type(value) is not self._type and not self._is_like(value):
            raise mismatch(self._type.__name__, value)
        converted = {}
        name = ""
        try:
            for name, to_avro in self._fields:
                converted[name] = to_avro(getattr(value, name), depth)
        except Mismatch as error:
            error.path = f".{name}{error.path}"
            raise
        except AttributeError:
            missing = Mismatch("it has no value")
            missing.path = f".{name}"
            raise missing from None
        return converted

    def recur(self, value: Any, depth: int) -> dict[str, Any]:
        """Take an object within one of the same type."""
        if depth >= MAX_DEPTH:
            raise Mismatch(f"nested too deeply: a type may recur {MAX_DEPTH} levels deep")
        return self(value, depth + 1)

    def _is_like(self, value: Any) -> bool:
        """Whether it is of a subclass that has no more fields, none of which would be left out."""
        if not isinstance(value, self._type) or not dataclasses.is_dataclass(value):
            return False
        return len(dataclasses.fields(value)) == len(self._fields)
