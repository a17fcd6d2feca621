"""JSON and opaque bytes through the whole trip: HTTP, Avro, Kafka, the handler's own types, and back."""

from __future__ import annotations

import base64
import copy
import os
from typing import Any

import httpx
import pytest

BLOB = bytes(range(256))
EVERYTHING: dict[str, Any] = {
    "integer": -(2**63),
    "number": 0.1,
    "text": 'naïve ☃ \U0001f9ea \\ " \u0000',
    "flag": True,
    "blob": base64.b64encode(BLOB).decode(),
    "colour": "RED",
    "point": {"x": 1.5},
    "points": [{"x": 1, "y": 2}, {"x": -0.5, "y": 1e300}],
    "counts": {"one": 1, "": 0, "dotted.key": 2},
    "day": "2026-01-31",
    "moment": "23:59:59.999",
    "instant": "2026-01-31T08:30:00.125+05:45",
    "identity": "6FA459EA-EE8A-3CA4-894E-DB77E160355E",
    "amount": 1234567.89,
    "either": "7",
    "number_or_points": [{"x": 3}],
}
ANSWER = EVERYTHING | {
    "point": {"x": 1.5, "y": 0.0},
    "points": [{"x": 1.0, "y": 2.0}, {"x": -0.5, "y": 1e300}],
    "moment": "23:59:59.999000",
    "instant": "2026-01-31T02:45:00.125000Z",
    "identity": "6fa459ea-ee8a-3ca4-894e-db77e160355e",
    "amount": "1234567.89",
    "number_or_points": [{"x": 3.0, "y": 0.0}],
    "nickname": None,
    "favourite": "BLUE",
    "place": None,
    "retries": 7,
    "tags": [],
}


async def test_every_type_makes_the_trip(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/echo", json=EVERYTHING)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.json() == ANSWER


@pytest.mark.parametrize(
    ("field", "given", "answered"),
    [
        ("integer", 2**63 - 1, 2**63 - 1),
        ("number", 5, 5.0),
        ("number", 1.7976931348623157e308, 1.7976931348623157e308),
        ("number", -5e-324, -5e-324),
        ("text", "", ""),
        ("blob", "", ""),
        ("points", [], []),
        ("counts", {}, {}),
        ("day", "0001-01-01", "0001-01-01"),
        ("day", "9999-12-31", "9999-12-31"),
        ("moment", "00:00:00", "00:00:00"),
        ("instant", "1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999000Z"),
        ("instant", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("instant", "9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999000Z"),
        ("amount", "-9999999.99", "-9999999.99"),
        ("amount", 0, "0.00"),
        ("either", 7, 7),
        ("either", False, False),
        ("number_or_points", 2, 2.0),
        ("nickname", "Kim", "Kim"),
        ("nickname", None, None),
        ("favourite", "RED", "RED"),
        ("place", {"x": 1, "y": 2}, {"x": 1.0, "y": 2.0}),
        ("retries", 0, 0),
        ("tags", ["a", "b"], ["a", "b"]),
    ],
)
async def test_the_edges_of_each_type_make_the_trip(
    client: httpx.AsyncClient, field: str, given: Any, answered: Any
) -> None:
    response = await client.post("/v1/echo", json=EVERYTHING | {field: given})
    assert response.status_code == 200, response.text
    assert response.json()[field] == answered
    assert type(response.json()[field]) is type(answered)


@pytest.mark.parametrize(
    ("field", "given", "path"),
    [
        ("integer", 2**63, "integer"),
        ("integer", 1.5, "integer"),
        ("integer", "1", "integer"),
        ("number", "much", "number"),
        ("text", 1, "text"),
        ("flag", 0, "flag"),
        ("blob", "not base64!", "blob"),
        ("colour", "GREEN", "colour"),
        ("point", {"y": 1}, "point.x"),
        ("point", {"x": 1, "z": 1}, "point.z"),
        ("points", [{"x": 1}, {"x": "far"}], "points[1].x"),
        ("counts", {"one": 1, "two": "2"}, "counts.two"),
        ("day", "2026-02-30", "day"),
        ("moment", "25:00:00", "moment"),
        ("instant", "2026-01-31T08:30:00", "instant"),
        ("identity", "6fa459ea", "identity"),
        ("amount", "1.005", "amount"),
        ("amount", 10_000_000, "amount"),
        ("either", 1.5, "either"),
        ("place", {"x": None}, "place.x"),
        ("colour_", "RED", "colour_"),
    ],
)
async def test_what_does_not_fit_is_refused_by_the_path_of_its_field(
    client: httpx.AsyncClient, field: str, given: Any, path: str
) -> None:
    response = await client.post("/v1/echo", json=EVERYTHING | {field: given})
    assert response.status_code == 422, response.text
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["type"] == "urn:forebay:problem:invalid"
    assert problem["field"] == path
    assert problem["detail"].startswith(f"{path}: ")


async def test_a_missing_field_is_named(client: httpx.AsyncClient) -> None:
    body = copy.deepcopy(EVERYTHING)
    del body["identity"]
    response = await client.post("/v1/echo", json=body)
    assert response.status_code == 422
    assert response.json()["field"] == "identity"
    assert response.json()["detail"] == "identity: required field is missing"


@pytest.mark.parametrize("body", [b"", b"{", b'{"a":}', b"\xff", b"{} {}", b"nul", b'{"text": "\xff"}'])
async def test_what_is_not_json_is_malformed(client: httpx.AsyncClient, body: bytes) -> None:
    response = await client.post("/v1/echo", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "urn:forebay:problem:malformed"


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"{}"', b"[" * 10_000 + b"]" * 10_000])
async def test_json_that_is_no_object_does_not_fit(client: httpx.AsyncClient, body: bytes) -> None:
    response = await client.post("/v1/echo", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 422, response.text
    assert response.json()["type"] == "urn:forebay:problem:invalid"


@pytest.mark.parametrize("body", [b'{"text": "\\ud800"}', b'{"integer": 1e400}', b'{"amount": 1e999999999999}'])
async def test_strange_values_are_the_callers_mistake(client: httpx.AsyncClient, body: bytes) -> None:
    response = await client.post("/v1/echo", content=body, headers={"content-type": "application/json"})
    assert response.status_code in (400, 422), response.text
    assert response.headers["content-type"] == "application/problem+json"


async def test_opaque_bytes_make_the_trip_as_they_are(client: httpx.AsyncClient) -> None:
    body = os.urandom(300_000)
    response = await client.post("/v1/turn_round", content=body, headers={"content-type": "image/tiff; page=2"})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-reversed"
    assert response.content == body[::-1]


async def test_no_bytes_at_all_make_the_trip(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/turn_round", content=b"", headers={"content-type": "image/png"})
    assert response.status_code == 200, response.text
    assert response.content == b""


async def test_a_body_of_the_greatest_size_makes_the_trip(client: httpx.AsyncClient) -> None:
    body = bytes(900_000)
    response = await client.post("/v1/turn_round", content=body, headers={"content-type": "image/png"})
    assert response.status_code == 200, response.text
    assert len(response.content) == len(body)
