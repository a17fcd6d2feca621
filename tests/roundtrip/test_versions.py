"""Two versions of one app side by side, as in every rolling upgrade: no value is another to either of them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.support.brokers import Kafka
from tests.support.services import START_BOUND, Gateway, Site
from tests.support.waiting import until, wait_until

ROUNDS = 60
"""Calls, each to another partition, in which both versions are sure to run one."""


@dataclass(frozen=True)
class Running:
    """What the tests share."""

    site: Site
    gateway: Gateway


@pytest.fixture(scope="module")
def running(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway, and a processor of each version."""
    with closing(Site(kafka.bootstrap_servers, f"t{uuid.uuid4().hex[:8]}.", tmp_path_factory.mktemp("two"))) as site:
        gateway = site.gateway()
        site.processor("versions_old")
        site.processor("versions_new")
        yield Running(site, gateway)


@pytest_asyncio.fixture
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    """Speaks to the gateway once it writes with the newer schemas."""
    gateway = running.gateway
    wait_until(lambda: gateway.serves("grow"), START_BOUND, "the gateway serves the app")
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:

        async def takes_new_fields() -> bool:
            return (await client.post("/v1/grow", json={"id": 1, "tag": "t"})).status_code == 200

        await until(takes_new_fields, START_BOUND, "the gateway has the newer schemas")
        yield client


async def answers(client: httpx.AsyncClient, operation: str, body: Any) -> dict[str, Any]:
    """What each of the two versions answers."""
    found: dict[str, Any] = {}
    for _ in range(ROUNDS):
        response = await client.post(f"/v1/{operation}", json=body)
        assert response.status_code == 200, response.text
        answer = response.json()
        assert found.setdefault(answer["version"], answer) == answer
        if len(found) == 2:
            return found
    raise AssertionError(f"one of the versions never ran {operation}: {found}")


NEW_FIELDS = (
    "at=datetime.datetime(2026, 1, 31, 8, 30, 0, 123456, tzinfo=datetime.timezone.utc), "
    "hour=datetime.time(8, 30, 0, 1), day=datetime.date(2026, 1, 31), price=Decimal('1.50'), "
    "owner=UUID('00000000-0000-0000-0000-000000000007'), size=<Size.LARGE: 'large'>, note='none', tag='made'"
)


@pytest.mark.parametrize(
    ("operation", "body", "old", "new"),
    [
        (
            "grow",
            {"id": 1, "points": [{"x": 2}]},
            "Growing(id=1, points=[Point(x=2.0)])",
            f"Growing(id=1, points=[Point(x=2.0, y=b'\\xff')], {NEW_FIELDS})",
        ),
        ("shrink", {"id": 1}, "Shrinking(id=1, at=None, price=Decimal('1.50'))", "Shrinking(id=1)"),
        (
            "size",
            {"sizes": ["small", "large", "other"]},
            "Sized(sizes=[<Size.SMALL: 'small'>, <Size.OTHER: 'other'>, <Size.OTHER: 'other'>])",
            "Sized(sizes=[<Size.SMALL: 'small'>, <Size.LARGE: 'large'>, <Size.OTHER: 'other'>])",
        ),
        ("tint", {"tint": "red"}, "Tinted(tint=<Tint.RED: 'red'>)", "Tinted(tint=<Tint.RED: 'red'>)"),
        ("tint", {"tint": "blue"}, "Tinted(tint=<Tint.BLUE: 'blue'>)", "Tinted(tint=<Tint.BLUE: 'blue'>)"),
        *(
            ("number", {"it": given, "all": [given, None, 0.5]}, seen, seen)
            for given, seen in (
                (5, "Numbers(it=5, all=[5, None, 0.5])"),
                (5.0, "Numbers(it=5.0, all=[5.0, None, 0.5])"),
                (2**53 + 1, "Numbers(it=9007199254740993, all=[9007199254740993, None, 0.5])"),
            )
        ),
        ("number", {}, "Numbers(it=1.5, all=[])", "Numbers(it=1.5, all=[])"),
        ("require", {}, "Required(text='text', count=2)", "Required(text='text', count=2)"),
        ("require", {"text": "t", "count": 1}, "Required(text='t', count=1)", "Required(text='t', count=1)"),
        ("move", {"first": "1", "second": "2"}, "Moving(first='1', second='2')", "Moving(second='2', first='1')"),
        ("choose", {"mode": "b"}, "Choosing(mode='b')", "Choosing(mode='b')"),
    ],
    ids=str,
)
async def test_each_version_sees_what_was_asked(
    client: httpx.AsyncClient, operation: str, body: Any, old: str, new: str
) -> None:
    found = await answers(client, operation, body)
    assert (found["old"]["request"], found["new"]["request"]) == (old, new)


async def test_a_call_with_a_field_that_the_old_version_does_not_know_is_run_by_the_new_one(
    client: httpx.AsyncClient,
) -> None:
    async def call(tag: str) -> httpx.Response:
        return await client.post("/v1/grow", json={"id": 1, "tag": tag})

    responses = await asyncio.gather(*(call(f"{index}") for index in range(30)))
    assert [response.status_code for response in responses] == [200] * 30
    for index, response in enumerate(responses):
        assert response.json()["version"] == "new"
        assert f"tag='{index}')" in response.json()["request"]


async def test_each_version_answers_in_its_own_words(client: httpx.AsyncClient) -> None:
    found = await answers(client, "answer", {"text": "t"})
    assert found == {
        "old": {"version": "old", "at": "2026-01-31T08:30:00.123456Z", "size": "other"},
        "new": {"version": "new", "size": "large", "price": "2.50"},
    }


async def test_a_choice_that_a_version_does_not_know_is_refused_by_it(client: httpx.AsyncClient) -> None:
    outcomes = set()
    for _ in range(ROUNDS):
        response = await client.post("/v1/choose", json={"mode": "c"})
        outcomes.add((response.status_code, response.json().get("detail"), response.json().get("request")))
        if len(outcomes) == 2:
            break
    assert outcomes == {(200, None, "Choosing(mode='c')"), (422, "mode: Invalid enum value 'c'", None)}


async def test_a_symbol_that_the_old_version_would_not_know_is_refused_with_the_way_out(
    running: Running, client: httpx.AsyncClient
) -> None:
    refused = running.site.start_processor("versions_refused")
    assert await asyncio.to_thread(refused.exit_code) == 2
    [sentence] = [line for line in refused.output.splitlines() if line.startswith("forebay: ")]
    assert "operation 'tint' does not fit the catalog at field 'request.tint'" in sentence
    assert "green" in sentence
    assert "'_missing_'" in sentence
    assert "declare the operation under another name" in sentence
    response = await client.post("/v1/tint", json={"tint": "green"})
    assert response.status_code == 422
    assert response.json()["field"] == "tint"
