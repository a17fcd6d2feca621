"""The demo's judgement: right answers pass, and each kind of wrong one is noticed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from PIL import Image
from rich.console import Console

from forebay import Reject
from imaging import checks, demo, pictures
from imaging.client import STAGES, Answer, server_timing, written
from imaging.demo import Exchange
from imaging.operations import (
    Captioned,
    ContactSheet,
    ContactSheetRequest,
    DescribeRequest,
    Description,
    Thumbnail,
    ThumbnailRequest,
    app,
    contact_sheet,
    describe,
    thumbnail,
)
from imaging.photographs import PHOTOGRAPHS
from imaging.pictures import Format

COFFEE = next(photograph for photograph in PHOTOGRAPHS if photograph.name == "coffee").read()
ROCKET = next(photograph for photograph in PHOTOGRAPHS if photograph.name == "rocket").read()

THUMBNAIL = thumbnail(ThumbnailRequest(COFFEE, 160))
DESCRIPTION = describe(DescribeRequest(COFFEE, 16))
SHEET = contact_sheet(ContactSheetRequest([Captioned(COFFEE), Captioned(ROCKET)], columns=2, dpi=72))

SERVER_TIMING = "validate;dur=1, produce;dur=2, queue;dur=3, run;dur=4, reply;dur=5"
PROBLEM = "application/problem+json"


def answered(result: object, **changes: Any) -> Answer:
    answer = Answer(
        status=200,
        content_type="application/json",
        body=written(result),
        request_id="here-1",
        stages=server_timing(SERVER_TIMING),
        wall_ms=16.0,
    )
    return dataclasses.replace(answer, **changes)


def smaller() -> Thumbnail:
    small = pictures.reduce(pictures.decode(COFFEE), 159, 2048)
    return Thumbnail(pictures.encode(small, Format.PNG), Format.PNG, small.width, small.height)


def with_histogram(change: Callable[[list[int]], list[int]]) -> Description:
    first, *others = DESCRIPTION.channels
    changed = dataclasses.replace(first, histogram=change(first.histogram))
    return dataclasses.replace(DESCRIPTION, channels=[changed, *others])


def test_right_answers_pass_and_say_what_came_back() -> None:
    assert checks.thumbnail(answered(THUMBNAIL), COFFEE, 160)[0] == "160x107 PNG"
    assert checks.description(answered(DESCRIPTION), COFFEE, 16)[0].startswith("600x400 RGB, sharpness ")
    assert checks.contact_sheet(answered(SHEET), [COFFEE, ROCKET], 2, 72)[0].endswith("JPEG, 2 photographs")
    checks.stages(answered(THUMBNAIL))


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (answered(smaller()), "has 159x106 pixels, not 160x107"),
        (answered(dataclasses.replace(THUMBNAIL, height=108)), "says 160x108 PNG, but is 160x107 PNG"),
        (answered(dataclasses.replace(THUMBNAIL, format=Format.JPEG)), "says 160x107 JPEG, but is 160x107 PNG"),
        (answered(dataclasses.replace(THUMBNAIL, image=THUMBNAIL.image[:500])), "does not decode"),
        (answered(thumbnail(ThumbnailRequest(ROCKET, 160))), "does not look like its photograph"),
        (answered({"width": 160, "height": 107}), "it is no Thumbnail: .*`image`"),
        (answered({**json.loads(written(THUMBNAIL)), "image": "%"}), r"it is no Thumbnail: .*\$.image"),
        (answered(THUMBNAIL, body=b"<html>"), "it is no Thumbnail"),
        (answered(THUMBNAIL, request_id=""), "no Forebay-Request-Id"),
        (answered({"detail": "too busy"}, status=503, content_type=PROBLEM), "status 503 in place of 200: too busy"),
    ],
    ids=[
        "size",
        "said size",
        "format",
        "cut off",
        "other photograph",
        "missing",
        "base64",
        "no JSON",
        "no id",
        "status",
    ],
)
def test_a_wrong_thumbnail_is_noticed(answer: Answer, wrong: str) -> None:
    with pytest.raises(checks.WrongAnswer, match=wrong):
        checks.thumbnail(answer, COFFEE, 160)


@pytest.mark.parametrize(
    ("description", "wrong"),
    [
        (dataclasses.replace(DESCRIPTION, width=599), "says 599x400 RGB PNG, but the photograph is 600x400 RGB PNG"),
        (dataclasses.replace(DESCRIPTION, channels=DESCRIPTION.channels[:2]), "2 channels, but the photograph has 3"),
        (with_histogram(lambda counts: [counts[0] + 1, *counts[1:]]), "sums to 240001, but there are 240000 pixels"),
        (with_histogram(lambda counts: [*counts[1:], counts[0]]), "histogram is not that of the photograph"),
        (dataclasses.replace(DESCRIPTION, sharpness=0.0), "sharpness of 0.0"),
    ],
    ids=["size", "channels", "sum", "shifted", "sharpness"],
)
def test_a_wrong_description_is_noticed(description: Description, wrong: str) -> None:
    with pytest.raises(checks.WrongAnswer, match=wrong):
        checks.description(answered(description), COFFEE, 16)


@pytest.mark.parametrize(
    ("sheet", "photographs", "wrong"),
    [
        (SHEET, [COFFEE, ROCKET, COFFEE], "the sheet has .* pixels, not"),
        (dataclasses.replace(SHEET, width=1), [COFFEE, ROCKET], "it says 1x"),
        (SHEET, [ROCKET, COFFEE], "photograph 1 on the sheet does not look like its photograph"),
        (SHEET, [COFFEE, COFFEE], "photograph 2 on the sheet does not look like its photograph"),
        (dataclasses.replace(SHEET, image=b""), [COFFEE, ROCKET], "the sheet does not decode"),
    ],
    ids=["size", "said size", "swapped", "other photograph", "empty"],
)
def test_a_wrong_contact_sheet_is_noticed(sheet: ContactSheet, photographs: list[bytes], wrong: str) -> None:
    with pytest.raises(checks.WrongAnswer, match=wrong):
        checks.contact_sheet(answered(sheet), photographs, 2, 72)


@pytest.mark.parametrize(
    ("header", "wall_ms", "wrong"),
    [
        ("", 16.0, "lacks validate, produce, queue, run, reply"),
        (SERVER_TIMING.replace("queue", "wait"), 16.0, "lacks queue"),
        (SERVER_TIMING.replace("dur=3", "dur=-3"), 16.0, "less than 0 ms for queue"),
        (SERVER_TIMING, 10.0, "sum to 15.0 ms, more than the 10.0 ms"),
        (SERVER_TIMING, 3000.0, "account for only 15.0 of 3000.0 ms"),
    ],
    ids=["no header", "one stage less", "negative", "too much", "too little"],
)
def test_stages_that_do_not_add_up_are_noticed(header: str, wall_ms: float, wrong: str) -> None:
    with pytest.raises(checks.WrongAnswer, match=wrong):
        checks.stages(answered(THUMBNAIL, stages=server_timing(header), wall_ms=wall_ms))


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (answered(THUMBNAIL), "refused with 422, not answered with 200"),
        (answered({"detail": "width"}, status=500, content_type=PROBLEM), "not answered with 500"),
        (answered({"detail": "width"}, status=422), "no application/problem"),
        (answered({"detail": "something is wrong"}, status=422, content_type=PROBLEM), "does not mention 'width'"),
    ],
    ids=["accepted", "other status", "no problem", "no field"],
)
def test_a_wrong_refusal_is_noticed(answer: Answer, wrong: str) -> None:
    with pytest.raises(checks.WrongAnswer, match=wrong):
        checks.refused(answer, 422, "width")


@pytest.mark.parametrize(
    ("header", "stages"),
    [
        ("run;dur=1.5", {"run": 1.5}),
        ('a;desc="x";dur=1 , b; dur="2",c', {"a": 1.0, "b": 2.0}),
        ("a;dur=soon,b;dur=3", {"b": 3.0}),
        ("", {}),
    ],
)
def test_server_timing_is_read_as_its_standard_says(header: str, stages: dict[str, float]) -> None:
    assert server_timing(header) == stages


class InPlace(httpx.AsyncBaseTransport):
    """Runs each request's handler where it stands and answers as a gateway would; ``spoil`` changes what comes back."""

    def __init__(self, spoil: Callable[[str, Any], Any] = lambda _, result: result) -> None:
        self._spoil = spoil

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        operation = app.operations[request.url.path.removeprefix("/v1/")]
        headers = {"Server-Timing": ", ".join(f"{stage};dur=0" for stage in STAGES), "Forebay-Request-Id": "here-1"}
        try:
            asked: Any = msgspec.json.decode(request.content, type=operation.request.python_type)
            result = operation.handler(asked)
        except (msgspec.ValidationError, Reject) as error:
            problem = json.dumps({"detail": str(error)})
            return httpx.Response(422, content=problem, headers={**headers, "Content-Type": PROBLEM})
        spoilt = written(self._spoil(operation.name, result))
        return httpx.Response(200, content=spoilt, headers={**headers, "Content-Type": "application/json"})


