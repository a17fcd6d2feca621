"""Avro schemas as JSON types: for each schema, what msgspec reads, and how that becomes what fastavro writes.

A schema is compiled once into a tree of `Node`. Most of a request is then checked by msgspec in one pass, in C, and
what is left is done by each node's ``finish``: a record's fields into a dictionary, the branch of a union named, a
decimal checked.

What msgspec cannot choose between, and what recurs, is *deferred*: read as plain JSON first and fitted after that,
branch by branch. Numbers in there are read as `Decimal`, so that nothing is lost before it is known what they are to
be.
"""

from __future__ import annotations

import json
import keyword
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from dataclasses import field as attribute
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, Union
from uuid import UUID

import fastavro.read
import msgspec
from msgspec import UNSET, Meta

from forebay_gateway.misfits import MapKey, Misfit, enumerate_shortly, explain, fits_none, found, show

MAX_DEPTH = 64
"""Levels of a recursive type that a request may have; fastavro recurs without a bound of its own."""

Finish = Callable[[Any, "Run"], Any]
Kind = Literal["null", "boolean", "integer", "number", "string", "array", "object"]

Step = Literal["field", "item", "value"]

_KIND_OF: dict[type, Kind] = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    Decimal: "number",
    str: "string",
    list: "array",
    dict: "object",
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)
_TIME = re.compile(r"(\d\d:\d\d:\d\d(?:\.\d{1,6})?)\d*\Z", re.ASCII)
_TIME_NOUN = "a time of day without a time zone, such as 08:30:00"
_UUID_SIZE = 16
_LARGEST_FLOAT32 = 3.4028234663852886e38


class TooDeep(Exception):
    """A value goes deeper than `MAX_DEPTH`."""


@dataclass(slots=True)
class Run:
    """What is remembered while one request is fitted.

    Attributes:
        depth: levels of recursive types at the moment.
        fitted: for each union and each array or object that was tried on it, the branch and what came of it, or the
            reason of the misfit. Without, unions within unions would be tried as often as there are combinations. The
            value itself is kept beside it, so that its ``id`` is not given to another.
    """

    depth: int = 0
    fitted: dict[tuple[int, int], tuple[Any, Any]] = attribute(default_factory=dict)


class Node:
    """One type of a schema.

    Attributes:
        branch: the name by which fastavro picks it out of a union.
        noun: what a person calls it, such as "an integer".
        rule: the same with all that is asked of it, such as its range.
        kinds: the kinds of JSON values that it may be read from.
        json_type: what msgspec reads; ``Any`` if it is deferred.
        python_type: the class of what msgspec reads.
        finish: makes of that what fastavro writes; None if there is nothing to do.
        plain: whether fastavro finds it in a union with null by itself, and quickly.
    """

    branch: str
    noun: str
    kinds: frozenset[Kind]
    json_type: Any
    python_type: type
    rule: str = ""
    finish: Finish | None = None
    plain: bool = False

    def child(self, step: Step, name: str = "") -> Node | None:  # noqa: ARG002
        """Return the type of a field, of an array's items or of a map's values, as far as msgspec reads them."""
        return None

    def field_names(self) -> list[str]:
        """Return the names of a record's fields."""
        return []

    def from_default(self, value: Any) -> Any:
        """Turn a default, in the form that it has in a schema, into what fastavro writes.

        Raises:
            ValueError: it does not fit.
        """
        raise NotImplementedError

    @property
    def deferred(self) -> bool:
        """Whether it is read as plain JSON first."""
        return self.json_type is Any


def fit(node: Node, value: Any, run: Run) -> Any:
    """Make of a plain JSON value what fastavro writes.

    Raises:
        Misfit: it does not fit.
        TooDeep: a recursive type has too many levels in it.
    """
    try:
        read = msgspec.convert(value, node.json_type)
    except msgspec.ValidationError as error:
        raise explain(node, value, str(error)) from None
    return read if node.finish is None else node.finish(read, run)


