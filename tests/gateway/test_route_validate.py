"""Which operation a request is for, and whether it fits: every refusal comes before anything is produced."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.catalog import CatalogEntry
from forebay.codec import Schema
from forebay.errors import InvalidSchema
from forebay.messages import OperationMessage
from forebay_gateway.http import Request
from forebay_gateway.problems import HttpProblem
from forebay_gateway.route import Route, Router
from forebay_gateway.validate import ValidRequest, validate
from tests.gateway.requests import NoChannel, a_request

REQUEST = json.dumps(
    {
        "type": "record",
        "name": "Thumbnail",
        "fields": [
            {"name": "width", "type": "int", "default": 160},
            {
                "name": "points",
                "type": {
                    "type": "array",
                    "items": {"type": "record", "name": "Point", "fields": [{"name": "x", "type": "double"}]},
                },
            },
        ],
    }
)
OLDER_REQUEST = json.dumps({**json.loads(REQUEST), "fields": json.loads(REQUEST)["fields"][1:]})
MAX = 1000
GOOD = b'{"points": [{"x": 1.5}]}'


def operation(name: str = "thumbnail", **more: Any) -> OperationMessage:
    message = OperationMessage(
        name=name,
        app="imaging",
        description="",
        tier="interactive",
        deadline_ms=2500,
        accepts="application/json",
        returns="application/json",
        request_schemas=[REQUEST, OLDER_REQUEST],
        result_schemas=[REQUEST],
        announced_at=0,
        announced_by="p",
        term=0,
    )
    message.update(more)  # type: ignore[typeddict-item]
    return message


def entry(name: str = "thumbnail", **more: Any) -> CatalogEntry:
    return CatalogEntry.of(operation(name, **more))


@pytest.fixture
def router() -> Router:
    router = Router("shop.")
    router.update("thumbnail", entry())
    return router


def find(router: Router, path: str, method: str = "POST") -> Route:
    return router.find(method, path)


def refused(router: Router, path: str, method: str = "POST") -> HttpProblem:
    with pytest.raises(HttpProblem) as caught:
        find(router, path, method)
    return caught.value


def test_a_route_holds_what_the_catalog_says(router: Router) -> None:
    route = find(router, "/v1/thumbnail")
    assert (route.operation, route.path) == ("thumbnail", "/v1/thumbnail")
    assert (route.tier, route.topic, route.deadline) == ("interactive", "shop.jobs.imaging.interactive", 2.5)
    assert route.request is not None
    assert route.request.fingerprint == Schema(REQUEST).fingerprint


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/", "/v1/unknown", "/thumbnail", "/v1/thumbnail/", "/v2/thumbnail", "/v1/Thumbnail", ""]
)
def test_what_is_not_served_is_404(router: Router, path: str) -> None:
    problem = refused(router, path)
    assert (problem.status, problem.kind) == (404, "unknown-operation")
    assert path in str(problem)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_another_method_is_405_and_says_which_is_allowed(router: Router, method: str) -> None:
    problem = refused(router, "/v1/thumbnail", method)
    assert problem.status == 405
    assert list(problem.headers) == [(b"allow", b"POST")]
    assert refused(router, "/v1/unknown", method).status == 404


def test_a_change_of_the_catalog_changes_the_routes(router: Router) -> None:
    assert refused(router, "/v1/rotate").status == 404
    router.update("rotate", entry("rotate"))
    router.update("thumbnail", entry(tier="bulk"))
    assert find(router, "/v1/rotate").operation == "rotate"
    assert find(router, "/v1/thumbnail").topic == "shop.jobs.imaging.bulk"
    router.update("rotate", None)
    router.update("never-there", None)
    assert refused(router, "/v1/rotate").status == 404


def test_an_operation_that_cannot_be_served_leaves_the_routes_as_they_are(router: Router) -> None:
    two_of_a_kind = '{"type": "record", "name": "R", "fields": [{"name": "a", "type": ["int", "int"]}]}'
    before = find(router, "/v1/thumbnail")
    with pytest.raises(InvalidSchema):
        router.update("thumbnail", entry(request_schemas=[two_of_a_kind]))
    assert find(router, "/v1/thumbnail") is before


@pytest.fixture
def route(router: Router) -> Route:
    return find(router, "/v1/thumbnail")


@pytest.fixture
def opaque(router: Router) -> Route:
    router.update("convert", entry("convert", accepts="image/png", request_schemas=[]))
    return find(router, "/v1/convert")


async def refusal(route: Route, request: Request) -> HttpProblem:
    with pytest.raises(HttpProblem) as caught:
        await validate(route, request)
    return caught.value


def as_json(body: bytes, coding: bytes = b"identity") -> Request:
    return a_request(body, content_type=b"application/json", content_encoding=coding, max_body=MAX)


async def test_json_becomes_the_payload_of_the_newest_schema(route: Route) -> None:
    valid = await validate(route, as_json(GOOD))
    newest = Schema(REQUEST)
    assert (valid.content_type, valid.payload_schema) == ("application/json", newest.fingerprint)
    assert newest.decode_body(valid.payload) == {"width": 160, "points": [{"x": 1.5}]}
    assert valid.body_size == len(GOOD)


async def test_opaque_bytes_stay_as_they_are(opaque: Route) -> None:
    valid = await validate(opaque, a_request(b"\x89PNG\x00", content_type=b"image/png"))
    assert valid == ValidRequest("image/png", b"\x89PNG\x00", None, 5)


@pytest.mark.parametrize("size", [MAX + 1, 10**12])
async def test_a_body_that_is_announced_as_too_large_is_refused_before_any_of_it_is_read(
    route: Route, size: int
) -> None:
    channel = NoChannel()
    request = a_request(
        content_type=b"application/json",
        content_length=b"%d" % size,
        expect=b"100-continue",
        max_body=MAX,
        channel=channel,
        complete=False,
    )
    problem = await refusal(route, request)
    assert problem.status == 413
    assert json.loads(problem.body())["max_size"] == MAX
    assert str(size) in str(problem)
    assert channel.continues == 0


async def test_a_body_may_be_as_large_as_is_allowed(opaque: Route) -> None:
    request = a_request(b"x" * MAX, content_type=b"image/png", content_length=b"%d" % MAX, max_body=MAX)
    assert len((await validate(opaque, request)).payload) == MAX


@pytest.mark.parametrize("chunks", [[MAX + 1], [MAX, 1], [1, MAX], [0, MAX + 1], [300] * 10])
async def test_a_body_in_chunks_is_refused_as_soon_as_it_is_too_large(opaque: Route, chunks: list[int]) -> None:
    needed = next(count for count in range(1, len(chunks) + 1) if sum(chunks[:count]) > MAX)
    request = a_request(
        *(b"x" * size for size in chunks[:needed]), content_type=b"image/png", max_body=MAX, complete=False
    )
    assert (await refusal(opaque, request)).status == 413


@given(st.lists(st.binary(max_size=300), max_size=6))
async def test_chunks_are_put_together_in_order(chunks: list[bytes]) -> None:
    opaque = Route("convert", "/v1/convert", "bulk", "jobs", 1.0, "*/*", None, {})
    whole = b"".join(chunks)
    if len(whole) <= MAX:
        assert (await validate(opaque, a_request(*chunks, max_body=MAX))).payload == whole
    else:
        assert (await refusal(opaque, a_request(*chunks, max_body=MAX))).status == 413


@pytest.mark.parametrize("coding", [b"gzip", b"GZIP", b"gzip, br", b"deflate", b"identity, gzip"])
async def test_a_content_coding_is_415_and_says_what_is_taken(route: Route, coding: bytes) -> None:
    problem = await refusal(route, as_json(GOOD, coding))
    assert (problem.status, problem.kind) == (415, "unsupported-content-coding")
    assert list(problem.headers) == [(b"accept-encoding", b"identity")]


@pytest.mark.parametrize("coding", [b"identity", b" Identity ", b""])
async def test_no_content_coding_by_any_name_is_taken(route: Route, coding: bytes) -> None:
    assert (await validate(route, as_json(GOOD, coding))).payload_schema is not None


@pytest.mark.parametrize(
    "found", [b"text/plain", b"application/x-www-form-urlencoded", b"application/jsonp", b"json", b""]
)
async def test_another_media_type_is_415_before_the_body_is_read(route: Route, found: bytes) -> None:
    problem = await refusal(route, a_request(content_type=found, complete=False))
    assert problem.status == 415
    assert (b"accept", b"application/json") in list(problem.headers)


async def test_a_request_without_a_media_type_is_415(route: Route) -> None:
    problem = await refusal(route, a_request(GOOD))
    assert problem.status == 415
    assert "without Content-Type" in str(problem)


@pytest.mark.parametrize(
    "given", [b"application/json", b"Application/JSON", b"application/json; charset=utf-8", b"application/json ;v=1"]
)
async def test_case_and_parameters_of_a_media_type_do_not_matter(route: Route, given: bytes) -> None:
    assert (await validate(route, a_request(GOOD, content_type=given))).payload_schema is not None


@pytest.mark.parametrize(
    ("accepts", "found", "taken"),
    [
        ("image/*", b"image/png", True),
        ("image/*", b"IMAGE/PNG; q=1", True),
        ("image/*", b"imagery/png", False),
        ("image/*", b"image", False),
        ("image/*", b"text/image", False),
        ("image/*", b"", False),
        ("*/*", b"anything/at-all", True),
        ("*/*", b"", True),
        ("image/png", b"image/*", False),
        ("image/png", b"*/*", False),
        ("image/png", b"image/png2", False),
    ],
)
async def test_a_range_takes_the_media_types_within_it(opaque: Route, accepts: str, found: bytes, taken: bool) -> None:
    route = replace(opaque, accepts=accepts)
    if taken:
        assert (await validate(route, a_request(b"x", content_type=found))).content_type == found.decode()
    else:
        assert (await refusal(route, a_request(b"x", content_type=found))).status == 415


@pytest.mark.parametrize("body", [b"", b"   ", b"{", b'{"points": [', b"nonsense", b"\xff\xfe", b'{"points": []} x'])
async def test_a_body_that_is_not_json_is_400(route: Route, body: bytes) -> None:
    problem = await refusal(route, as_json(body))
    assert (problem.status, problem.kind) == (400, "malformed")
    assert str(problem).startswith("the body is not JSON: ")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{}", "points"),
        (b'{"points": 3}', "points"),
        (b'{"points": [{"x": 1}, {"x": "far"}]}', "points[1].x"),
        (b'{"points": [{}]}', "points[0].x"),
        (b'{"points": [], "width": 1.5}', "width"),
        (b'{"points": [], "width": 99999999999}', "width"),
        (b'{"points": [], "height": 3}', "height"),
        (b"[]", ""),
        (b"null", ""),
    ],
)
async def test_a_body_that_does_not_fit_is_422_and_names_the_field(route: Route, body: bytes, field: str) -> None:
    problem = await refusal(route, as_json(body))
    told = json.loads(problem.body())
    assert (problem.status, told["type"], told["field"]) == (422, "urn:forebay:problem:invalid", field)
    assert told["detail"].startswith(f"{field}: " if field else "")


@given(st.binary(max_size=200))
async def test_whatever_the_body_is_it_is_taken_or_refused(data: bytes) -> None:
    router = Router("shop.")
    router.update("thumbnail", entry())
    try:
        await validate(find(router, "/v1/thumbnail"), as_json(data))
    except HttpProblem as problem:
        status = problem.status
    else:
        status = 200
    assert status in (200, 400, 422)
