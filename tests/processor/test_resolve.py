"""Which jobs a version of an app can run, and which it leaves to another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, make_dataclass
from typing import Any

import pytest

from forebay import Forebay
from forebay.app import Operation
from forebay.codec import SchemaSet
from forebay.errors import CodecError
from forebay.messages import JobMessage
from forebay_gateway.payloads import PayloadCodec
from forebay_processor.run.resolve import KnownOperation, Resolver


def declared(**fields: Any) -> Operation:
    """An operation whose request has these fields, each with its default."""
    app = Forebay("shop")

    async def place(_request: Any) -> bytes:
        return b""

    kind = make_dataclass("Order", [("id", int), *((name, type(value), value) for name, value in fields.items())])
    place.__annotations__ = {"_request": kind, "return": bytes}
    app.operation()(place)
    return app.operations["place"]


OLD, NEW = declared(), declared(note="")


@dataclass
class Known:
    requests: SchemaSet | None


class Catalog:
    """Has what processors announced."""

    def __init__(self, *operations: Operation) -> None:
        newest, *older = [operation.request.schema for operation in operations if operation.request.schema]
        self.entries: Mapping[str, KnownOperation] = {"place": Known(SchemaSet(newest, older))}


def job(writer: Operation, body: Any, operation: str = "place") -> JobMessage:
    """A job as a gateway that has this version's schema writes it."""
    assert writer.request.schema is not None
    codec = PayloadCodec(writer.request.schema.text)
    payload = codec.encode(json.dumps(body).encode())
    return {"operation": operation, "payload": payload, "payload_schema": codec.fingerprint}  # type: ignore[typeddict-item]


RESOLVER = Resolver({"place": OLD}, Catalog(NEW, OLD))


def test_a_job_of_the_same_version_is_run() -> None:
    resolved = RESOLVER.resolve(job(OLD, {"id": 1}))
    assert resolved is not None
    assert (resolved.operation, resolved.writer) == (OLD, None)


def test_a_job_of_a_newer_version_is_run_where_nothing_of_it_is_lost() -> None:
    for body in ({"id": 1}, {"id": 1, "note": ""}):
        resolved = RESOLVER.resolve(job(NEW, body))
        assert resolved is not None
        assert resolved.writer is not None
        assert resolved.operation.request.decode(job(NEW, body)["payload"], resolved.writer).id == 1


def test_a_job_of_a_newer_version_is_left_to_it_where_a_value_would_be_lost() -> None:
    assert RESOLVER.resolve(job(NEW, {"id": 1, "note": "fragile"})) is None


def test_a_job_of_an_older_version_is_run() -> None:
    resolved = Resolver({"place": NEW}, Catalog(NEW, OLD)).resolve(job(OLD, {"id": 1}))
    assert resolved is not None
    assert resolved.operation.request.decode(job(OLD, {"id": 1})["payload"], resolved.writer).note == ""


def test_an_unknown_operation_or_schema_is_left_to_others() -> None:
    assert RESOLVER.resolve(job(OLD, {"id": 1}, "other")) is None
    assert Resolver({"place": OLD}, Catalog(OLD)).resolve(job(NEW, {"id": 1})) is None


def test_a_payload_that_nobody_can_read_is_told() -> None:
    broken: Any = {**job(NEW, {"id": 1}), "payload": b"\xff"}
    with pytest.raises(CodecError):
        RESOLVER.resolve(broken)
    opaque: Any = {**job(NEW, {"id": 1}), "payload_schema": None}
    with pytest.raises(CodecError, match="disagree on whether there is a schema"):
        RESOLVER.resolve(opaque)