def exact_number(text: str) -> Decimal:
    """Read a number of plain JSON without loss.

    One whose exponent is beyond any bounds becomes an infinity, which then fits nothing.
    """
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("-Infinity" if text.startswith("-") else "Infinity")


class Scalar(Node):
    """A type without parts."""

    def __init__(
        self,
        base: str,
        json_type: Any,
        python_type: type,
        noun: str,
        kinds: tuple[Kind, ...],
        *,
        branch: str = "",
        rule: str = "",
        finish: Callable[[Any], Any] | None = None,
        plain: bool = False,
        symbols: list[str] | None = None,
    ) -> None:
        self.branch = branch or base
        self.noun = noun
        self.rule = rule or noun
        self.kinds = frozenset(kinds)
        self.json_type = json_type
        self.python_type = python_type
        self.finish = None if finish is None else lambda value, _: finish(value)
        self.plain = plain
        self._base = base
        self._symbols = symbols

    def from_default(self, value: Any) -> Any:
        """Turn a schema's default into what fastavro writes."""
        kind = _KIND_OF.get(type(value))
        match self._base:
            case "null" | "boolean" | "string":
                fits = kind == self._base
            case "int" | "long":
                fits = kind == "integer"
            case "float" | "double":
                fits = kind in ("integer", "number")
                value = float(value) if fits else value
            case "enum":
                fits = value in (self._symbols or ())
            case _:
                fits = kind == "string"
                value = value.encode("latin-1") if fits else value
        if not fits:
            raise ValueError(f"the default {show(value)} is not {self.noun}")
        return value


class Array(Node):
    """An array of one type of items."""

    branch = "array"
    noun = rule = "an array"
    kinds = frozenset({"array"})
    python_type = list

    def __init__(self, items: Node) -> None:
        self._items = items
        self.json_type = list[items.json_type]  # type: ignore[name-defined]
        self.finish = None if items.finish is None else _each_item(items.finish)

    def child(self, step: Step, name: str = "") -> Node | None:  # noqa: ARG002
        """Return the type of the items."""
        return self._items if step == "item" else None

    def from_default(self, value: Any) -> Any:
        """Turn a schema's default into what fastavro writes."""
        if not isinstance(value, list):
            raise ValueError(f"the default {show(value)} is not {self.noun}")
        return [self._items.from_default(item) for item in value]


def _each_item(finish: Finish) -> Finish:
    def finish_items(items: list[Any], run: Run) -> list[Any]:
        finished: list[Any] = []
        try:
            for item in items:
                finished.append(finish(item, run))
        except Misfit as misfit:
            misfit.steps.append(len(finished))
            raise
        return finished

    return finish_items


class Map(Node):
    """A map from strings to one type of values."""

    branch = "map"
    noun = rule = "an object"
    kinds = frozenset({"object"})
    python_type = dict

    def __init__(self, values: Node) -> None:
        self._values = values
        self.json_type = dict[str, values.json_type]  # type: ignore[name-defined]
        self.finish = None if values.finish is None else _each_value(values.finish)

    def child(self, step: Step, name: str = "") -> Node | None:  # noqa: ARG002
        """Return the type of the values."""
        return self._values if step == "value" else None

    def from_default(self, value: Any) -> Any:
        """Turn a schema's default into what fastavro writes."""
        if not isinstance(value, dict):
            raise ValueError(f"the default {show(value)} is not {self.noun}")
        return {key: self._values.from_default(entry) for key, entry in value.items()}


def _each_value(finish: Finish) -> Finish:
    def finish_values(values: dict[str, Any], run: Run) -> dict[str, Any]:
        finished: dict[str, Any] = {}
        key = ""
        try:
            for key, value in values.items():
                finished[key] = finish(value, run)
        except Misfit as misfit:
            misfit.steps.append(MapKey(key))
            raise
        return finished

    return finish_values


