"""Reading recursive Avro types to a bounded depth.

fastavro reads a record within a record by a call within a call, in C and without a bound: some 10 KB that nest deeply
enough end the process. So a recursive type is read by a copy of its schema in which each level has definitions of its
own, and the level after the last cannot be read. That costs nothing while reading.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fastavro
import fastavro.read

MAX_DEPTH = 64
"""Levels of a recursive type that a value may have below the first."""

_RECORDS = ("record", "error")
_NAMED = (*_RECORDS, "enum", "fixed")
_END = "too-deep"
_ROOT = "value"


class TooDeep(Exception):
    """A value has more levels than `MAX_DEPTH`."""

    def __init__(self) -> None:
        super().__init__(f"nested too deeply: a type may recur {MAX_DEPTH} levels deep")


class BoundedReader:
    """Reads values of one schema.

    Args:
        schema: as fastavro has parsed it.

    Attributes:
        parsed: the schema to read with, as fastavro takes it; the same where nothing in it recurs.
        records: the definitions of records in it.
    """

    __slots__ = ("_is_wrapped", "parsed", "records")

    def __init__(self, schema: Any) -> None:
        definitions: dict[str, Any] = dict(_definitions(schema))
        references = {
            name: set(_references(definition)) for name, definition in definitions.items() if _is_record(definition)
        }
        recursive = {name for name in references if name in _reachable(references, name)}
        self._is_wrapped = bool(recursive) and not _is_record(schema)
        self.parsed: Any = schema
        self.records = [definitions[name] for name in references]
        if recursive:
            self.parsed, self.records = _unroll(schema, definitions, references, recursive)

    def read(self, source: Any, reader_schema: Any = None) -> Any:
        """Read one value from a file, resolved to another schema where one is given."""
        value: Any = fastavro.schemaless_reader(source, self.parsed, reader_schema)
        return value[_ROOT] if self._is_wrapped else value


def _is_record(schema: Any) -> bool:
    return isinstance(schema, dict) and schema["type"] in _RECORDS


def _parts(schema: Any) -> Iterator[Any]:
    """Give the types that a type directly consists of."""
    if isinstance(schema, list):
        yield from schema
    elif isinstance(schema, dict):
        match schema["type"]:
            case "record" | "error":
                yield from (field["type"] for field in schema["fields"])
            case "array":
                yield schema["items"]
            case "map":
                yield schema["values"]


def _definitions(schema: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(schema, dict) and schema["type"] in _NAMED:
        yield schema["name"], schema
    for part in _parts(schema):
        yield from _definitions(part)


def _references(schema: Any) -> Iterator[str]:
    """Give the names of types that a record holds, in containers too, but not within other records."""
    for part in _parts(schema):
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict) and part["type"] in _NAMED:
            yield part["name"]
        else:
            yield from _references(part)


def _reachable(references: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    pending = [start]
    while pending:
        new = references.get(pending.pop(), set()) - found
        found |= new
        pending += new
    return found


def _unroll(
    schema: Any, definitions: dict[str, Any], references: dict[str, set[str]], recursive: set[str]
) -> tuple[Any, list[Any]]:
    """Define every record once for each level; entering a recursive one is a level further down."""
    deepest = (MAX_DEPTH + 1) * len(recursive)
    known: dict[str, Any] = {}

    def refer(part: Any, level: int) -> Any:
        if isinstance(part, list):
            return [refer(branch, level) for branch in part]
        if isinstance(part, dict) and part["type"] in ("array", "map"):
            inner = "items" if part["type"] == "array" else "values"
            return {**part, inner: refer(part[inner], level)}
        name = part["name"] if isinstance(part, dict) and part["type"] in _NAMED else part
        if not isinstance(name, str) or name not in references:
            return name
        return _at(level + 1 if name in recursive else level, name)

    def define(name: str, level: int) -> Any:
        record = definitions[name]
        fields = [{**field, "type": refer(field["type"], level)} for field in record["fields"]]
        return fastavro.parse_schema({**_without_marks(record), "name": _at(level, name), "fields": fields}, known)

    for name, definition in definitions.items():
        if name in recursive:
            end = {"type": "fixed", "name": _at(deepest + 1, name), "size": 0, "logicalType": _END}
            fastavro.parse_schema(end, known)
        elif name not in references:
            fastavro.parse_schema(_without_marks(definition), known)
    root = schema["name"] if _is_record(schema) else None
    root_level = 1 if root in recursive else 0
    ordered = _inner_first(references, recursive)
    for level in range(deepest, root_level - 1, -1):
        for name in ordered:
            if (name, level) != (root, root_level) and (level > 0 or name not in recursive):
                define(name, level)
    # the root comes last, because fastavro then hands all definitions on with it; a record adds no byte
    outer: Any = {"type": "record", "name": "Root", "fields": [{"name": _ROOT, "type": refer(schema, 0)}]}
    parsed = fastavro.parse_schema(outer, known) if root is None else define(root, root_level)
    return parsed, [definition for definition in known.values() if definition["type"] in _RECORDS]


def _inner_first(references: dict[str, set[str]], recursive: set[str]) -> list[str]:
    """Order records so that one that is not recursive comes before those that hold it."""
    ordered: list[str] = []

    def visit(name: str) -> None:
        if name in references and name not in ordered:
            for inner in sorted(references[name] - recursive):
                visit(inner)
            ordered.append(name)

    for name in sorted(references):
        visit(name)
    return ordered


def _at(level: int, name: str) -> str:
    # fastavro compares names without their namespace where it resolves one schema to another
    namespace, _, unqualified = name.rpartition(".")
    return f"{namespace}.level{level}.{unqualified}" if namespace else f"level{level}.{unqualified}"


def _without_marks(parsed: dict[str, Any]) -> dict[str, Any]:
    """Return a definition as it was before fastavro parsed it."""
    return {key: value for key, value in parsed.items() if not key.startswith("__")}


def _refuse(*_: Any) -> Any:
    raise TooDeep


fastavro.read.LOGICAL_READERS[f"fixed-{_END}"] = _refuse
