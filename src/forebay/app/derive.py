"""The Avro schema of a dataclass, and how a value of it is written.

Whatever could not go to Avro and come back as it was is refused by the name of its field, and with what to declare in
its place. A schema has no default that the app did not declare. A field with a ``default_factory`` is *absent* where a
caller leaves it out: that is a branch of its own, and the processor then calls the factory, once for each request.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import json
import types
import typing
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

from forebay.app import structures, values
from forebay.app.allowed import check_class, check_field
from forebay.app.avro_types import SCALARS, Derived, JsonKind, decimal_type
from forebay.app.definitions import define_at_first_use
from forebay.app.enums import derive_enum, is_avro_name
from forebay.app.refusals import NAME_RULE, Underivable, refuse, shorten, show_type
from forebay.app.values import Mismatch, ToAvro
from forebay.codec import ABSENT, ABSENT_NAME, ABSENT_SYMBOL, Schema

_ARRAYS = (list, collections.abc.Sequence, collections.abc.MutableSequence)
_MAPS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_CONSTANT_FACTORIES = (list, dict, tuple, str, bytes, int, float, bool)
"""Factories that give an equal value each time, so that it can stand in the schema."""


def derive_schema(dataclass_type: type, app: str) -> tuple[Schema, ToAvro]:
    """Derive the schema of a dataclass, in the namespace of its app, and how a value of it is written.

    Raises:
        Underivable: a type in it cannot go to Avro and back.
    """
    derived = _Derivation(app.replace("-", "_")).record(dataclass_type, dataclass_type.__name__)
    return Schema(json.dumps(define_at_first_use(derived.schema)), fill_defaults=False), derived.to_avro


class _Derivation:
    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._named: dict[str, Any] = {}
        self._done: dict[Any, Derived] = {}
        self._unfinished: dict[type, structures.Record] = {}
        self._directly_in: list[type] = []
        self._absent_is_defined = False

    def derive(self, hint: Any, where: str) -> Derived:
        """Derive a type; ``where`` is the field that has it, as an error names it."""
        hint = _named_type(hint)
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin is Annotated:
            annotated = _named_type(arguments[0])
            return decimal_type(arguments[1:], where) if annotated is Decimal else self.derive(annotated, where)
        if origin in (typing.Union, types.UnionType):
            return self._union(hint, arguments, where)
        if origin is Literal:
            return self._literal(hint, arguments, where)
        if (origin in _ARRAYS and arguments) or (origin is tuple and arguments[1:] == (Ellipsis,)):
            return self._array(hint, arguments[0], where)
        if origin in _MAPS and arguments:
            return self._map(hint, arguments, where)
        if origin is None and (hint is None or hint in SCALARS):
            schema, to_avro, kind = SCALARS[type(None) if hint is None else hint]
            return Derived(schema, to_avro, frozenset({kind}), show_type(hint), is_empty=schema == "null")
        if hint is Decimal:
            return decimal_type((), where)
        if isinstance(hint, type) and issubclass(hint, Enum):
            return self._enum(hint, where)
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            return self.record(hint, where)
        raise refuse(hint, where)

    def _derive_inner(self, hint: Any, where: str) -> Derived:
        """Derive a type that a value need not have in it, such as the items of a list."""
        directly_in, self._directly_in = self._directly_in, []
        derived = self.derive(hint, where)
        self._directly_in = directly_in
        return derived

    def record(self, cls: type, where: str) -> Derived:
        """Derive a dataclass; its schema is a mere name where it was defined before."""
        if cls in self._unfinished:
            if cls in self._directly_in:
                raise Underivable(
                    f"{where}: a {cls.__name__} would hold another without an end; declare it as optional"
                )
            return Derived(self._name(cls), self._unfinished[cls].recur, frozenset({"object"}), cls.__name__)
        if cls in self._done:
            return dataclasses.replace(self._done[cls], schema=self._name(cls))
        self._claim(cls, where)
        hints = self._hints(cls, where)
        check_class(cls, hints, where)
        writer = self._unfinished[cls] = structures.Record(cls)
        self._directly_in.append(cls)
        schema: dict[str, Any] = {"type": "record", "name": cls.__name__, "namespace": self._namespace}
        if doc := _written_doc(cls):
            schema["doc"] = doc
        fields = []
        is_empty = True
        for field in dataclasses.fields(cls):
            place = f"field '{field.name}' of {cls.__name__}"
            check_field(field, hints[field.name], place)
            derived = self.derive(hints[field.name], place)
            is_empty = is_empty and derived.is_empty
            declared, to_avro = self._with_default(derived, field, place)
            writer.add(field.name, to_avro)
            fields.append({"name": field.name, **declared})
        self._directly_in.remove(cls)
        del self._unfinished[cls]
        self._done[cls] = Derived(
            {**schema, "fields": fields}, writer, frozenset({"object"}), cls.__name__, is_empty=is_empty
        )
        return self._done[cls]

    def _hints(self, cls: type, where: str) -> dict[str, Any]:
        try:
            hints = typing.get_type_hints(cls, include_extras=True)
        except (NameError, TypeError, AttributeError, SyntaxError) as error:
            raise Underivable(f"{where}: the types of {cls.__name__} cannot be resolved: {error}") from error
        for name, hint in hints.items():
            if isinstance(hint, dataclasses.InitVar):
                raise Underivable(f"field '{name}' of {cls.__name__}: an InitVar is no field; declare it as one")
        return hints

    def _with_default(
        self, derived: Derived, field: dataclasses.Field[Any], where: str
    ) -> tuple[dict[str, Any], ToAvro]:
        if field.default is not dataclasses.MISSING:
            default = field.default
        elif field.default_factory in _CONSTANT_FACTORIES:
            default = field.default_factory()
        elif field.default_factory is not dataclasses.MISSING:
            return self._or_absent(derived)
        else:
            return {"type": derived.schema}, derived.to_avro
        try:
            written = derived.to_avro(default, 0)
        except Mismatch as error:
            raise Underivable(f"{where}: its default {shorten(default)} does not fit: {error}") from None
        declared = {"type": derived.schema, "default": _in_json(written)}
        if derived.branches:
            # Avro has the branch of the default first
            name = "null" if written is None else written[0]
            declared["type"] = [
                *(branch.schema for branch in derived.branches if branch.branch == name),
                *(branch.schema for branch in derived.branches if branch.branch != name),
            ]
        return declared, derived.to_avro

    def _or_absent(self, derived: Derived) -> tuple[dict[str, Any], ToAvro]:
        absent = ABSENT_NAME if self._absent_is_defined else ABSENT
        self._absent_is_defined = True
        branches = [branch.schema for branch in derived.branches] or [derived.schema]
        to_avro = derived.to_avro if derived.branches else structures.union([derived])
        return {"type": [absent, *branches], "default": ABSENT_SYMBOL}, to_avro

    def _array(self, hint: Any, item: Any, where: str) -> Derived:
        items = self._derive_inner(item, where)
        if items.is_empty:
            raise Underivable(f"{where}: {show_type(hint)} holds nothing but its length; declare that as int")
        schema = {"type": "array", "items": items.schema}
        return Derived(schema, structures.array(items.to_avro), frozenset({"array"}), show_type(hint))

    def _map(self, hint: Any, arguments: tuple[Any, ...], where: str) -> Derived:
        if arguments[0] is not str:
            raise Underivable(f"{where}: {show_type(hint)} has other keys than text; declare dict[str, …]")
        entries = self._derive_inner(arguments[1], where)
        return Derived(
            {"type": "map", "values": entries.schema},
            structures.mapping(entries.to_avro),
            frozenset({"object"}),
            show_type(hint),
        )

    def _enum(self, enum: type[Enum], where: str) -> Derived:
        if enum in self._done:
            return dataclasses.replace(self._done[enum], schema=self._name(enum))
        self._claim(enum, where)
        try:
            schema = derive_enum(enum, self._namespace)
        except TypeError as error:
            raise Underivable(f"{where}: {error}") from None
        if doc := _written_doc(enum):
            schema["doc"] = doc
        derived = Derived(schema, values.member(enum), frozenset({"string"}), enum.__name__)
        self._done[enum] = derived
        return derived

    def _literal(self, hint: Any, choices: tuple[Any, ...], where: str) -> Derived:
        given = [choice for choice in choices if choice is not None]
        kinds = {type(choice) for choice in given}
        if len(kinds) != 1 or not kinds <= {str, int}:
            raise Underivable(
                f"{where}: {show_type(hint)} is not of strings alone, or of ints alone; declare an Enum of strings"
            )
        for choice in given:
            if isinstance(choice, int) and not values.fits_long(choice):
                raise Underivable(
                    f"{where}: {show_type(hint)} has a number of more than 64 bits; declare an Enum of strings"
                )
        (kind,) = kinds
        schema, _, json_kind = SCALARS[kind]
        derived = Derived(schema, values.one_of(given), frozenset({json_kind}), show_type(hint))
        return derived if len(given) == len(choices) else self._unite([self.derive(None, where), derived], hint, where)

    def _union(self, hint: Any, arguments: tuple[Any, ...], where: str) -> Derived:
        branches: list[Derived] = []
        for argument in arguments:
            derived = self._derive_inner(argument, where)
            branches += derived.branches or (derived,)
        return self._unite(branches, hint, where)

    def _unite(self, branches: list[Derived], hint: Any, where: str) -> Derived:
        branches = list({id(branch) if branch.branch != "null" else "null": branch for branch in branches}.values())
        kinds: dict[JsonKind, Derived] = {}
        in_avro: dict[str, Derived] = {}
        for branch in branches:
            for kind in branch.kinds:
                _keep_apart("JSON", kinds.setdefault(kind, branch), branch, hint, where)
            _keep_apart("Avro", in_avro.setdefault(branch.branch, branch), branch, hint, where)
        # a whole number is an int where there is one
        branches.sort(key=lambda branch: branch.schema == "double")
        to_avro = (
            structures.optional(branches) if len(branches) == 2 and "null" in kinds else structures.union(branches)
        )
        return Derived(
            [branch.schema for branch in branches], to_avro, frozenset(kinds), show_type(hint), tuple(branches)
        )

    def _name(self, cls: type) -> str:
        return f"{self._namespace}.{cls.__name__}"

    def _claim(self, cls: type, where: str) -> None:
        """Make the name of a class that class's in this schema."""
        if not is_avro_name(cls.__name__):
            raise Underivable(f"{where}: the class '{cls.__name__}' takes {NAME_RULE}")
        other = self._named.setdefault(cls.__name__, cls)
        if other is not cls:
            raise Underivable(
                f"{where}: there are two classes named {cls.__name__} in it, of the modules {other.__module__} and "
                f"{cls.__module__}; rename one of them"
            )


