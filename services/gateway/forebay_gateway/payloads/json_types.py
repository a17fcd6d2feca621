"""The types of Avro as JSON has them: what msgspec reads, and how that becomes what fastavro writes.

`schemas` compiles a schema into a tree of `Node`. Most of a request is then checked by msgspec in one
pass, in C, and what is left is done by each node's ``finish``: a record's fields into a dictionary, the branch of a
union named, a decimal checked.

What msgspec cannot choose between, and what recurs, is *deferred*: read as plain JSON first and fitted after that,
branch by branch. Numbers in there are read as `Decimal`, so that nothing is lost before it is known what they will be.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from dataclasses import field as attribute
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, Union

import msgspec
from msgspec import UNSET

from forebay_gateway.payloads.misfits import MapKey, Misfit, explain, fits_none, found, show

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

    def __init__(self, name: str, fields: list[Field]) -> None:
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


class Field:
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


def _each_field(as_dict: Callable[[Any], dict[str, Any]], unfinished: list[Field]) -> Finish:
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


def _as_is(field: Field) -> dict[str, Any]:
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
