"""One operation, as a record of the catalog has it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

from forebay import compatibility
from forebay.codec import Schema, SchemaSet
from forebay.compatibility import Incompatibility
from forebay.errors import InvalidSchema, UnusableRecord
from forebay.messages import OperationMessage, decode_operation
from forebay.settings import TIERS
from forebay_schemas.names import NAME, RESERVED

LONGEST_DEADLINE_MS = 86_400_000
_MEDIA = re.compile(r"[!-~]+/[ -~]+")


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """An operation as the catalog has it.

    Attributes:
        message: the record itself.
        requests: the schemas of its requests, the newest to read with; None for opaque bytes.
        results: the schemas of its results, likewise.
    """

    message: OperationMessage
    requests: SchemaSet | None
    results: SchemaSet | None

    @classmethod
    def of(cls, message: OperationMessage) -> CatalogEntry:
        """Take in a message.

        Raises:
            InvalidSchema: one of its schemas is not Avro, or two of them cannot live side by side.
        """
        try:
            entry = cls(message, _schemas(message["request_schemas"]), _schemas(message["result_schemas"]))
        except Exception as error:  # fastavro raises many types of error for what is not a schema
            raise InvalidSchema(
                f"a schema of '{message['name']}' is not Avro: {type(error).__name__}: {error}"
            ) from error
        for texts in (message["request_schemas"], message["result_schemas"]):
            for newer, older in combinations(texts, 2):
                if (found := compare(older, newer)) is not None:
                    raise InvalidSchema(f"two schemas of '{message['name']}' differ at '{found.field}': {found.reason}")
        return entry

    @classmethod
    def parse(cls, name: str, value: bytes, offset: int) -> CatalogEntry:
        """Read a record of the catalog topic.

        Raises:
            CodecError: it is not an operation, or not one that can be served by this name.
            InvalidSchema: as `of`.
        """
        message = decode_operation(value)
        _check(message, name, offset)
        return cls.of(message)


@lru_cache(maxsize=4096)
def compare(older: str, newer: str) -> Incompatibility | None:
    """Say what stands between two schemas; remembered, since the same ones meet whenever an operation is announced."""
    try:
        return None if older == newer else compatibility.check(older, newer)
    except Exception as error:  # of what one Avro library takes for a schema and the other does not
        return Incompatibility("(the whole)", f"{type(error).__name__}: {error}")


@lru_cache(maxsize=4096)
def schema_of(text: str) -> Schema:
    """Parse a schema; remembered, since each one comes back with every record of its operation."""
    return Schema(text)


def _schemas(texts: list[str]) -> SchemaSet | None:
    if not texts:
        return None
    newest, *older = (schema_of(text) for text in texts)
    return SchemaSet(newest, older)


def _check(message: OperationMessage, name: str, offset: int) -> None:
    """Refuse what would lead to topics or routes that cannot be."""
    wrong = {
        "name": message["name"] != name or not NAME.fullmatch(name) or name in RESERVED,
        "app": not NAME.fullmatch(message["app"]),
        "tier": message["tier"] not in TIERS,
        "deadline_ms": not 1 <= message["deadline_ms"] <= LONGEST_DEADLINE_MS,
        "accepts": not _MEDIA.fullmatch(message["accepts"]),
        "returns": not _MEDIA.fullmatch(message["returns"]),
        "term": not 0 <= message["term"] <= offset,
    }
    for field, is_wrong in wrong.items():
        if is_wrong:
            raise UnusableRecord(f"its {field} is {str(message[field])[:80]!r}")  # type: ignore[literal-required]
