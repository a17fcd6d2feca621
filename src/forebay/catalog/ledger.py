"""What the records of the catalog say together: a decision without I/O, the same for everybody who reads them.

Nothing keeps two processors from announcing at the same instant, and compaction may have removed any record but the
last of an operation. So every reader weighs the records of a name, as far as they are left, in the same way:

- The first announcement of a name makes it its app's. A tombstone withdraws the operation, and the name is free.
- A record that cannot be read is ignored.
- Records of one app whose schemas can live side by side are one operation: the schemas of the latest come first, and
  those that it lacks stay.
- Of records that contradict each other, because they are of two apps or their schemas cannot live side by side, the
  one with the higher term holds, and of equal terms the earlier one.

Whoever reads only what compaction left comes to the same result once the last record of the name says all of it, with
a term above those of the records that it contradicts. `Ledger.to_restate` tells when that is not so; a processor that
has the operation then announces it again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from forebay.catalog.entry import CatalogEntry, compare, schema_of
from forebay.codec import SchemaSet
from forebay.errors import CodecError, ConfigurationError, IncompatibleSchema, InvalidSchema, OperationTaken
from forebay.messages import OperationMessage
from forebay_schemas.names import NAME

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Statement:
    """What one or more records say alike.

    Attributes:
        entry: what that is.
        term: the highest of their terms.
        first: the offset of the first of them with that term.
        last: the offset of the last of them.
    """

    entry: CatalogEntry
    term: int
    first: int
    last: int


@dataclass(slots=True)
class _Account:
    """What is known of one name.

    Attributes:
        entry: the operation; None where it was withdrawn, or nothing usable was announced.
        floor: the term that a new announcement takes: beyond everything before the last tombstone.
        overruled: the highest term of a record that contradicts the operation; -1 where there is none.
        last: the term of the last record if that says all there is to say; None if it does not.
        statements: what was said since the last tombstone.
    """

    entry: CatalogEntry | None = None
    floor: int = 0
    overruled: int = -1
    last: int | None = None
    statements: list[_Statement] = field(default_factory=list)


class Ledger:
    """The operations that exist, from the records of the catalog in their order."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}

    def entry(self, name: str) -> CatalogEntry | None:
        """Return the operation of this name; None where there is none."""
        account = self._accounts.get(name)
        return None if account is None else account.entry

    def take(self, name: str, value: bytes | None, offset: int) -> bool:
        """Take in a record; say whether it changed the operation of that name."""
        if not NAME.fullmatch(name):
            log.error("catalog: the record at offset %d is ignored: its key %.80r is no operation's name", offset, name)
            return False
        account = self._accounts.setdefault(name, _Account())
        before = account.entry
        if value is None:
            self._accounts[name] = _Account(floor=offset + 1)
            return before is not None
        account.last = None
        try:
            record = CatalogEntry.parse(name, value, offset)
        except (CodecError, InvalidSchema) as error:
            log.error("catalog: the record of '%s' at offset %d is ignored: %s", name, offset, error)
            return False
        if before is not None and (contradiction := conflict(before.message, record.message)) is not None:
            holds = record.message["term"] > before.message["term"]
            outcome = "overrules" if holds else "is overruled by"
            log.error("catalog: the record of '%s' at offset %d %s another: %s", name, offset, outcome, contradiction)
        _note(account.statements, record, offset)
        _resolve(account, record)
        return account.entry is not before

    def term(self, name: str) -> int:
        """Return the term with which an announcement of this name holds against everything known."""
        account = self._accounts.get(name, _Account())
        known = 0 if account.entry is None else account.entry.message["term"]
        return max(known, account.floor, account.overruled + 1)

    def to_restate(self, name: str) -> bool:
        """Whether there is an operation of which the last record does not say everything, or not for everybody."""
        account = self._accounts.get(name)
        return account is not None and account.entry is not None and account.last != self.term(name)


def conflict(known: OperationMessage, record: OperationMessage) -> ConfigurationError | None:
    """Say why two records of one name contradict each other; None if they do not.

    An `OperationTaken` says that it is the other app's, an `IncompatibleSchema` which field stands between them.
    """
    name = known["name"]
    if known["app"] != record["app"]:
        return OperationTaken(name, known["app"], record["app"])
    for side in ("request", "result"):
        before, after = known[f"{side}_schemas"], record[f"{side}_schemas"]  # type: ignore[literal-required]
        if bool(before) != bool(after):
            change = "bytes to a schema" if after else "a schema to bytes"
            return IncompatibleSchema(name, side, f"the {side} changes from {change}")
        for newer in after:
            for older in before:
                if (found := compare(older, newer)) is not None:
                    return IncompatibleSchema(name, f"{side}.{found.field}", found.reason)
    return None


def lacking(schemas: SchemaSet | None, texts: Iterable[str]) -> list[str]:
    """Return those of the schemas in ``texts`` whose messages ``schemas`` cannot read, for want of the same schema."""
    if schemas is None:
        return []
    return [text for text in texts if not schemas.has_writer(schema_of(text).fingerprint)]


def _note(statements: list[_Statement], record: CatalogEntry, offset: int) -> None:
    term = record.message["term"]
    for statement in statements:
        if _is_equal_statement(statement.entry.message, record.message):
            statement.last = offset
            if term > statement.term:
                statement.term, statement.first = term, offset
            return
    statements.append(_Statement(record, term, offset, offset))


def _is_equal_statement(one: OperationMessage, other: OperationMessage) -> bool:
    silent = {name: one[name] for name in ("announced_at", "announced_by", "term")}
    return {**other, **silent} == one


def _resolve(account: _Account, last: CatalogEntry) -> None:
    """Work out what the statements come to, and whether the last record, which is one of them, says all of it."""
    accepted: list[_Statement] = []
    account.overruled = -1
    for statement in sorted(account.statements, key=lambda each: (-each.term, each.first)):
        if any(conflict(other.entry.message, statement.entry.message) for other in accepted):
            account.overruled = max(account.overruled, statement.term)
        else:
            accepted.append(statement)
    newest, *older = sorted(accepted, key=lambda each: -each.last)
    message = OperationMessage(**{**newest.entry.message, "term": max(each.term for each in accepted)})
    for statement in older:
        message = _join(message, statement.entry)
    if account.entry is None or message != account.entry.message:
        account.entry = CatalogEntry.of(message)
    if _is_equal_statement(message, last.message):
        account.last = last.message["term"]


def _join(message: OperationMessage, known: CatalogEntry) -> OperationMessage:
    """Return a message with the schemas that it lacks."""
    joined = CatalogEntry.of(message)
    requests = [*message["request_schemas"], *lacking(joined.requests, known.message["request_schemas"])]
    results = [*message["result_schemas"], *lacking(joined.results, known.message["result_schemas"])]
    return OperationMessage(**{**message, "request_schemas": requests, "result_schemas": results})