class Record(Node):
    """A record: a Struct to msgspec, which refuses unknown fields, and then the dictionary that fastavro writes.

    Every field is given to fastavro, defaults included: by itself it would take the schema's text as it stands, which
    it cannot write for bytes, and for a union might write as another branch.
    """

    noun = rule = "an object"
    kinds = frozenset({"object"})

    def __init__(self, name: str, fields: list[_Field]) -> None:
        self.branch = name
        self._fields = {field.name: field for field in fields}
        # a Struct's fields are attributes of a class, which cannot have just any name
        ordinary = all(not (field.name.startswith("_") or keyword.iskeyword(field.name)) for field in fields)
        members: list[tuple[str, Any, Any]] = []
        for index, field in enumerate(fields):
            options: dict[str, Any] = {} if ordinary else {"name": field.name}
            if not field.required:
                options |= {"default": UNSET} if field.node.finish is not None else _as_is(field)
            members.append((field.name if ordinary else f"f{index}", field.node.json_type, msgspec.field(**options)))
        self.json_type = self.python_type = msgspec.defstruct(
            name.rpartition(".")[2], members, kw_only=True, forbid_unknown_fields=True, gc=False
        )
        self.finish = _each_field(
            msgspec.structs.asdict if ordinary else _as_renamed_dict(tuple(self._fields)),
            [field for field in fields if field.node.finish is not None],
        )

    def child(self, step: Step, name: str = "") -> Node | None:
        """Return the type of a field."""
        return self._fields[name].node if step == "field" and name in self._fields else None

    def field_names(self) -> list[str]:
        """Return the names of the fields."""
        return list(self._fields)

    def from_default(self, value: Any) -> Any:
        """Turn a schema's default into what fastavro writes."""
        if not isinstance(value, dict) or not value.keys() <= self._fields.keys():
            raise ValueError(f"the default {show(value)} is not a {self.branch}")
        finished = {}
        for field in self._fields.values():
            if field.name in value:
                finished[field.name] = field.node.from_default(value[field.name])
            elif field.required:
                raise ValueError(f"the default of a {self.branch} has no '{field.name}'")
            else:
                finished[field.name] = field.node.from_default(field.declared)
        return finished


class _Field:
    """A field of a record.

    Attributes:
        name: in the schema and in JSON.
        node: its type.
        required: whether it has no default.
        declared: the default as the schema has it.
        default: the default as fastavro writes it, where ``node`` has a finish; set once all types are complete.
    """

    __slots__ = ("declared", "default", "name", "node", "required")

    def __init__(self, name: str, node: Node, declared: Any = UNSET) -> None:
        self.name = name
        self.node = node
        self.required = declared is UNSET
        self.declared = declared
        self.default: Any = None


def _each_field(as_dict: Callable[[Any], dict[str, Any]], unfinished: list[_Field]) -> Finish:
    def finish_fields(struct: Any, run: Run) -> dict[str, Any]:
        values = as_dict(struct)
        for field in unfinished:
            value = values[field.name]
            if value is UNSET:
                values[field.name] = field.default
                continue
            try:
                values[field.name] = field.node.finish(value, run)  # type: ignore[misc]
            except Misfit as misfit:
                misfit.steps.append(field.name)
                raise
        return values

    def to_dict(struct: Any, _: Run) -> dict[str, Any]:
        return as_dict(struct)

    return finish_fields if unfinished else to_dict


def _as_is(field: _Field) -> dict[str, Any]:
    """Return the default of a field whose value needs no finish, as an argument of ``msgspec.field``."""
    default = field.node.from_default(field.declared)
    return {"default_factory": lambda: default} if isinstance(default, list | dict) else {"default": default}


def _as_renamed_dict(names: tuple[str, ...]) -> Callable[[Any], dict[str, Any]]:
    return lambda struct: dict(zip(names, msgspec.structs.astuple(struct), strict=True))


class Recurring(Node):
    """A record within itself."""

    noun = rule = "an object"
    kinds = frozenset({"object"})
    json_type = Any
    python_type = dict

    def __init__(self, name: str, nodes: dict[str, Node]) -> None:
        self.branch = name
        self.finish = self._fit
        self._nodes = nodes

    def from_default(self, value: Any) -> Any:
        """Turn a schema's default into what fastavro writes."""
        return self._nodes[self.branch].from_default(value)

    def _fit(self, value: Any, run: Run) -> Any:
        if run.depth >= MAX_DEPTH:
            raise TooDeep
        run.depth += 1
        try:
            return fit(self._nodes[self.branch], value, run)
        finally:
            run.depth -= 1


