"""What a dataclass and its fields must be, apart from the types: objects are made of a message field by field."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from typing import Any, ClassVar

from forebay.app.enums import is_avro_name
from forebay.app.refusals import NAME_RULE, Underivable

_GENERATED = dataclasses.make_dataclass("_Sample", ()).__init__.__code__.co_filename  # type: ignore[misc]
"""The file that Python names for what it has written itself."""


def check_class(cls: type, hints: dict[str, Any], where: str) -> None:
    """Refuse a class whose objects are not made by what ``@dataclass`` wrote for it: they are made without a call."""
    own = [hints[name] for name in inspect.get_annotations(cls)]
    if "__dataclass_fields__" not in vars(cls) and any(ClassVar not in (hint, typing.get_origin(hint)) for hint in own):
        raise Underivable(
            f"{where}: {cls.__name__} has annotations that are no fields, as it is not decorated itself; write "
            f"@dataclass above it"
        )
    if not cls.__dataclass_params__.init:  # type: ignore[attr-defined]
        raise Underivable(f"{where}: {cls.__name__} is a dataclass(init=False), whose __init__ would not be called")
    for name in ("__init__", "__new__"):
        method = getattr(cls, name)
        if method is not object.__new__ and _is_written_by_hand(method):
            raise Underivable(
                f"{where}: {cls.__name__} has a {name} of its own, which would not be called; use __post_init__"
            )


def _is_written_by_hand(method: Any) -> bool:
    code = getattr(inspect.unwrap(method), "__code__", None)
    return code is None or code.co_filename != _GENERATED


def check_field(field: dataclasses.Field[Any], hint: Any, where: str) -> None:
    """Refuse a field that could not be given, or not by its name; ``where`` is what an error calls it."""
    if not is_avro_name(field.name):
        raise Underivable(f"{where}: a field takes {NAME_RULE}")
    if field.name.startswith("__") and field.name.endswith("__"):
        raise Underivable(f"{where}: names with '__' before and after are Python's own; give it another one")
    if hint is type(None):
        raise Underivable(
            f"{where}: its type is None, which says nothing; where the field has the name of its type, as in "
            f"'date: Optional[date] = None', write 'from __future__ import annotations', or rename one of them"
        )
    if not field.init:
        raise Underivable(
            f"{where}: a field(init=False) cannot be given; declare a property, or compute it in the handler"
        )
