"""Unions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Union

from forebay_gateway.payloads.deferred import read_value
from forebay_gateway.payloads.explain import Mismatch, describe_kind, describe_value, no_branch_matches
from forebay_gateway.payloads.nodes import KIND_OF, Node, ReadState, Step, ToAvro


class UnionNode(Node):
    """A union.

    msgspec chooses where each kind of JSON value belongs to one branch. Elsewhere the union is deferred: the branches
    that take this kind of value are tried in the order of the schema, and the first that fits is taken. Either way
    fastavro is told the branch, so that it writes the very one.
    """

    branch = "union"

    def __init__(self, branches: list[Node]) -> None:
        given = [node for node in branches if node.kinds]
        self.noun = _any_of(node.noun for node in given)
        self.rule = _any_of(node.rule for node in given)
        self.kinds = frozenset().union(*(node.kinds for node in given))
        self._branches = branches
        self._by_kind = {kind: [node for node in given if kind in node.kinds] for kind in self.kinds}
        # a whole number is an integer where there is one, wherever it stands
        self._by_kind.get("integer", []).sort(key=lambda node: "number" in node.kinds)
        self.python_type = object
        if any(node.deferred for node in given) or any(len(nodes) > 1 for nodes in self._by_kind.values()):
            self.json_type = Any
            self.to_avro = self._choose
            return
        self.json_type = Union[tuple(node.json_type for node in given)]  # noqa: UP007
        if not all(node.plain for node in branches):
            self.to_avro = _branch_by_class(given)

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
                converted = node.from_default(value)
            except ValueError:
                continue
            return converted if self.to_avro is None else (node.branch, converted)
        raise ValueError(f"the default {describe_value(value)} is not {self.noun}")

    def _choose(self, value: Any, state: ReadState) -> Any:
        candidates = self._by_kind.get(KIND_OF[type(value)], [])
        if len(candidates) == 1:
            return candidates[0].branch, read_value(candidates[0], value, state)
        if not candidates:
            raise Mismatch(f"expected {self.noun}, found {describe_kind(value)}")
        if not isinstance(value, dict | list):
            return self._first_match(candidates, value, state)
        key = (id(self), id(value))
        if key not in state.tried:
            try:
                state.tried[key] = value, self._first_match(candidates, value, state)
            except Mismatch as mismatch:
                state.tried[key] = value, mismatch.reason
        outcome = state.tried[key][1]
        if isinstance(outcome, str):
            raise Mismatch(outcome)
        return outcome

    @staticmethod
    def _first_match(candidates: list[Node], value: Any, state: ReadState) -> Any:
        attempts = []
        for node in candidates:
            try:
                return node.branch, read_value(node, value, state)
            except Mismatch as mismatch:
                attempts.append((node.branch.rpartition(".")[2], mismatch))
        raise no_branch_matches(attempts)


def _branch_by_class(branches: list[Node]) -> ToAvro:
    nodes = {node.python_type: node for node in branches}
    if float in nodes:
        nodes[int] = nodes[float] if int not in nodes else nodes[int]

    def name_branch(value: Any, state: ReadState) -> Any:
        node = nodes[type(value)]
        return node.branch, value if node.to_avro is None else node.to_avro(value, state)

    return name_branch


def _any_of(texts: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(texts))
