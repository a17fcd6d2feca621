"""Whether two versions of a schema can live side by side: each must be able to read what the other writes.

The rules are the Avro specification's, "Schema Resolution", as Apache Avro's own checker applies them. Two more are
here, because values would change in silence: the checker does not look at logical types, and it lets text and bytes be
read as each other, which in JSON are the text itself and base64.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType, lookup_writer_field

_Place = tuple[str, str]
"""Path of a field, and which of the types that may stand there."""

_FAMILY = {"int": "number", "long": "number", "string": "text", "bytes": "text"}
"""Types of which one can be read as the other."""

_ENUM_ADVICE = (
    "an enum may gain or lose symbols once the version that does not know them says what they become, by a '_missing_' "
    "that returns a member; otherwise declare the operation under another name"
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
    sources = {"old": json.loads(old), "new": json.loads(new)}
    with warnings.catch_warnings():
        # the checker warns of logical types that it does not know; they are compared below
        warnings.simplefilter("ignore")
        parsed = {version: avro.schema.parse(text) for version, text in (("old", old), ("new", new))}
    for reader, writer in (("new", "old"), ("old", "new")):
        unknown = _find_unknown_symbols(reader, sources[reader], sources[writer])
        if unknown is not None:
            return unknown
        result = _compare(parsed[reader], parsed[writer])
        if result.compatibility is not SchemaCompatibilityType.compatible:
            fields = sorted(set(_culprits(parsed[reader], parsed[writer], "", set())) - {""})
            kinds = sorted({kind.value.replace("_", " ") for kind in result.incompatibilities})
            details = sorted(result.messages - {field.rpartition(".")[2] for field in fields})
            reason = f"the {reader} version cannot read what the {writer} one writes: {', '.join(kinds)}"
            if details:
                reason += f" ({'; '.join(details)})"
            return Incompatibility(" and ".join(fields) or _WHOLE, reason)
    return _compare_meanings(sources["old"], sources["new"])


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


def _find_unknown_symbols(version: str, reader: Any, writer: Any) -> Incompatibility | None:
    """Look for an enum without a default that lacks symbols of the one in the same place."""
    written = {path: leaf for path, leaf in _leaves(writer, {}) if _is_enum(leaf)}
    for path, leaf in _leaves(reader, {}):
        if not _is_enum(leaf) or "default" in leaf or path not in written:
            continue
        unknown = [symbol for symbol in written[path]["symbols"] if symbol not in leaf["symbols"]]
        if unknown:
            reason = f"the {version} version does not know the symbol {', '.join(unknown)}; {_ENUM_ADVICE}"
            return Incompatibility(path or _WHOLE, reason)
    return None


def _is_enum(leaf: Any) -> bool:
    return isinstance(leaf, dict) and leaf["type"] == "enum" and leaf.get("logicalType") is None


def _compare_meanings(old: Any, new: Any) -> Incompatibility | None:
    before, after = _meanings(old), _meanings(new)
    for place in sorted(before.keys() & after.keys()):
        if before[place] != after[place]:
            path, _ = place
            gone = min(before[place] - after[place] or before[place])
            come = min(after[place] - before[place] or after[place])
            what = "logical type" if gone.logical != come.logical else "type"
            old_name, new_name = (gone.logical, come.logical) if what == "logical type" else (gone.base, come.base)
            return Incompatibility(path or _WHOLE, f"its {what} changes from {old_name} to {new_name}")
    return None


def _meanings(schema: Any) -> dict[_Place, set[_Meaning]]:
    """Return what the bytes at every place in a schema mean that is not a record, an array or a map."""
    meanings: dict[_Place, set[_Meaning]] = {}
    for path, leaf in _leaves(schema, {}):
        base, logical = (leaf, "none") if isinstance(leaf, str) else (leaf["type"], _logical_type(leaf))
        meanings.setdefault((path, _FAMILY.get(base, base)), set()).add(_Meaning(base, logical))
    return meanings


def _leaves(schema: Any, named: dict[str, Any], path: str = "", namespace: str = "") -> Iterator[tuple[str, Any]]:
    """Give every type in a schema that is not a record, an array, a map or a union, with its path."""
    if isinstance(schema, list):
        for branch in schema:
            yield from _leaves(branch, named, path, namespace)
        return
    if isinstance(schema, str):
        known = named.get(schema) or named.get(f"{namespace}.{schema}")
        if known is None:
            yield path, schema
        elif known["type"] != "record":  # a record is looked into where it is defined, and once: it may hold itself
            yield path, known
        return
    kind = schema["type"]
    if isinstance(kind, dict | list):
        yield from _leaves(kind, named, path, namespace)
        return
    if "name" in schema:
        space, _, name = schema["name"].rpartition(".")
        namespace = space or schema.get("namespace", namespace)
        named[f"{namespace}.{name}"] = schema
    if kind == "record":
        for field in schema["fields"]:
            yield from _leaves(field["type"], named, f"{path}.{field['name']}" if path else field["name"], namespace)
    elif kind in ("array", "map"):
        yield from _leaves(schema["items" if kind == "array" else "values"], named, f"{path}[]", namespace)
    else:
        yield path, schema


def _logical_type(schema: dict[str, Any]) -> str:
    name = schema.get("logicalType", "none")
    if name == "decimal":
        return f"decimal({schema.get('precision')}, {schema.get('scale', 0)})"
    return str(name)
