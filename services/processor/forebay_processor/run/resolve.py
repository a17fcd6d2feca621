"""Which operation a job is for, and which schema wrote its payload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from forebay.app import Operation
from forebay.codec import Schema, SchemaSet
from forebay.errors import CodecError
from forebay.messages import JobMessage
from forebay.unknown_fields import UnknownFields


class KnownOperation(Protocol):
    """What the catalog knows of an operation."""

    @property
    def requests(self) -> SchemaSet | None:
        """The schemas of its requests; None for opaque bytes."""


class KnownOperations(Protocol):
    """What the catalog knows."""

    @property
    def entries(self) -> Mapping[str, KnownOperation]:
        """The operations that exist, by name."""


@dataclass(slots=True, frozen=True)
class Resolved:
    """What it takes to run a job.

    Attributes:
        operation: as the app declares it.
        writer: the schema that wrote the payload; None where it is the operation's own, or there is none.
    """

    operation: Operation
    writer: Schema | None


class Resolver:
    """Finds out what a job needs.

    Args:
        operations: of the app, by name.
        catalog: knows the schemas that payloads were written with.
    """

    def __init__(self, operations: Mapping[str, Operation], catalog: KnownOperations) -> None:
        self._own = {name: Resolved(operation, None) for name, operation in operations.items()}
        self._catalog = catalog
        self._unknown_fields: dict[tuple[str, str], UnknownFields] = {}

    def resolve(self, job: JobMessage) -> Resolved | None:
        """Return what it takes to run a job.

        Returns:
            None where this version of the app does not know the operation, or a field that the job has a value for, or
            not yet the schema: another processor may, or this one in a moment.

        Raises:
            CodecError: the job can never run.
        """
        own = self._own.get(job["operation"])
        if own is None:
            return None
        schema, fingerprint = own.operation.request.schema, job["payload_schema"]
        if (schema.fingerprint if schema else None) == fingerprint:
            return own
        if schema is None or fingerprint is None:
            raise CodecError(f"operation '{own.operation.name}' and its payload disagree on whether there is a schema")
        entry = self._catalog.entries.get(own.operation.name)
        if entry is None or entry.requests is None or not entry.requests.has_writer(fingerprint):
            return None
        writer = entry.requests.writer(fingerprint)
        unknown = self._unknown_fields.get((own.operation.name, writer.text))
        if unknown is None:
            unknown = self._unknown_fields[own.operation.name, writer.text] = UnknownFields(writer, schema)
        return None if unknown.find(job["payload"]) is not None else Resolved(own.operation, writer)