def _keep_apart(language: str, one: Derived, other: Derived, hint: Any, where: str) -> None:
    if one is not other:
        alike = f"in {language} {one.shown} cannot be told from {other.shown}"
        raise Underivable(f"{where}: {show_type(hint)}: {alike}; declare an optional field for each")


_ALIAS = getattr(typing, "TypeAliasType", ())  # there from Python 3.12 on; msgspec reads no other kind


def _named_type(hint: Any) -> Any:
    """Return the type that a NewType or an alias by ``type`` is a name for; any other as it is."""
    while isinstance(hint, (typing.NewType, _ALIAS)):
        hint = hint.__supertype__ if isinstance(hint, typing.NewType) else hint.__value__
    return hint


def _in_json(written: Any) -> Any:
    """Return a value as it stands in a schema for a default."""
    if isinstance(written, tuple):
        return _in_json(written[1])
    if isinstance(written, bytes):
        return written.decode("latin-1")
    if isinstance(written, list):
        return [_in_json(item) for item in written]
    if isinstance(written, dict):
        return {key: _in_json(value) for key, value in written.items()}
    return written


def _written_doc(cls: type) -> str:
    """Return the docstring that somebody wrote; dataclasses and enums have one of Python's otherwise."""
    doc = vars(cls).get("__doc__") or ""
    made_up = (f"{cls.__name__}(", "Create a collection of name/value pairs", "An enumeration.")
    return "" if doc.startswith(made_up) else inspect.cleandoc(doc)