async def conversation(transport: InPlace, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Exchange]:
    monkeypatch.setattr(demo, "DPI", 72)
    # Handlers run where the clock should only see waiting, so nothing is accounted for here.
    monkeypatch.setattr(checks, "UNACCOUNTED_MS", float("inf"))
    async with httpx.AsyncClient(base_url="http://here", transport=transport) as client:
        return await demo.converse(client, folder)


async def test_every_photograph_is_asked_about_and_the_images_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchanges = await conversation(InPlace(), tmp_path, monkeypatch)

    assert [each.wrong for each in exchanges if each.wrong] == []
    assert len(exchanges) == 2 * len(PHOTOGRAPHS) + 3
    assert [each.answer.status for each in exchanges if each.subject.startswith("width")] == [422, 422]
    for photograph in PHOTOGRAPHS:
        with Image.open(tmp_path / "thumbnails" / f"{photograph.name}.png") as kept:
            assert kept.width == demo.WIDTH
    with Image.open(tmp_path / "contact-sheet.jpg") as kept:
        assert kept.format == "JPEG"
    assert json.loads((tmp_path / "describe-request.json").read_text())["bins"] == 4


async def test_an_answer_that_belongs_to_another_request_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rocket = thumbnail(ThumbnailRequest(ROCKET, demo.WIDTH))
    spoilt = InPlace(lambda operation, result: rocket if operation == "thumbnail" else result)

    exchanges = await conversation(spoilt, tmp_path, monkeypatch)

    right = [each.subject for each in exchanges if each.operation == "thumbnail" and not each.wrong]
    assert right == ["rocket", 'width "wide"', "width 100000"]


