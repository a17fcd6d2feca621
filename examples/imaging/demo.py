"""Real requests to a running Forebay, every answer checked: ``python -m imaging.demo``.

With ``--up`` it starts ``forebay up imaging:app`` itself, and stops it in the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import shlex
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import httpx
import typer
from rich.box import HEAVY_HEAD, SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from forebay.errors import ConfigurationError
from forebay.settings import Settings, load_settings
from imaging import checks, local, pictures
from imaging.client import STAGES, Answer, ask, written
from imaging.local import Platform, PlatformEnded
from imaging.operations import Captioned, ContactSheetRequest, DescribeRequest, ThumbnailRequest, app
from imaging.photographs import PHOTOGRAPHS
from imaging.pictures import Format

WIDTH = 160
BINS = 16
COLUMNS = 3
DPI = 300

LARGEST_UPLOAD = 600_000
"""Bytes of a photograph that is sent as it is: base64 makes four of three, and a gateway takes requests of 900 kB."""

SHEET_SIDE = 800
"""Pixels on the longest side of the copies sent for the contact sheet, so that all nine fit into one request."""

AT_ONCE = 3
"""Thumbnails asked for at the same time."""

PAUSE = 0.25
"""Seconds between two rounds of thumbnails: the demo shares its cores with all that it asks."""

STAGES_FIT = 72
"""Characters a line from which on the table has the stages."""
ROOMY = 150
"""Characters a line from which on everything gets a column of its own, request ids too."""

INTERRUPTED = 130


class DemoError(Exception):
    """The demo cannot go on; its text is one sentence for a person."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request with its answer, checked.

    Attributes:
        operation: what was asked for.
        subject: the photograph, or what was wrong with the request on purpose.
        answer: what came back.
        came_back: the same in a few words; empty if it is wrong.
        wrong: what is wrong with it; empty if nothing is.
    """

    operation: str
    subject: str
    answer: Answer
    came_back: str = ""
    wrong: str = ""


def main(
    url: Annotated[str | None, typer.Option(help="The gateway. Default: FOREBAY_HTTP_PORT of this machine.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for the images. Default: .forebay/demo.")] = None,
    up: Annotated[
        bool, typer.Option("--up", help="Start 'forebay up imaging:app' first, and stop it in the end.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="With --up: stop it after the answers, not at Ctrl-C.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds until the gateway has to be there.")] = 300.0,
) -> None:
    """Send real requests for thumbnails, descriptions and a contact sheet, and check every answer."""
    console = Console()
    try:
        settings = load_settings()
        if up and url is not None:
            raise ConfigurationError("--url goes with a platform that is running already, not with --up")
        folder = output or settings.data_dir / "demo"
        folder.mkdir(parents=True, exist_ok=True)
        demo = _Demo(console, url or local_url(settings), folder, wait)
        right = asyncio.run(_until_signal(demo.with_platform(once) if up else demo.ask_and_show()))
    except (ConfigurationError, DemoError, PlatformEnded, OSError) as error:
        Console(stderr=True).print(f"[red]demo:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(2 if isinstance(error, ConfigurationError) else 1) from None
    except asyncio.CancelledError:
        raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(0 if right else 1)


def local_url(settings: Settings) -> str:
    """Where the gateway of these settings answers, seen from this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.http_host, settings.http_host)  # noqa: S104 - not bound
    return f"http://[{host}]:{settings.http_port}" if ":" in host else f"http://{host}:{settings.http_port}"


@dataclass(frozen=True, slots=True)
class Conversation:
    """Everything that was asked and answered.

    Attributes:
        shown: a row of the table each.
        further: more thumbnails, asked for until the contact sheet was there.
    """

    shown: Sequence[Exchange]
    further: Sequence[Exchange]

    @property
    def wrong(self) -> list[Exchange]:
        """The exchanges whose answer is not right."""
        return [exchange for exchange in (*self.shown, *self.further) if exchange.wrong]