class Choice(Node):
    """A union.

    msgspec chooses where each kind of JSON value belongs to one branch. Elsewhere the union is deferred: the branches
    that take this kind of value are tried in the order of the schema, and the first that fits is taken. Either way
    fastavro is told the branch, so that it writes the very one.
    """

    branch = "union"

    def __init__(self, branches: list[Node]) -> None:
        self.noun = _any_of(node.noun for node in branches)
        self.rule = _any_of(node.rule for node in branches)
        self.kinds = frozenset().union(*(node.kinds for node in branches))
        self._branches = branches
        self._by_kind = {kind: [node for node in branches if kind in node.kinds] for kind in self.kinds}
        self.python_type = object
        if any(node.deferred for node in branches) or any(len(nodes) > 1 for nodes in self._by_kind.values()):
            self.json_type = Any
            self.finish = self._choose
            return
        self.json_type = Union[tuple(node.json_type for node in branches)]  # noqa: UP007
        if not all(node.plain for node in branches):
            self.finish = _branch_by_class({node.python_type: node for node in branches})

    def child(self, step: Step, name: str = "") -> Node | None:
        """Return the type of a part, which only one branch can have."""
        for node in self._branches:
            if (child := node.child(step, name)) is not None:
                return child
        return None

    def field_names(self) -> list[str]:
        """Return the names of the fields of the branch that is a record."""
        return [name for node in self._branches for name in node.field_names()]

    def from_default(self, value: Any) -> Any:
        """Turn a schema's default, which may be of any branch, into what fastavro writes."""
        for node in self._branches:
            try:
                finished = node.from_default(value)
            except ValueError:
                continue
            return finished if self.finish is None else (node.branch, finished)
        raise ValueError(f"the default {show(value)} is not {self.noun}")

    def _choose(self, value: Any, run: Run) -> Any:
        candidates = self._by_kind.get(_KIND_OF[type(value)], [])
        if len(candidates) == 1:
            return candidates[0].branch, fit(candidates[0], value, run)
        if not candidates:
            raise Misfit(f"expected {self.noun}, found {found(value)}")
        if not isinstance(value, dict | list):
            return self._first_that_fits(candidates, value, run)
        key = (id(self), id(value))
        if key not in run.fitted:
            try:
                run.fitted[key] = value, self._first_that_fits(candidates, value, run)
            except Misfit as misfit:
                run.fitted[key] = value, misfit.reason
        outcome = run.fitted[key][1]
        if isinstance(outcome, str):
            raise Misfit(outcome)
        return outcome

    @staticmethod
    def _first_that_fits(candidates: list[Node], value: Any, run: Run) -> Any:
        attempts = []
        for node in candidates:
            try:
                return node.branch, fit(node, value, run)
            except Misfit as misfit:
                attempts.append((node.branch.rpartition(".")[2], misfit))
        raise fits_none(attempts)


def _branch_by_class(nodes: dict[type, Node]) -> Finish:
    def name_branch(value: Any, run: Run) -> Any:
        node = nodes[type(value)]
        return node.branch, value if node.finish is None else node.finish(value, run)

    return name_branch


def _any_of(texts: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(texts))


def compile_schema(schema: Any) -> Node:
    """Compile a schema, as fastavro has parsed it.

    Raises:
        ValueError: it is not valid Avro in a way that fastavro lets pass.
    """
    return _Compiler().compile(schema)


