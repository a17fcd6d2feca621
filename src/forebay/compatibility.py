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
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType


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
        warnings.simplefilter(
            "ignore"
        )  # the checker warns of logical types that it does not know; they are compared below
        parsed = {"old": avro.schema.parse(old), "new": avro.schema.parse(new)}
    checker: Any = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    for reader, writer in (("new", "old"), ("old", "new")):
        result = checker.get_compatibility(parsed[reader], parsed[writer])
        if result.compatibility is not SchemaCompatibilityType.compatible:
            schema = json.loads(new if reader == "new" else old)
            fields = sorted({field for location in result.locations if (field := _field(schema, location))})
            kinds = sorted({kind.value.replace("_", " ") for kind in result.incompatibilities})
            details = sorted(message for message in result.messages if message not in fields)
            reason = f"the {reader} version cannot read what the {writer} one writes: {', '.join(kinds)}"
            if details:
                reason += f" ({'; '.join(details)})"
            return Incompatibility(" and ".join(fields) or "(the whole)", reason)
    return _compare_logical_types(json.loads(old), json.loads(new))


def _field(schema: Any, location: str) -> str:
    """Turn the checker's pointer, such as ``/fields/1/type/items``, into a dotted path; empty for the whole."""
    path: list[str] = []
    node = schema
    parts = [part for part in location.split("/") if part]
    for before, part in zip(["", *parts], parts, strict=False):
        try:
            node = node[int(part)] if isinstance(node, list) else node[part]
        except (KeyError, IndexError, ValueError, TypeError):
            break  # a reference to a type defined elsewhere: the path so far is what can be named
        if before == "fields":
            path.append(node["name"])
    return ".".join(path)


def _compare_logical_types(old: Any, new: Any) -> Incompatibility | None:
    before, after = _logical_types(old), _logical_types(new)
    for path in sorted(before.keys() & after.keys()):
        if before[path] != after[path]:
            return Incompatibility(path, f"its logical type changes from {before[path]} to {after[path]}")
    return None


def _logical_types(schema: Any, path: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    if isinstance(schema, list):
        for branch in schema:
            if branch != "null":
                found |= _logical_types(branch, path)
    elif isinstance(schema, dict):
        kind = schema["type"]
        if kind == "record":
            for field in schema["fields"]:
                found |= _logical_types(field["type"], f"{path}.{field['name']}" if path else field["name"])
        elif kind in ("array", "map"):
            found |= _logical_types(schema["items" if kind == "array" else "values"], f"{path}[]")
        elif isinstance(kind, dict | list):
            found |= _logical_types(kind, path)
        else:
            found[path] = _logical_type(schema)
    else:
        found[path] = "none"
    return found


def _logical_type(schema: dict[str, Any]) -> str:
    name = schema.get("logicalType", "none")
    if name == "decimal":
        return f"decimal({schema.get('precision')}, {schema.get('scale', 0)})"
    return str(name)