class _Demo:
    def __init__(self, console: Console, url: str, folder: Path, wait: float) -> None:
        self._console = console
        self._url = url.rstrip("/")
        self._folder = folder
        self._wait = wait

    async def with_platform(self, once: bool) -> bool:
        """Start the platform, ask and show, and stop it: at once, or when told to."""
        _refuse_if_taken(self._url)
        async with local.forebay_up(self._folder / "forebay.log") as platform:
            right = await platform.alongside(self.ask_and_show(platform))
            if not once:
                self._say_where_to_look(platform)
                with contextlib.suppress(asyncio.CancelledError):
                    await platform.until_ended()
            with self._console.status("stopping the platform"):
                await platform.stop()
        return right

    async def ask_and_show(self, platform: Platform | None = None) -> bool:
        """Wait for the gateway, send everything, and show what came back; True if all of it is right."""
        # No proxy: what listens here is on this machine or named by --url.
        async with httpx.AsyncClient(base_url=self._url, timeout=90.0, trust_env=False) as client:
            await self._until_served(client, platform)
            with self._console.status("asking for thumbnails, descriptions and a contact sheet"):
                try:
                    conversation = await converse(client, self._folder)
                except httpx.HTTPError as error:
                    raise DemoError(f"{self._url} did not answer a request: {_shown(error)}{_see(platform)}") from None
        return self._show(conversation)

    async def _until_served(self, client: httpx.AsyncClient, platform: Platform | None) -> None:
        until = time.monotonic() + self._wait
        with self._console.status("") as status:
            while missing := await _not_served(client):
                if time.monotonic() > until:
                    late = f"after {self._wait:g} s {self._url} does not serve the operations"
                    raise DemoError(f"{late}: {missing}{_see(platform)}")
                what = f"the platform: {platform.doing}" if platform else f"{self._url}: {missing}"
                status.update(escape(f"waiting for {what}"))
                await asyncio.sleep(0.2)

    def _show(self, conversation: Conversation) -> bool:
        self._console.print(table(conversation.shown, width=self._console.width))
        self._console.print(passing(conversation))
        for each in conversation.wrong:
            said = f"[red]wrong:[/] {each.operation} of {escape(each.subject)}: {escape(each.wrong)}"
            self._console.print(said, soft_wrap=True)
        if not conversation.wrong:
            count = len(conversation.shown) + len(conversation.further)
            self._console.print(f"All {count} answers are right. The images are in {_shown_path(self._folder)}/")
        return not conversation.wrong

    def _say_where_to_look(self, platform: Platform) -> None:
        request = self._folder / "describe-request.json"
        self._console.print(
            f"The platform stays up at {self._url} until Ctrl-C; its log is {_shown_path(platform.log)}\n"
            "Ask it yourself:\n"
            f"curl -si {self._url}/v1/describe -H 'Content-Type: application/json' "
            f"--data-binary @{shlex.quote(str(_shown_path(request)))}",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )


async def converse(client: httpx.AsyncClient, folder: Path) -> Conversation:
    """Send every request of the demo and keep the images that come back.

    The contact sheet is asked for first and takes seconds. Everything else is asked for while it is under way: a
    description of each photograph, one after the other, then thumbnails of all, several at a time and again and again
    until the sheet is there. The table gets the first of those rounds that began and ended while the sheet was being
    made.

    Raises:
        httpx.HTTPError: a request got no answer at all.
        OSError: the folder cannot be written to.
    """
    originals = {photograph.name: _upload(photograph.read()) for photograph in PHOTOGRAPHS}
    copies = {name: _copy(data) for name, data in originals.items()}
    captions = [Captioned(copies[each.name], f"{each.name}: {each.credit}") for each in PHOTOGRAPHS]
    (folder / "describe-request.json").write_bytes(written(DescribeRequest(copies["coffee"], bins=4)))

    sheet_request = written(ContactSheetRequest(captions, COLUMNS, DPI))
    sheet_answer = asyncio.ensure_future(ask(client, "contact_sheet", sheet_request))
    try:
        described = await _descriptions(client, originals)
        rounds = [await _thumbnails(client, originals, folder / "thumbnails")]
        while not sheet_answer.done():
            await asyncio.sleep(PAUSE)
            rounds.append(await _thumbnails(client, originals, folder / "thumbnails"))
        refused = await _refusals(client, copies["coffee"])
        keep = folder / "contact-sheet.jpg"
        sheet = _checked("contact_sheet", "all nine", await sheet_answer, _sheet_of([*copies.values()], keep))
    finally:
        sheet_answer.cancel()
        await asyncio.gather(sheet_answer, return_exceptions=True)

    meanwhile = (each for each in rounds if all(_passed(exchange.answer, sheet.answer) for exchange in each))
    shown = next(meanwhile, rounds[0])
    further = [exchange for each in rounds if each is not shown for exchange in each]
    return Conversation([*described, *shown, *refused, sheet], further)


