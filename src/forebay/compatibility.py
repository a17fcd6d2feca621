"""Whether two versions of a schema can live side by side: each must be able to read what the other writes.

The rules are the Avro specification's, "Schema Resolution", as Apache Avro's own checker applies them. Two more are
here, because values would change in silence: the checker does not look at logical types, and it lets text and bytes be
read as each other, which in JSON are the text itself and base64.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType, lookup_writer_field

_Place = tuple[str, str]
"""Path of a field, and which of the types that may stand there."""

_FAMILY = {"int": "number", "long": "number", "string": "text", "bytes": "text"}
"""Types of which one can be read as the other."""

_ENUM_ADVICE = (
    "an enum may gain or lose symbols once the version before says what an unknown one becomes, by a '_missing_' that "
    "returns a member; otherwise declare the operation under another name"
)

_WHOLE = "(the whole)"


class _Meaning(NamedTuple):
    """What a value is beyond its bytes: the type of Avro, and the logical type or ``none``."""

    base: str
    logical: str


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
            if "missing enum symbols" in kinds:
                reason += f"; {_ENUM_ADVICE}"
            return Incompatibility(" and ".join(fields) or _WHOLE, reason)
    return _compare_meanings(json.loads(old), json.loads(new))


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


def _compare_meanings(old: Any, new: Any) -> Incompatibility | None:
    before, after = _meanings(old, {}), _meanings(new, {})
    for place in sorted(before.keys() & after.keys()):
        if before[place] != after[place]:
            path, _ = place
            gone = min(before[place] - after[place] or before[place])
            come = min(after[place] - before[place] or after[place])
            what = "logical type" if gone.logical != come.logical else "type"
            old_name, new_name = (gone.logical, come.logical) if what == "logical type" else (gone.base, come.base)
            return Incompatibility(path or _WHOLE, f"its {what} changes from {old_name} to {new_name}")
    return None


def _meanings(schema: Any, named: dict[str, Any], path: str = "", namespace: str = "") -> dict[_Place, set[_Meaning]]:
    """Return what the bytes at every place in a schema mean that is not a record, an array or a map."""
    if isinstance(schema, list):
        return _merge(_meanings(branch, named, path, namespace) for branch in schema)
    if isinstance(schema, str):
        known = named.get(schema) or named.get(f"{namespace}.{schema}")
        if known is None:
            return {(path, _FAMILY.get(schema, schema)): {_Meaning(schema, "none")}}
        # a record is looked into where it is defined, and once: it may hold itself
        return {} if known["type"] == "record" else _meanings(known, named, path, namespace)
    kind = schema["type"]
    if isinstance(kind, dict | list):
        return _meanings(kind, named, path, namespace)
    if "name" in schema:
        space, _, name = schema["name"].rpartition(".")
        namespace = space or schema.get("namespace", namespace)
        named[f"{namespace}.{name}"] = schema
    if kind == "record":
        return _merge(
            _meanings(field["type"], named, f"{path}.{field['name']}" if path else field["name"], namespace)
            for field in schema["fields"]
        )
    if kind in ("array", "map"):
        return _meanings(schema["items" if kind == "array" else "values"], named, f"{path}[]", namespace)
    return {(path, _FAMILY.get(kind, kind)): {_Meaning(kind, _logical_type(schema))}}


def _merge(parts: Iterable[dict[_Place, set[_Meaning]]]) -> dict[_Place, set[_Meaning]]:
    merged: dict[_Place, set[_Meaning]] = {}
    for part in parts:
        for place, meanings in part.items():
            merged.setdefault(place, set()).update(meanings)
    return merged


def _logical_type(schema: dict[str, Any]) -> str:
    name = schema.get("logicalType", "none")
    if name == "decimal":
        return f"decimal({schema.get('precision')}, {schema.get('scale', 0)})"
    return str(name)
