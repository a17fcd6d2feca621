"""Values of a newer version's payload for which an older one has no field.

Reading one schema as another leaves out, without a word, the fields that the reader does not have. That is right for a
value which is the field's default anyway; any other would be lost.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from msgspec import UNSET

from forebay.codec import ABSENT_NAME, Schema

Search = Callable[[Any], str | None]
"""Gives the path of a value that would be lost, or None."""


class UnknownFields:
    """Looks for what would be lost of a payload.

    Args:
        writer: the schema that payloads were written with.
        reader: the schema that they are to be read as.

    Attributes:
        are_possible: whether anything can be lost; if not, there is no need to look.
    """

    def __init__(self, writer: Schema, reader: Schema) -> None:
        # a default is in the schema as it is on the wire, without a logical type
        self._writer = Schema(writer.text, logical=False)
        self._search = _Comparison().search(self._writer.parsed, reader.parsed)
        self.are_possible = self._search is not None

    def find(self, payload: bytes) -> str | None:
        """Return the path of a field that has a value and would be lost, such as ``lines[].note``; None if none would.

        Raises:
            UnreadableBody: the payload does not fit the writer's schema.
        """
        return None if self._search is None else self._search(self._writer.decode_body(payload))


class _Comparison:
    def __init__(self) -> None:
        self._written: dict[str, Any] = {}
        self._read: dict[str, Any] = {}
        self._searches: dict[str, list[Search]] = {}

    def search(self, writer: Any, reader: Any) -> Search | None:
        """Compare two types; None where nothing of the one can be lost in the other."""
        writer, reader = _look_up(writer, self._written), _look_up(reader, self._read)
        if isinstance(writer, list) or isinstance(reader, list):
            return self._search_union(_branches(writer, self._written), _branches(reader, self._read))
        if not isinstance(writer, dict) or not isinstance(reader, dict) or writer["type"] != reader["type"]:
            return None
        match writer["type"]:
            case "record":
                return self._search_record(writer, reader)
            case "array":
                return _each(self.search(writer["items"], reader["items"]), iter)
            case "map":
                return _each(self.search(writer["values"], reader["values"]), dict.values)
        return None

    def _search_union(self, written: dict[str, Any], read: dict[str, Any]) -> Search | None:
        """Compare unions, in each of which at most one branch is a dict of Python, and one a list."""
        searches = {
            list if kind == "array" else dict: search
            for kind in written.keys() & read.keys()
            if (search := self.search(written[kind], read[kind])) is not None
        }

        def find(value: Any) -> str | None:
            search = searches.get(type(value))
            return None if search is None else search(value)

        return find if searches else None

    def _search_record(self, writer: Any, reader: Any) -> Search | None:
        name = writer["name"]
        if name in self._searches:
            steps = self._searches[name]
            return lambda value: _first(steps, value)
        steps = self._searches[name] = []
        known = {field["name"]: field for field in reader["fields"]}
        for field in writer["fields"]:
            if field["name"] not in known:
                steps.append(_lost(field))
            elif (inner := self.search(field["type"], known[field["name"]]["type"])) is not None:
                steps.append(_within(field["name"], inner))
        return (lambda value: _first(steps, value)) if steps else None


def _look_up(schema: Any, named: dict[str, Any]) -> Any:
    """Return the definition behind a name, and keep a definition for its name."""
    if isinstance(schema, dict) and "name" in schema:
        named[schema["name"]] = schema
    return named.get(schema, schema) if isinstance(schema, str) else schema


def _branches(schema: Any, named: dict[str, Any]) -> dict[str, Any]:
    """Return the parts of a union, or of what stands in its place, that have parts of their own."""
    found = {}
    for branch in schema if isinstance(schema, list) else [schema]:
        definition = _look_up(branch, named)
        if isinstance(definition, dict) and definition["type"] in ("record", "array", "map"):
            found[definition["type"]] = definition
    return found


def _first(steps: list[Search], value: Any) -> str | None:
    return next((path for step in steps if (path := step(value)) is not None), None)


def _lost(field: Any) -> Search:
    name = field["name"]
    if "default" not in field:
        return lambda _: name
    if _may_be_absent(field["type"]):
        return lambda record: None if record[name] is UNSET else name
    default = _exactly(field["default"])
    return lambda record: None if _exactly(_in_json(record[name])) == default else name


def _may_be_absent(kind: Any) -> bool:
    """Whether a type has a branch for what is left out, as one with a ``default_factory`` has."""
    branches = kind if isinstance(kind, list) else []
    return any(
        (branch["name"] if isinstance(branch, dict) and "name" in branch else branch) == ABSENT_NAME
        for branch in branches
    )


def _exactly(value: Any) -> str:
    """Return a value so that it equals no other: Python takes ``False`` for 0 and -0.0 for 0."""
    return json.dumps(value, sort_keys=True)


def _within(name: str, inner: Search) -> Search:
    def find(record: Any) -> str | None:
        path = inner(record[name])
        return None if path is None else f"{name}{'' if path.startswith('[') else '.'}{path}"

    return find


def _each(inner: Search | None, parts: Callable[[Any], Any]) -> Search | None:
    if inner is None:
        return None

    def find(value: Any) -> str | None:
        path = next((path for part in parts(value) if (path := inner(part)) is not None), None)
        return None if path is None else f"[]{'' if path.startswith('[') else '.'}{path}"

    return find


def _in_json(value: Any) -> Any:
    """Return a value as a schema has it for a default."""
    match value:
        case bytes():
            return value.decode("latin-1")
        case list():
            return [_in_json(item) for item in value]
        case dict():
            return {key: _in_json(item) for key, item in value.items()}
    return value