async def _descriptions(client: httpx.AsyncClient, photographs: Mapping[str, bytes]) -> list[Exchange]:
    exchanges = []
    for name, data in photographs.items():
        answer = await ask(client, "describe", written(DescribeRequest(data, BINS)))
        exchanges.append(_checked("describe", name, answer, _description_of(data)))
    return exchanges


async def _thumbnails(client: httpx.AsyncClient, photographs: Mapping[str, bytes], folder: Path) -> list[Exchange]:
    requests = [written(ThumbnailRequest(data, WIDTH)) for data in photographs.values()]
    places = asyncio.Semaphore(AT_ONCE)

    async def in_turn(request: bytes) -> Answer:
        async with places:
            return await ask(client, "thumbnail", request)

    answers = await asyncio.gather(*(in_turn(request) for request in requests))
    return [
        _checked("thumbnail", name, answer, _thumbnail_of(photographs[name], folder / f"{name}.png"))
        for name, answer in zip(photographs, answers, strict=True)
    ]


async def _refusals(client: httpx.AsyncClient, photograph: bytes) -> list[Exchange]:
    no_number = written({"image": photograph, "width": "wide"})
    too_wide = written(ThumbnailRequest(photograph, width=100_000))
    exchanges = []
    for subject, request, mention in (('width "wide"', no_number, "width"), ("width 100000", too_wide, "100000")):
        answer = await ask(client, "thumbnail", request)
        exchanges.append(_checked("thumbnail", subject, answer, _refusal(mention), refused=True))
    return exchanges


def table(exchanges: Sequence[Exchange], *, width: int) -> Table:
    """Tabulate what came back, a row for each request.

    Args:
        exchanges: the rows.
        width: of the terminal, in columns: from `ROOMY` on there is a column for everything, request ids too; below
            `STAGES_FIT` the stages are left out, which would cut off what they belong to.
    """
    roomy = width >= ROOMY
    stages = STAGES if width >= STAGES_FIT else ()
    drawn = Table(
        title="Answers, in milliseconds",
        title_justify="left",
        box=HEAVY_HEAD if roomy else SIMPLE_HEAD,
        show_edge=roomy,
        padding=(0, 1) if roomy else (0, 1, 0, 0),
    )
    for column in ("operation", "photograph", "status", "what came back") if roomy else ("request and answer",):
        drawn.add_column(column, ratio=1 if column == "what came back" else None)
    for column in ("wall", *stages):
        drawn.add_column(column, justify="right", no_wrap=True)
    if roomy:
        drawn.add_column("Forebay-Request-Id", no_wrap=True)
    for each in exchanges:
        status = f"[{'red' if each.wrong else 'green'}]{each.answer.status}[/]"
        came_back = "[red]wrong, see below[/]" if each.wrong else escape(each.came_back)
        asked = [each.operation, escape(each.subject)]
        drawn.add_row(
            *([*asked, status, came_back] if roomy else [f"{status} {': '.join(asked)}\n  [dim]{came_back}[/]"]),
            _milliseconds(each.answer.wall_ms),
            *(_milliseconds(each.answer.stages.get(stage)) for stage in stages),
            *([f"[dim]{escape(each.answer.request_id)}[/]"] if roomy else []),
        )
    return drawn


