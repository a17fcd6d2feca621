"""Whether two versions of a schema can live side by side: each must be able to read what the other writes.

The rules are the Avro specification's, "Schema Resolution", as Apache Avro's own checker applies them. It does not look
at logical types, so that is done here: two that differ would turn the same bytes into different values.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from typing import Any

import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType, lookup_writer_field

_Place = tuple[str, str]
"""Path of a field, and which of the types that may stand there."""

_FAMILY = {"int": "number", "long": "number", "string": "text", "bytes": "text"}
"""Types of which one can be read as the other, so that two logical types of them can meet."""


@dataclass(frozen=True, slots=True)
class Incompatibility:
    """What stands between two schemas.

    Attributes:
        field: dotted path of the field, or ``(the whole)``.
        reason: what does not fit there.
    """

    field: str
    reason: str


def check(old: str, new: str) -> Incompatibility | None:
    """Compare two schemas, given as JSON, in both directions; None when each reads what the other writes."""
    with warnings.catch_warnings():
        # the checker warns of logical types that it does not know; they are compared below
        warnings.simplefilter("ignore")
        parsed = {"old": avro.schema.parse(old), "new": avro.schema.parse(new)}
    for reader, writer in (("new", "old"), ("old", "new")):
        result = _compare(parsed[reader], parsed[writer])
        if result.compatibility is not SchemaCompatibilityType.compatible:
            fields = sorted(set(_culprits(parsed[reader], parsed[writer], "", set())) - {""})
            kinds = sorted({kind.value.replace("_", " ") for kind in result.incompatibilities})
            details = sorted(result.messages - {field.rpartition(".")[2] for field in fields})
            reason = f"the {reader} version cannot read what the {writer} one writes: {', '.join(kinds)}"
            if details:
                reason += f" ({'; '.join(details)})"
            return Incompatibility(" and ".join(fields) or "(the whole)", reason)
    return _compare_logical_types(json.loads(old), json.loads(new))


def _compare(reader: Any, writer: Any) -> Any:
    checker: Any = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    return checker.get_compatibility(reader, writer)


def _culprits(reader: Any, writer: Any, path: str, seen: set[tuple[int, int]]) -> list[str]:
    """Return the paths of what ``reader`` cannot read; empty ones for the whole, and for what is being looked at.

    The checker says where it found something as well, but forgets it on the way through a union.
    """
    pair = (id(reader), id(writer))
    if _compare(reader, writer).compatibility is SchemaCompatibilityType.compatible:
        return []
    if pair in seen:
        return [""]
    seen.add(pair)
    inner: list[str] = []
    if reader.type == writer.type == "record":
        for field in reader.fields:
            place = f"{path}.{field.name}" if path else field.name
            written = lookup_writer_field(writer_schema=writer, reader_field=field)
            if written is not None:
                inner += _culprits(field.type, written.type, place, seen)
            elif not field.has_default:
                inner.append(place)
    elif reader.type == writer.type == "array":
        inner = _culprits(reader.items, writer.items, f"{path}[]", seen)
    elif reader.type == writer.type == "map":
        inner = _culprits(reader.values, writer.values, f"{path}[]", seen)
    elif reader.type == writer.type == "union":
        for branch in writer.schemas:
            for candidate in reader.schemas:
                if _branch(candidate) == _branch(branch):
                    inner += _culprits(candidate, branch, path, seen)
    return inner or [path]


def _branch(schema: Any) -> tuple[str, str | None]:
    return schema.type, getattr(schema, "name", None)


def _compare_logical_types(old: Any, new: Any) -> Incompatibility | None:
    before, after = _logical_types(old, {}), _logical_types(new, {})
    for place in sorted(before.keys() & after.keys()):
        if before[place] != after[place]:
            path, _ = place
            return Incompatibility(path, f"its logical type changes from {before[place]} to {after[place]}")
    return None


def _logical_types(schema: Any, named: dict[str, Any], path: str = "", namespace: str = "") -> dict[_Place, str]:
    """Return the logical type of every place in a schema that has or could have one."""
    if isinstance(schema, list):
        branches = [_logical_types(branch, named, path, namespace) for branch in schema]
        return {place: logical_type for branch in branches for place, logical_type in branch.items()}
    if isinstance(schema, str):
        known = named.get(schema) or named.get(f"{namespace}.{schema}")
        if known is None:
            return {(path, _FAMILY.get(schema, schema)): "none"}
        # a record is looked into where it is defined, and once: it may hold itself
        return {} if known["type"] == "record" else _logical_types(known, named, path, namespace)
    kind = schema["type"]
    if isinstance(kind, dict | list):
        return _logical_types(kind, named, path, namespace)
    if "name" in schema:
        space, _, name = schema["name"].rpartition(".")
        namespace = space or schema.get("namespace", namespace)
        named[f"{namespace}.{name}"] = schema
    if kind == "record":
        found: dict[_Place, str] = {}
        for field in schema["fields"]:
            inner = f"{path}.{field['name']}" if path else field["name"]
            found |= _logical_types(field["type"], named, inner, namespace)
        return found
    if kind in ("array", "map"):
        return _logical_types(schema["items" if kind == "array" else "values"], named, f"{path}[]", namespace)
    return {(path, _FAMILY.get(kind, kind)): _logical_type(schema)}


def _logical_type(schema: dict[str, Any]) -> str:
    name = schema.get("logicalType", "none")
    if name == "decimal":
        return f"decimal({schema.get('precision')}, {schema.get('scale', 0)})"
    return str(name)