class _Compiler:
    def __init__(self) -> None:
        self._named: dict[str, Node] = {}
        self._optional: list[_Field] = []

    def compile(self, schema: Any) -> Node:
        node = self._node(schema)
        # only now are the types complete that a default may be made of
        for field in self._optional:
            field.default = field.node.from_default(field.declared)
        return node

    def _node(self, schema: Any) -> Node:
        if isinstance(schema, list):
            return self._choice(schema)
        attributes = {"type": schema} if isinstance(schema, str) else schema
        base = attributes["type"]
        if not isinstance(base, str):
            raise ValueError(f"{json.dumps(base, default=str)[:80]} is not the name of a type")
        match base:
            case "record" | "error":
                return self._record(attributes)
            case "array":
                return Array(self._node(attributes["items"]))
            case "map":
                return Map(self._node(attributes["values"]))
            case "enum":
                return self._keep(attributes["name"], _enum(attributes))
            case "fixed":
                return self._keep(attributes["name"], _logical(attributes) or _fixed(attributes))
        if base in self._named:
            return self._named[base]
        return _logical(attributes) or _primitive(base)

    def _keep(self, name: str, node: Node) -> Node:
        self._named[name] = node
        return node

    def _record(self, attributes: Mapping[str, Any]) -> Node:
        name = attributes["name"]
        self._named[name] = Recurring(name, self._named)
        fields: list[_Field] = []
        for declared in attributes["fields"]:
            field = _Field(declared["name"], self._node(declared["type"]), declared.get("default", UNSET))
            if not _NAME.match(field.name):
                raise ValueError(f"'{field.name}' in {name} is not a name")
            if any(field.name == other.name for other in fields):
                raise ValueError(f"{name} has two fields named '{field.name}'")
            fields.append(field)
            if not field.required and field.node.finish is not None:
                self._optional.append(field)
        return self._keep(name, Record(name, fields))

    def _choice(self, schemas: list[Any]) -> Node:
        branches = [self._node(schema) for schema in schemas]
        names = [node.branch for node in branches]
        if not names or "union" in names:
            raise ValueError("a union has no branch, or a union as one")
        if len(set(names)) < len(names):
            raise ValueError(f"a union has two branches of one type: {', '.join(names)}")
        return Choice(branches)


def _integer(base: str, bits: int) -> Node:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return Scalar(
        base,
        Annotated[int, Meta(ge=low, le=high)],
        int,
        "an integer",
        ("integer",),
        rule=f"an integer from {low} to {high}",
        plain=True,
    )


def _primitive(base: str) -> Node:
    match base:
        case "null":
            return Scalar("null", None, type(None), "null", ("null",), plain=True)
        case "boolean":
            return Scalar("boolean", bool, bool, "a boolean", ("boolean",), plain=True)
        case "int":
            return _integer("int", 32)
        case "long":
            return _integer("long", 64)
        case "float" | "double":
            largest = _LARGEST_FLOAT32 if base == "float" else sys.float_info.max
            return Scalar(
                base,
                Annotated[float, Meta(ge=-largest, le=largest)],
                float,
                "a number",
                ("integer", "number"),
                rule=f"a number from {-largest:g} to {largest:g}",
                plain=True,
            )
        case "string":
            return Scalar("string", str, str, "a string", ("string",), plain=True)
        case "bytes":
            return Scalar("bytes", bytes, bytes, "a base64 string", ("string",), plain=True)
    raise ValueError(f"'{base}' is not a type")


def _fixed(attributes: Mapping[str, Any]) -> Node:
    size = attributes["size"]
    return Scalar(
        "fixed",
        Annotated[bytes, Meta(min_length=size, max_length=size)],
        bytes,
        f"a base64 string of {size} bytes",
        ("string",),
        branch=attributes["name"],
    )


def _enum(attributes: Mapping[str, Any]) -> Node:
    symbols = attributes["symbols"]
    if not symbols:
        raise ValueError(f"the enum {attributes['name']} has no symbols")
    return Scalar(
        "enum",
        Literal[tuple(symbols)],
        str,
        f"one of {enumerate_shortly(symbols)}",
        ("string",),
        branch=attributes["name"],
        symbols=symbols,
    )


