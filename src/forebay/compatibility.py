"""Whether two versions of a schema can be in use side by side: each must be able to read what the other writes.

The rules are the Avro specification's, "Schema Resolution", as Apache Avro's own checker applies them. Two more are
here, because values would change in silence: the checker does not look at logical types, and it lets text and bytes be
read as each other, which in JSON are the text itself and base64.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType, lookup_writer_field

from forebay.codec import Schema

_FAMILY = {
    "int": "number",
    "long": "number",
    "float": "number",
    "double": "number",
    "string": "text",
    "bytes": "text",
}
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
    places = _Walk(Schema(old).parsed, Schema(new).parsed).places()
    with warnings.catch_warnings():
        # the checker warns of logical types that it does not know; they are compared below
        warnings.simplefilter("ignore")
        parsed = {version: avro.schema.parse(text) for version, text in (("old", old), ("new", new))}
    for reader, writer in (("new", "old"), ("old", "new")):
        unknown = _find_unknown_symbols(reader, places)
        if unknown is not None:
            return unknown
        result = _compare(parsed[reader], parsed[writer])
        if result.compatibility is not SchemaCompatibilityType.compatible:
            fields = sorted(set(_unreadable_paths(parsed[reader], parsed[writer], "", set())) - {""})
            kinds = sorted({kind.value.replace("_", " ") for kind in result.incompatibilities})
            details = sorted(result.messages - {field.rpartition(".")[2] for field in fields})
            reason = f"the {reader} version cannot read what the {writer} one writes: {', '.join(kinds)}"
            if details:
                reason += f" ({'; '.join(details)})"
            return Incompatibility(" and ".join(fields) or _WHOLE, reason)
    return _compare_meanings(places)


def _compare(reader: Any, writer: Any) -> Any:
    checker: Any = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    return checker.get_compatibility(reader, writer)


def _unreadable_paths(reader: Any, writer: Any, path: str, seen: set[tuple[int, int]]) -> list[str]:
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
                inner += _unreadable_paths(field.type, written.type, place, seen)
            elif not field.has_default:
                inner.append(place)
    elif reader.type == writer.type == "array":
        inner = _unreadable_paths(reader.items, writer.items, f"{path}[]", seen)
    elif reader.type == writer.type == "map":
        inner = _unreadable_paths(reader.values, writer.values, f"{path}[]", seen)
    elif reader.type == writer.type == "union":
        for branch in writer.schemas:
            for candidate in reader.schemas:
                if _branch(candidate) == _branch(branch):
                    inner += _unreadable_paths(candidate, branch, path, seen)
    return inner or [path]


def _branch(schema: Any) -> tuple[str, str | None]:
    return schema.type, getattr(schema, "name", None)


def _find_unknown_symbols(version: str, places: Iterable[_Shared]) -> Incompatibility | None:
    """Look for an enum of a version without a default that lacks symbols of the one in the same place."""
    for place in places:
        other = "old" if version == "new" else "new"
        for reader in filter(_is_enum, place.leaves[version]):
            for writer in filter(_is_enum, place.leaves[other]):
                unknown = [symbol for symbol in writer["symbols"] if symbol not in reader["symbols"]]
                if unknown and "default" not in reader:
                    reason = f"the {version} version does not know the symbol {', '.join(unknown)}; {_ENUM_ADVICE}"
                    return Incompatibility(place.path or _WHOLE, reason)
    return None


def _is_enum(leaf: Any) -> bool:
    return isinstance(leaf, dict) and leaf["type"] == "enum" and leaf.get("logicalType") is None


def _compare_meanings(places: Iterable[_Shared]) -> Incompatibility | None:
    for place in places:
        before, after = _meanings(place.leaves["old"]), _meanings(place.leaves["new"])
        for family in sorted(before.keys() & after.keys()):
            if before[family] != after[family]:
                gone = min(before[family] - after[family] or before[family])
                come = min(after[family] - before[family] or after[family])
                what = "logical type" if gone.logical != come.logical else "type"
                old_name, new_name = (gone.logical, come.logical) if what == "logical type" else (gone.base, come.base)
                return Incompatibility(place.path or _WHOLE, f"its {what} changes from {old_name} to {new_name}")
    return None


def _meanings(leaves: Iterable[Any]) -> dict[str, set[_Meaning]]:
    """Return what the bytes of these types mean, by the family of each."""
    meanings: dict[str, set[_Meaning]] = {}
    for leaf in leaves:
        base, logical = (leaf, "none") if isinstance(leaf, str) else (leaf["type"], _logical_type(leaf))
        meanings.setdefault(_FAMILY.get(base, base), set()).add(_Meaning(base, logical))
    return meanings


@dataclass(frozen=True, slots=True)
class _Shared:
    """A place that both versions have.

    Attributes:
        path: of the field.
        leaves: the types that may stand there and have no parts, by version.
    """

    path: str
    leaves: dict[str, list[Any]]


class _Walk:
    """Goes through two schemas together, each of them as fastavro has parsed it, with full names."""

    def __init__(self, old: Any, new: Any) -> None:
        self._schemas = (old, new)
        self._named: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        self._seen: set[tuple[str, str]] = set()
        for schema, named in zip(self._schemas, self._named, strict=True):
            _collect(schema, named)

    def places(self) -> list[_Shared]:
        """Return every place that both have; a pair of records is looked into once, since it may hold itself."""
        return list(self._walk(*self._schemas, ""))

    def _walk(self, old: Any, new: Any, path: str) -> Iterator[_Shared]:
        olds, news = _branches(old, self._named[0]), _branches(new, self._named[1])
        leaves = {
            version: [branch for branch in branches if _kind(branch) not in _PARTS]
            for version, branches in (("old", olds), ("new", news))
        }
        yield _Shared(path, leaves)
        for before in olds:
            for after in news:
                kind = _kind(before)
                if kind in _PARTS and kind == _kind(after):
                    yield from self._walk_parts(kind, before, after, path)

    def _walk_parts(self, kind: str, old: Any, new: Any, path: str) -> Iterator[_Shared]:
        if kind != "record":
            yield from self._walk(old[_PARTS[kind]], new[_PARTS[kind]], f"{path}[]")
            return
        pair = (old["name"], new["name"])
        if pair in self._seen:
            return
        self._seen.add(pair)
        known = {field["name"]: field for field in old["fields"]}
        for field in new["fields"]:
            if field["name"] in known:
                inner = f"{path}.{field['name']}" if path else field["name"]
                yield from self._walk(known[field["name"]]["type"], field["type"], inner)


_PARTS = {"array": "items", "map": "values", "record": "fields"}


def _kind(schema: Any) -> str:
    return schema if isinstance(schema, str) else str(schema["type"])


def _branches(schema: Any, named: dict[str, Any]) -> list[Any]:
    """Return the types that a type allows, each by its definition."""
    if isinstance(schema, list):
        return [branch for part in schema for branch in _branches(part, named)]
    if isinstance(schema, str):
        return [named.get(schema, schema)]
    return _branches(schema["type"], named) if isinstance(schema["type"], dict | list) else [schema]


def _collect(schema: Any, named: dict[str, Any]) -> None:
    """Note down the definition of every name in a schema."""
    if isinstance(schema, list):
        for branch in schema:
            _collect(branch, named)
    elif isinstance(schema, dict):
        if "name" in schema:
            named[schema["name"]] = schema
        for key in ("type", "items", "values"):
            _collect(schema.get(key), named)
        for field in schema.get("fields", ()):
            _collect(field["type"], named)


def _logical_type(schema: dict[str, Any]) -> str:
    name = schema.get("logicalType", "none")
    if name == "decimal":
        return f"decimal({schema.get('precision')}, {schema.get('scale', 0)})"
    return str(name)