def passing(conversation: Conversation) -> str:
    """Say how short work fared beside long: what came and went while the contact sheet's handler ran."""
    sheet = next(each.answer for each in conversation.shown if each.operation == "contact_sheet")
    short = [each.answer for each in (*conversation.shown, *conversation.further) if each.operation == "thumbnail"]
    passed = [each.wall_ms for each in short if each.status == 200 and _passed(each, sheet)]
    if not passed:
        return "No thumbnail came and went while the contact sheet was being made."
    return (
        f"{len(passed)} thumbnails came and went while the contact sheet was being made "
        f"({_milliseconds(sheet.stages.get('run'))} ms): half of them within {_milliseconds(median(passed))} ms, "
        f"the slowest in {_milliseconds(max(passed))} ms."
    )


def _passed(short: Answer, long: Answer) -> bool:
    return short.sent_at >= long.running_from and short.received_at <= long.received_at


def _upload(photograph: bytes) -> bytes:
    """Take the photograph as it is, or as a JPEG where it is too large to send."""
    if len(photograph) <= LARGEST_UPLOAD:
        return photograph
    return pictures.encode(pictures.decode(photograph), Format.JPEG, quality=92)


def _copy(photograph: bytes) -> bytes:
    picture = pictures.decode(photograph)
    return pictures.encode(pictures.reduce(picture, SHEET_SIDE, SHEET_SIDE), Format.JPEG, quality=80)


Check = Callable[[Answer], str]


def _thumbnail_of(photograph: bytes, keep: Path) -> Check:
    def check(answer: Answer) -> str:
        came_back, thumbnail = checks.thumbnail(answer, photograph, WIDTH)
        keep.parent.mkdir(exist_ok=True)
        keep.write_bytes(thumbnail.image)
        return came_back

    return check


def _description_of(photograph: bytes) -> Check:
    return lambda answer: checks.description(answer, photograph, BINS)[0]


def _sheet_of(copies: Sequence[bytes], keep: Path) -> Check:
    def check(answer: Answer) -> str:
        came_back, sheet = checks.contact_sheet(answer, copies, COLUMNS, DPI)
        keep.write_bytes(sheet.image)
        return came_back

    return check


def _refusal(mention: str) -> Check:
    return lambda answer: checks.refused(answer, 422, mention)


def _checked(operation: str, subject: str, answer: Answer, check: Check, *, refused: bool = False) -> Exchange:
    try:
        came_back = check(answer)
        if not refused:
            checks.stages(answer)
    except checks.WrongAnswer as wrong:
        return Exchange(operation, subject, answer, wrong=str(wrong))
    return Exchange(operation, subject, answer, came_back)


async def _not_served(client: httpx.AsyncClient) -> str:
    """Which operation is not there yet, and what was seen instead; empty if all are."""
    for operation in app.operations:
        try:
            # An operation that exists finds that an empty request lacks its fields; one that does not is not found.
            answer = await ask(client, operation, b"{}")
        except httpx.HTTPError as error:
            return _shown(error)
        if answer.status != httpx.codes.UNPROCESSABLE_ENTITY:
            return f"{operation} answers {answer.status}" + (f", {answer.problem}" if answer.problem else "")
    return ""


def _refuse_if_taken(url: str) -> None:
    """Make sure that what answers there later is the platform that is started now."""
    at = httpx.URL(url)
    with contextlib.suppress(OSError), socket.create_connection((at.host, at.port or 80), timeout=1.0):
        raise DemoError(
            f"something answers at {url} already: ask it without --up, or set FOREBAY_HTTP_PORT, FOREBAY_ADMIN_PORT, "
            "FOREBAY_BROKER_PORT and FOREBAY_DATA_DIR to run a second platform beside it"
        )


async def _until_signal(work: Awaitable[bool]) -> bool:
    """Do the work; SIGINT, SIGTERM and SIGHUP cancel it, a second time as well."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    return await task


def _milliseconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 or math.isclose(value, 0) else f"{value:.1f}"


def _see(platform: Platform | None) -> str:
    return f"; see {_shown_path(platform.log)}" if platform else ""


def _shown(error: Exception) -> str:
    return str(error) or type(error).__name__


def _shown_path(path: Path) -> Path:
    """Shorten the path if it lies below the current folder."""
    return path.resolve().relative_to(Path.cwd()) if path.resolve().is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    typer.run(main)