def _logical(attributes: Mapping[str, Any]) -> Node | None:
    """Return the logical type; None where there is none that is known, so that the underlying type is used."""
    base = attributes["type"]
    match base, attributes.get("logicalType"):
        case "long", "timestamp-millis" | "timestamp-micros":
            noun = "a timestamp with a time zone, such as 2026-01-31T08:30:00Z"
            instant = Annotated[datetime, Meta(tz=True)]
            return Scalar("long", instant, datetime, noun, ("string",), finish=_check_instant)
        case "long", "local-timestamp-millis" | "local-timestamp-micros":
            noun = "a timestamp without a time zone, such as 2026-01-31T08:30:00"
            return Scalar("long", Annotated[datetime, Meta(tz=False)], datetime, noun, ("string",))
        case "int", "date":
            return Scalar("int", date, date, "a date, such as 2026-01-31", ("string",))
        case ("int", "time-millis") | ("long", "time-micros"):
            return Scalar(base, str, str, _TIME_NOUN, ("string",), finish=_read_time)
        case "string", "uuid":
            return Scalar("string", UUID, UUID, "a UUID", ("string",))
        case "fixed", "uuid" if attributes["size"] == _UUID_SIZE:
            return Scalar("fixed", UUID, UUID, "a UUID", ("string",), branch=attributes["name"], finish=_uuid_bytes)
        case (("bytes" | "fixed"), "decimal"):
            return _decimal(attributes)
    return None


def _check_instant(value: datetime) -> datetime:
    try:
        return value if value.tzinfo is UTC else value.astimezone(UTC)
    except OverflowError:
        raise Misfit("expected a timestamp of the years 1 to 9999 in UTC") from None


def _read_time(text: str) -> time:
    # msgspec would round the last microsecond of the day up to midnight, so further digits are cut off here
    parts = _TIME.match(text)
    if parts is not None:
        try:
            return time.fromisoformat(parts[1])
        except ValueError:
            pass
    raise Misfit(f"expected {_TIME_NOUN}, found {show(text)}")


def _uuid_bytes(value: UUID) -> bytes:
    return value.bytes


def _decimal(attributes: Mapping[str, Any]) -> Node:
    precision, scale = attributes.get("precision"), attributes.get("scale", 0)
    size = attributes["size"] if attributes["type"] == "fixed" else None
    if not isinstance(precision, int) or not isinstance(scale, int) or not 0 <= scale <= precision or precision < 1:
        raise ValueError(f"a decimal of precision {precision} and scale {scale} does not exist")
    noun = "a decimal number, as a number or a string"
    rule = f"{noun}, of at most {precision - scale} digits before the point and {scale} after it"

    def finish(value: Decimal) -> bytes:
        unscaled = _unscale(value, precision, scale)
        if unscaled is None:
            raise Misfit(f"expected {rule}, found {show(value)}")
        return unscaled.to_bytes(size or unscaled.bit_length() // 8 + 1, "big", signed=True)

    return Scalar(
        attributes["type"],
        Decimal,
        Decimal,
        noun,
        ("integer", "number", "string"),
        branch=attributes.get("name", ""),
        rule=rule,
        finish=finish,
    )


def _unscale(value: Decimal, precision: int, scale: int) -> int | None:
    """Return ``value`` times 10 to the power of ``scale``, or None if it does not fit exactly."""
    if not value.is_finite() or (value and value.adjusted() >= precision - scale):
        return None
    sign, digits, exponent = value.as_tuple()
    if not value or not isinstance(exponent, int):
        return 0
    surplus = -(exponent + scale)
    if surplus > 0:
        if surplus >= len(digits) or any(digits[-surplus:]):
            return None
        digits = digits[:-surplus]
    return int(Decimal((sign, digits, max(-surplus, 0))))


def _read_fixed_uuid(data: bytes, *_: Any) -> UUID | bytes:
    return UUID(bytes=data) if len(data) == _UUID_SIZE else data


# fastavro knows a UUID as a string only; this is its own hook for further logical types
fastavro.read.LOGICAL_READERS["fixed-uuid"] = _read_fixed_uuid
