"""Is an answer right? Every check looks at an answer from outside and takes no number in it on trust.

Each returns what came back, in a few words and as the object that it is, or raises `WrongAnswer`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TypeVar

import msgspec
import numpy as np
from PIL import Image

from imaging import sheet
from imaging.client import STAGES, Answer
from imaging.operations import ContactSheet, Description, Thumbnail

Result = TypeVar("Result", Thumbnail, Description, ContactSheet)

ALIKE = 12.0
"""The largest average difference, of 255, between a picture that came back and its photograph, both seen from afar."""

UNACCOUNTED_MS = 250.0
UNACCOUNTED_SHARE = 0.25
"""The share of the wall time, beside `UNACCOUNTED_MS`, that may lie outside the stages. Outside is the client's own
work: it shares this machine with the whole platform and sends up to a megabyte, so its clock is no fine instrument."""


class WrongAnswer(Exception):
    """An answer that is not what was asked for; its text says what is wrong."""


def thumbnail(answer: Answer, photograph: bytes, width: int) -> tuple[str, Thumbnail]:
    """Check that it is a thumbnail of this photograph, of this width."""
    said = _completed(answer, Thumbnail)
    small = _unpacked(said.image, "the thumbnail")
    original = Image.open(io.BytesIO(photograph))
    height = round(original.height * width / original.width)
    if small.width != width or abs(small.height - height) > 1:
        raise WrongAnswer(f"the thumbnail has {_size(small)} pixels, not {width}x{height}")
    if (said.width, said.height) != small.size or said.format.value != small.format:
        raise WrongAnswer(
            f"it says {said.width}x{said.height} {said.format.value}, but is {_size(small)} {small.format}"
        )
    _alike(small, original, "the thumbnail")
    return f"{_size(small)} {small.format}", said


def description(answer: Answer, photograph: bytes, bins: int) -> tuple[str, Description]:
    """Check that it describes this photograph."""
    said = _completed(answer, Description)
    original = Image.open(io.BytesIO(photograph))
    if (said.format, said.mode, said.width, said.height) != (original.format, original.mode, *original.size):
        raise WrongAnswer(
            f"it says {said.width}x{said.height} {said.mode} {said.format}, "
            f"but the photograph is {_size(original)} {original.mode} {original.format}"
        )
    bands = original.split()
    if len(said.channels) != len(bands):
        raise WrongAnswer(f"it has {len(said.channels)} channels, but the photograph has {len(bands)}")
    pixels = original.width * original.height
    for channel, band in zip(said.channels, bands, strict=True):
        if sum(channel.histogram) != pixels:
            counted = sum(channel.histogram)
            raise WrongAnswer(f"the {channel.name} histogram sums to {counted}, but there are {pixels} pixels")
        expected = [0] * bins
        for value, count in enumerate(band.histogram()):
            expected[value * bins // 256] += count
        if channel.histogram != expected:
            raise WrongAnswer(f"the {channel.name} histogram is not that of the photograph")
    if not said.sharpness > 0:
        raise WrongAnswer(f"no photograph has a sharpness of {said.sharpness}")
    return f"{_size(original)} {said.mode}, sharpness {said.sharpness:.0f}", said


def contact_sheet(answer: Answer, photographs: Sequence[bytes], columns: int, dpi: int) -> tuple[str, ContactSheet]:
    """Check that it is a sheet of the right size, with each photograph in its place."""
    said = _completed(answer, ContactSheet)
    drawn = _unpacked(said.image, "the sheet")
    plan = sheet.layout(len(photographs), columns, dpi)
    if drawn.size != plan.size:
        raise WrongAnswer(f"the sheet has {_size(drawn)} pixels, not {plan.size[0]}x{plan.size[1]}")
    if (said.width, said.height) != drawn.size:
        raise WrongAnswer(f"it says {said.width}x{said.height}, but the sheet has {_size(drawn)} pixels")
    for number, (photograph, frame) in enumerate(zip(photographs, plan.frames, strict=True), 1):
        original = Image.open(io.BytesIO(photograph))
        _alike(drawn.crop(sheet.placed(original.size, frame)), original, f"photograph {number} on the sheet")
    return f"{_size(drawn)} {drawn.format}, {len(photographs)} photographs", said


def refused(answer: Answer, status: int, mention: str) -> str:
    """Check that it was refused with this status, and that the problem names what the caller has to mend."""
    if answer.status != status:
        raise WrongAnswer(f"it should have been refused with {status}, not answered with {answer.status}")
    if answer.content_type != "application/problem+json" or not answer.problem:
        raise WrongAnswer(f"the refusal is no application/problem+json but {answer.content_type or 'empty'}")
    if mention not in answer.problem:
        raise WrongAnswer(f"the refusal does not mention '{mention}': {answer.problem}")
    return answer.problem


def stages(answer: Answer) -> None:
    """Check that the stages add up to the time that the client waited."""
    missing = [stage for stage in STAGES if stage not in answer.stages]
    if missing:
        raise WrongAnswer(f"Server-Timing lacks {', '.join(missing)}")
    negative = [stage for stage in STAGES if answer.stages[stage] < 0]
    if negative:
        raise WrongAnswer(f"Server-Timing has less than 0 ms for {', '.join(negative)}")
    total = sum(answer.stages[stage] for stage in STAGES)
    if total > answer.wall_ms + 1:
        raise WrongAnswer(f"the stages sum to {total:.1f} ms, more than the {answer.wall_ms:.1f} ms that it took")
    if answer.wall_ms - total > UNACCOUNTED_MS + UNACCOUNTED_SHARE * answer.wall_ms:
        raise WrongAnswer(f"the stages account for only {total:.1f} of {answer.wall_ms:.1f} ms")


def _completed(answer: Answer, result: type[Result]) -> Result:
    if answer.status != 200:
        raise WrongAnswer(f"status {answer.status} in place of 200: {answer.problem or 'no reason given'}")
    if not answer.request_id:
        raise WrongAnswer("it has no Forebay-Request-Id")
    try:
        return msgspec.json.decode(answer.body, type=result)
    except msgspec.DecodeError as error:
        raise WrongAnswer(f"it is no {result.__name__}: {error}") from None


def _unpacked(data: bytes, what: str) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(data))
        picture.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise WrongAnswer(f"{what} does not decode: {error}") from None
    return picture


def _alike(picture: Image.Image, original: Image.Image, what: str) -> None:
    seen, meant = (
        np.asarray(each.convert("RGB").resize((32, 32), Image.Resampling.BOX), np.float64)
        for each in (picture, original)
    )
    difference = float(np.abs(seen - meant).mean())
    if difference > ALIKE:
        raise WrongAnswer(f"{what} does not look like its photograph: {difference:.0f} of 255 apart on average")


def _size(picture: Image.Image) -> str:
    return f"{picture.width}x{picture.height}"
