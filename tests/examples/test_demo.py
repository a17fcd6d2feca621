"""The demo's judgement: right answers pass, and each kind of wrong one is noticed."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner, Result

from forebay import Reject
from imaging import checks, demo, pictures
from imaging.client import STAGES, Answer, server_timing, written
from imaging.demo import Conversation, Exchange
from imaging.local import APP_DIR
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
from tests.support.brokers import Kafka
from tests.support.ports import free_ports

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


Spoil = Callable[[str, Any], Any]
"""Changes what an operation gave before it goes back."""


class StandIn(ThreadingHTTPServer):
    """Runs each request's handler where it arrives, and answers as a gateway would."""

    daemon_threads = True

    def __init__(self, spoil: Spoil) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.spoil = spoil
        self.url = f"http://127.0.0.1:{self.server_port}"

    def answer(self, name: str, body: bytes) -> tuple[int, str, bytes]:
        if name not in app.operations:
            return 404, PROBLEM, written({"title": "There is no such operation"})
        operation = app.operations[name]
        try:
            request: Any = msgspec.json.decode(body, type=operation.request.python_type)
            return 200, "application/json", written(self.spoil(name, operation.handler(request)))
        except (msgspec.ValidationError, Reject) as error:
            return 422, PROBLEM, written({"detail": str(error)})


