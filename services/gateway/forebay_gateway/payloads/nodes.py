"""The types of Avro as JSON has them: what msgspec reads, and how that becomes what fastavro writes.

`compile` makes a tree of `Node` of a schema. Most of a request is then checked by msgspec in one pass, in C, and what
is left is done by each node's ``to_avro``: a record's fields into a dictionary, the branch of a union named, a decimal
checked.

What msgspec cannot choose between, and what recurs, is *deferred*: read as plain JSON first, and checked branch by
branch after that. Numbers in there are read as `Decimal`, so that nothing is lost before it is known what they will be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as attribute
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

ToAvro = Callable[[Any, "ReadState"], Any]
Kind = Literal["null", "boolean", "integer", "number", "string", "array", "object"]
Step = Literal["field", "item", "value"]

KIND_OF: dict[type, Kind] = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    Decimal: "number",
    str: "string",
    list: "array",
    dict: "object",
}


@dataclass(slots=True)
class ReadState:
    """What is remembered while one request is tried.

    Attributes:
        depth: levels of recursive types at the moment.
        tried: for each union and each array or object that was tried on it, the branch and what came of it, or the
            reason of the mismatch. Without, unions within unions would be tried as often as there are combinations. The
            value itself is kept beside it, so that its ``id`` is not given to another.
    """

    depth: int = 0
    tried: dict[tuple[int, int], tuple[Any, Any]] = attribute(default_factory=dict)


class Node:
    """One type of a schema.

    Attributes:
        branch: the name by which fastavro picks it out of a union.
        noun: what a person calls it, such as "an integer".
        rule: the same with all that is asked of it, such as its range.
        kinds: the kinds of JSON values that it may be read from.
        json_type: what msgspec reads; ``Any`` if it is deferred.
        python_type: the class of what msgspec reads.
        to_avro: makes of that what fastavro writes; None if there is nothing to do.
        only_for: the one class of values that ``to_avro`` has something to do for; None if it is all of them.
        plain: whether fastavro finds it in a union with null by itself, and quickly.
    """

    branch: str
    noun: str
    kinds: frozenset[Kind]
    json_type: Any
    python_type: type
    rule: str = ""
    to_avro: ToAvro | None = None
    only_for: type | None = None
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


def exact_number(text: str) -> Decimal:
    """Read a number of plain JSON without loss.

    One whose exponent is beyond any bounds becomes an infinity, which then fits nothing.
    """
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("-Infinity" if text.startswith("-") else "Infinity")