@pytest.mark.parametrize("roomy", [True, False])
def test_the_table_shows_each_answer_with_its_stages_and_its_request_id(roomy: bool) -> None:
    exchanges = [
        Exchange("thumbnail", "coffee", answered(THUMBNAIL), came_back="160x107 PNG"),
        Exchange("describe", "rocket", answered(DESCRIPTION, status=500, stages={}), wrong="status 500 [sic]"),
    ]
    console = Console(width=180 if roomy else 120)

    with console.capture() as captured:
        console.print(demo.table(exchanges, roomy=roomy))

    shown = captured.get()
    for expected in ("160x107 PNG", "here-1", "16.0", "status 500 [sic]", *STAGES):
        assert expected in shown


def test_short_work_that_passed_the_sheet_is_counted() -> None:
    long = answered(SHEET, sent_at=10.0, wall_ms=2000.0)
    exchanges = [
        Exchange("contact_sheet", "all", long, came_back="a sheet"),
        Exchange("thumbnail", "before it started", answered(THUMBNAIL, sent_at=10.0), came_back="small"),
        Exchange("thumbnail", "meanwhile", answered(THUMBNAIL, sent_at=11.0, wall_ms=30.0), came_back="small"),
        Exchange("thumbnail", "after it", answered(THUMBNAIL, sent_at=11.99, wall_ms=30.0), came_back="small"),
    ]

    assert demo.passing(exchanges).startswith("1 of 3 shorter requests came and went")
    assert "Nothing" in demo.passing(exchanges[:2])