class _Answering(BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        began = time.perf_counter()
        status, content_type, content = self.server.answer(self.path.removeprefix("/v1/"), body)
        run = (time.perf_counter() - began) * 1000
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Forebay-Request-Id", "here-1")
        self.send_header("Server-Timing", f"validate;dur=0, produce;dur=0, queue;dur=0, run;dur={run:.3f}, reply;dur=0")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature is the base's
        pass


@contextmanager
def stand_in(spoil: Spoil = lambda _, result: result) -> Iterator[StandIn]:
    with StandIn(spoil) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the demo's command with these arguments; it writes to ``tmp_path``."""
    command = typer.Typer()
    command.command()(demo.main)
    monkeypatch.setattr(demo, "DPI", 72)
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(command, ["--output", str(tmp_path), *arguments])

    return invoke


def test_every_photograph_is_asked_about_and_the_images_are_kept(run: Callable[..., Result], tmp_path: Path) -> None:
    with stand_in() as gateway:
        outcome = run("--url", gateway.url)

    assert "answers are right" in outcome.output
    assert outcome.exit_code == 0
    for photograph in PHOTOGRAPHS:
        assert outcome.output.count(photograph.name) >= 2
        with Image.open(tmp_path / "thumbnails" / f"{photograph.name}.png") as kept:
            assert kept.width == demo.WIDTH
    with Image.open(tmp_path / "contact-sheet.jpg") as kept:
        assert kept.format == "JPEG"
    assert json.loads((tmp_path / "describe-request.json").read_text())["bins"] == 4


def test_an_answer_that_belongs_to_another_request_fails_the_demo(run: Callable[..., Result]) -> None:
    rocket = thumbnail(ThumbnailRequest(ROCKET, demo.WIDTH))

    with stand_in(lambda operation, result: rocket if operation == "thumbnail" else result) as gateway:
        outcome = run("--url", gateway.url)

    assert outcome.exit_code == 1
    assert "wrong: thumbnail of coffee: the thumbnail" in outcome.output
    assert "wrong: thumbnail of rocket" not in outcome.output
    assert "answers are right" not in outcome.output


def test_a_gateway_that_is_not_there_is_named_with_what_was_seen(run: Callable[..., Result]) -> None:
    with stand_in() as gone:
        pass

    outcome = run("--url", gone.url, "--wait", "0")

    assert outcome.exit_code == 1
    assert f"{gone.url} does not serve the operations: " in outcome.output


def test_a_gateway_that_lacks_an_operation_is_named_with_it(run: Callable[..., Result]) -> None:
    with stand_in() as gateway:
        outcome = run("--url", f"{gateway.url}/other", "--wait", "0")

    assert outcome.exit_code == 1
    assert "thumbnail answers 404, There is no such operation" in outcome.output


def test_a_second_platform_is_not_started_where_one_answers(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    with stand_in() as gateway:
        monkeypatch.setenv("FOREBAY_HTTP_PORT", str(gateway.server_port))
        outcome = run("--up", "--once")

    assert outcome.exit_code == 1
    assert f"something answers at {gateway.url} already" in outcome.output


@pytest.mark.parametrize(
    ("variables", "arguments", "complaint"),
    [
        ({"FOREBAY_HTTP_PORT": "0"}, [], "setting http_port = '0' (FOREBAY_HTTP_PORT)"),
        ({}, ["--up", "--url", "http://127.0.0.1:1"], "not with --up"),
    ],
    ids=["setting", "flags"],
)
def test_a_mistake_in_the_settings_is_one_sentence(
    run: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    arguments: list[str],
    complaint: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    outcome = run(*arguments)

    assert outcome.exit_code == 2
    assert complaint in outcome.output


def test_a_platform_that_does_not_start_is_shown_with_its_last_lines(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("FOREBAY_HTTP_PORT", str(port))
    monkeypatch.setenv("FOREBAY_ADMIN_PORT", str(port))

    outcome = run("--up", "--once")

    assert outcome.exit_code == 1
    assert f"'forebay up' exited with status 2. The end of {tmp_path / 'forebay.log'}:" in outcome.output
    assert "forebay: settings http_port and admin_port are both" in outcome.output
    assert "Traceback" not in outcome.output


def test_the_demo_starts_the_platform_gets_right_answers_and_stops_it(
    kafka: Kafka, namespace: str, tmp_path: Path
) -> None:
    port, admin_port = free_ports(2)
    ports = {"FOREBAY_HTTP_PORT": str(port), "FOREBAY_ADMIN_PORT": str(admin_port)}
    here = {
        "FOREBAY_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "FOREBAY_NAMESPACE": namespace,
        "FOREBAY_INSTANCE": "demo",
        "FOREBAY_DATA_DIR": str(tmp_path),
        "PYTHONPATH": str(APP_DIR),
    }

    ended = subprocess.run(
        [sys.executable, "-m", "imaging.demo", "--up", "--once"],
        cwd=tmp_path,
        env={**os.environ, **ports, **here},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )

    log = (tmp_path / "demo" / "forebay.log").read_text()
    assert ended.returncode == 0, f"{ended.stdout}\n{log}"
    assert "answers are right" in ended.stdout
    assert (tmp_path / "demo" / "contact-sheet.jpg").is_file()
    assert log.rstrip().endswith("stopped")


@pytest.mark.parametrize(("roomy", "width"), [(True, 160), (False, 80), (False, 40)])
def test_the_table_shows_each_answer_with_the_stages_that_fit_in_the_width_there_is(roomy: bool, width: int) -> None:
    exchanges = [
        Exchange("thumbnail", "coffee", answered(THUMBNAIL), came_back="160x107 PNG"),
        Exchange(
            "contact_sheet", "all nine", answered(SHEET, wall_ms=13059.0), came_back="2234x2447 JPEG, 9 photographs"
        ),
        Exchange("describe", "rocket [sic]", answered(DESCRIPTION, status=500, stages={}), wrong="status 500"),
    ]
    console = Console(width=width)

    with console.capture() as captured:
        console.print(demo.table(exchanges, width=width))

    shown = captured.get()
    assert max(map(len, shown.splitlines())) <= width
    for expected in ("160x107 PNG", "rocket [sic]", "16.0", "500", "wrong, see below", "9 photographs", "wall"):
        assert expected in shown
    assert all(stage in shown for stage in STAGES) is (width >= 80)
    assert ("here-1" in shown) is roomy


def test_thumbnails_that_passed_the_sheet_are_counted() -> None:
    sheet = Exchange("contact_sheet", "all", answered(SHEET, sent_at=10.0, wall_ms=2000.0), came_back="a sheet")
    before = Exchange("thumbnail", "before it started", answered(THUMBNAIL, sent_at=10.0), came_back="small")
    meanwhile = Exchange("thumbnail", "meanwhile", answered(THUMBNAIL, sent_at=11.0, wall_ms=30.0), came_back="small")
    after = Exchange("thumbnail", "after it", answered(THUMBNAIL, sent_at=11.99, wall_ms=30.0), came_back="small")

    assert demo.passing(Conversation([before, meanwhile, sheet], [after])).startswith("1 thumbnails came and went")
    assert demo.passing(Conversation([before, sheet], [after])).startswith("No thumbnail came and went")
